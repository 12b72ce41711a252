from __future__ import annotations

import pytest

from services.errors import InvalidInput
from services.preferences.evidence import AiVerdict
from services.preferences.gates.models import (
    GATES,
    RANK,
    Action,
    Agreement,
    Candidate,
    Rules,
    rules_from,
)
from services.preferences.gates.texts import findings
from tests.services.preferences.gates.candidates import QUESTION, candidate


def gates(one: Candidate, verdict: AiVerdict | None = None) -> dict[str, str]:
    return {finding.gate: finding.reason for finding in findings(one, verdict)}


def verdict(preferred: str | None, **facts: object) -> AiVerdict:
    known = {"strength": 2, "margin": 4.0, "is_consistent": True, "is_stale": False, "judge": "j"}
    return AiVerdict(preferred, **{**known, **facts})  # type: ignore[arg-type]


def test_a_sound_pair_has_no_finding() -> None:
    assert gates(candidate(), verdict("better")) == {}


@pytest.mark.parametrize(
    "turns",
    [
        [("user", "Hi"), ("user", "Hi?")],
        [("assistant", "Hi"), ("user", "Hi?")],
        [("user", "Hi"), ("assistant", "Hello.")],
        [("system", "Be kind.")],
        [("user", " ")],
    ],
)
def test_what_is_no_dialogue_is_dropped(turns: list[tuple[str, str]]) -> None:
    assert "schema" in gates(candidate(turns=turns))


def test_a_dialogue_may_begin_with_a_system_turn() -> None:
    turns = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Yes?"), ("user", QUESTION)]
    assert gates(candidate(turns=turns)) == {}


def test_identical_answers_are_told_from_nearly_identical_ones() -> None:
    assert gates(candidate("The Fırat.", " The Fırat. \n")) == {"identical": "identical responses"}
    decomposed = "Cafe\u0301 au lait, please."
    assert "identical" in gates(candidate(decomposed, "Café au lait, please."))
    assert "near_identical" in gates(candidate("The Fırat.", "The Fırat!"))


def test_an_edit_after_the_decision_is_stale() -> None:
    assert gates(candidate(is_confirmed=False)) == {"stale": "edited after the decision"}
    assert "stale" in gates(candidate(is_stale=True, by_person=False))
    assert gates(candidate(is_stale=True, by_person=True)) == {}


def test_what_only_an_ai_decided_must_be_clear() -> None:
    undecided = verdict(None, strength=0, margin=0.2)
    torn = verdict(None, strength=0, is_consistent=False)
    close = verdict("better", strength=1, margin=0.7)
    for said in (undecided, torn, close):
        assert "undecided" in gates(candidate(by_person=False), said)
        assert "undecided" not in gates(candidate(by_person=True), said)
    assert gates(candidate(by_person=False), verdict("better")) == {}


def test_an_ai_that_prefers_the_other_answer_is_told() -> None:
    assert gates(candidate(), verdict("worse")) == {
        "score_conflict": "the AI prefers the rejected answer"
    }
    assert gates(candidate(), verdict("worse", is_stale=True)) == {}


def test_texts_are_looked_through_on_the_side_that_matters() -> None:
    refusal = "I'm sorry, but I can't help with that."
    assert "refusal" in gates(candidate(chosen=refusal))
    assert "refusal" not in gates(candidate(rejected=refusal))
    assert "refusal" not in gates(candidate(refusal, "I cannot help with it, sorry about that."))
    assert gates(candidate(rejected="Long.<|im_end|>"))["template_tokens"] == "rejected"
    assert "error_text" not in gates(candidate(rejected="Internal server error"))
    assert "error_text" in gates(candidate(chosen="Internal server error"))
    assert gates(candidate(chosen="Cafe\u0301.")) == {"not_composed": "chosen"}


def test_no_finding_repeats_the_text() -> None:
    found = gates(candidate(chosen="Write to ada.lovelace@analytical.org or +90 532 123 45 67."))
    assert "personal_data" in found
    assert "ada" not in str(found)
    assert "532" not in str(found)


def test_every_gate_can_be_set_and_read_back() -> None:
    actions = {gate.name: Action.OFF for gate in GATES if not gate.is_fixed}
    rules = Rules(actions, 512, 3, Agreement(0.71, 0.6, 0.8, 40))
    assert rules_from(rules.as_json()) == rules
    assert rules_from(Rules().as_json()) == Rules()
    assert [RANK[gate.name] for gate in GATES] == list(range(len(GATES)))
    assert all(gate.name in rules.actions for gate in GATES if not gate.is_fixed)


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ({"nonsense": Action.OFF}, "found 'nonsense'"),
        ({"evaluation_set": Action.OFF}, "it always drops"),
        ({"length_bias": Action.DROP}, "expected warn or off"),
    ],
)
def test_what_a_gate_cannot_do_is_refused(actions: dict[str, Action], expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        Rules(actions)


@pytest.mark.parametrize("numbers", [{"max_length": 3}, {"pairs_a_prompt": 0}])
def test_numbers_out_of_range_are_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="found"):
        Rules(**numbers)  # type: ignore[arg-type]
