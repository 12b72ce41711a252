"""What is concluded beside the held-out pairs, against worked examples."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.errors import InvalidInput
from services.evaluation import beside
from services.evaluation.beside import Prices
from services.evaluation.findings import Verdict
from services.evaluation.models import JudgeScore, Summary, TaskScore, TextScore
from services.evaluation.overlap import bleu, rouge_l
from services.evaluation.several import holm, minimum_detectable_mean
from services.evaluation.winrate import length_controlled
from tests.services.evaluation.measured import KEPT
from tests.services.evaluation.world import answer, scores, summary


def test_holm_on_a_published_example() -> None:
    # Wright 1992, Biometrics 48:1005, table 1.
    raw = [0.00000, 0.00111, 0.00191, 0.01220, 0.04550]
    assert holm(raw) == pytest.approx([0.0, 0.00444, 0.00573, 0.0244, 0.0455])
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm([1.2])


@given(some.lists(some.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_raw_value_and_bonferroni(raw: list[float]) -> None:
    adjusted = holm(raw)
    for before, after in zip(raw, adjusted, strict=True):
        assert before <= after <= min(1.0, len(raw) * before) + 1e-12 or after == max(adjusted)
        assert before <= after <= 1.0
    order = sorted(range(len(raw)), key=lambda i: raw[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)
    assert adjusted[order[0]] == pytest.approx(min(1.0, len(raw) * raw[order[0]]))


def test_the_detectable_mean_is_the_textbooks() -> None:
    # Two-sided 5 %, power 80 %: (1.960 + 0.8416) sd / sqrt(n).
    assert minimum_detectable_mean(1.0, 100) == pytest.approx(0.28016, abs=1e-4)
    assert minimum_detectable_mean(1.0, 1) is None


def test_perplexity_counts_tokens_and_its_change_counts_texts() -> None:
    found = beside.texts([TextScore("a", "en", 2, 2.0, 4.0), TextScore("b", "tr", 8, 8.0, 8.0)])
    assert found is not None
    assert (found.n_texts, found.n_tokens) == (2, 10)
    assert found.base_perplexity == pytest.approx(math.e)
    assert found.adapter_perplexity == pytest.approx(math.exp(1.2))
    assert found.change.mean == pytest.approx(0.5)
    assert beside.texts([]) is None
    with pytest.raises(InvalidInput, match="neutral text a: expected finite"):
        beside.texts([TextScore("a", "en", 2, math.nan, 1.0)])


def test_rouge_on_lins_own_example_and_in_turkish() -> None:
    # Lin 2004, section 3.1: LCS of 3 of 4 words.
    assert rouge_l("police killed the gunman", "police kill the gunman") == pytest.approx(0.75)
    assert rouge_l("police killed the gunman", "the gunman kill police") == pytest.approx(0.5)
    # rouge-score's own splitter would take "şehir" for "ehir", and find nothing wrong here.
    assert rouge_l("şehir", "ehir") == 0.0
    assert rouge_l("Başkent Ankara'dır.", "BAŞKENT ankara'dır") == 1.0


def test_bleu_of_equal_and_of_foreign_texts() -> None:
    assert bleu("Ankara.", "Ankara.") == pytest.approx(1.0)
    assert bleu("the cat is on the mat", "dogs run") == 0.0
    assert bleu("a b c", "") == 0.0


def test_answers_are_held_against_their_references_only_where_there_is_one() -> None:
    plain = answer(0)
    told = replace(answer(1, "It is Istanbul.", "It is Ankara."), reference="It is Ankara.")
    assert beside.overlap([plain]) is None
    found = beside.overlap([plain, told, replace(answer(2), reference="  ")])
    assert found is not None
    assert found.n == 1
    assert found.rouge_l.adapter == 1.0
    assert found.rouge_l.base == pytest.approx(2 / 3)
    assert found.rouge_l.difference.mean == pytest.approx(1 / 3)


def test_tasks_are_judged_together() -> None:
    def task(name: str, gained: int, lost: int, same: int) -> list[TaskScore]:
        kinds = [(False, True)] * gained + [(True, False)] * lost + [(True, True)] * same
        return [TaskScore(name, n, *kind) for n, kind in enumerate(kinds)]

    found = beside.tasks([*task("b", 0, 7, 33), *task("a", 0, 0, 200), *task("c", 9, 0, 31)])
    assert [one.task for one in found] == ["a", "b", "c"]
    assert [one.verdict for one in found] == [Verdict.NON_INFERIOR, Verdict.WORSE, Verdict.BETTER]
    assert found[1].p_value == pytest.approx(2 * 0.5**7)
    assert found[1].p_adjusted == pytest.approx(2 * 2 * 0.5**7)
    assert (found[1].base, found[1].adapter) == (1.0, 33 / 40)
    # Six losses would do alone, but not as one of three tasks.
    alone = beside.tasks(task("b", 0, 6, 34))
    together = beside.tasks([*task("b", 0, 6, 34), *task("a", 0, 0, 40), *task("c", 0, 0, 40)])
    assert alone[0].verdict is Verdict.WORSE
    assert together[1].verdict is Verdict.INCONCLUSIVE
    assert beside.task_loss_low([]) is None


def verdict(position: int, first: str, preferred: str | None, failure: str = "") -> JudgeScore:
    return JudgeScore(position, first, preferred, failure, "", "judge-1", 10, 5)


def both(position: int, forward: str | None, backward: str | None) -> list[JudgeScore]:
    return [verdict(position, "base", forward), verdict(position, "adapter", backward)]


def test_a_verdict_that_turns_with_the_order_is_a_tie() -> None:
    answers = [answer(n) for n in range(5)]
    found = beside.judged(
        [
            *both(0, "adapter", "adapter"),
            *both(1, "base", "base"),
            *both(2, "base", "adapter"),
            *both(3, None, None),
            verdict(4, "base", None, "refused"),
            verdict(4, "adapter", "adapter"),
        ],
        answers,
    )
    assert found is not None
    assert (found.n, found.wins, found.losses, found.ties) == (4, 1, 1, 2)
    assert (found.inconsistent, found.failed, found.judge) == (1, 1, "judge-1")
    assert found.win_rate.mean == 0.5
    assert beside.judged([], answers) is None
    assert beside.judged([verdict(0, "base", "adapter")], answers) is None


def test_a_judge_that_only_likes_length_is_found_out() -> None:
    lengths = [(-1) ** n * (20 + 7 * (n % 9)) + 30 for n in range(200)]
    wins = [float(d > 0) for d in lengths]
    found = length_controlled(wins, [float(d) for d in lengths], seed=1, resamples=400)
    assert sum(wins) / len(wins) > 0.5
    assert found.length_effect > 2
    assert found.low <= 0.5 <= found.high


def test_without_a_difference_of_lengths_the_rate_is_the_plain_one() -> None:
    wins = [1.0] * 30 + [0.5] * 10 + [0.0] * 20
    found = length_controlled(wins, [0.0] * 60, seed=1, resamples=500)
    assert found.rate == pytest.approx(35 / 60, abs=2e-3)
    assert found.length_effect == 0.0
    assert found.low < found.rate < found.high
    assert found == length_controlled(wins, [0.0] * 60, seed=1, resamples=500)


@pytest.mark.parametrize(("win", "side"), [(1.0, 1), (0.0, -1)])
def test_winning_everything_is_no_infinity(win: float, side: int) -> None:
    found = length_controlled([win] * 25, [float(n - 12) for n in range(25)], seed=1, resamples=50)
    assert (found.rate - 0.5) * side > 0.45
    assert 0 <= found.low <= found.high <= 1


@given(
    some.lists(
        some.tuples(some.sampled_from([0.0, 0.5, 1.0]), some.integers(-500, 500)),
        min_size=2, max_size=30,
    )
)  # fmt: skip
def test_swapping_the_models_mirrors_the_controlled_rate(
    found: list[tuple[float, int]],
) -> None:
    wins, lengths = [w for w, _d in found], [float(d) for _w, d in found]
    one = length_controlled(wins, lengths, seed=3, resamples=2)
    other = length_controlled([1 - w for w in wins], [-d for d in lengths], seed=3, resamples=2)
    assert one.rate == pytest.approx(1 - other.rate, abs=1e-6)


def test_speed_and_cost_come_from_timed_answers() -> None:
    timed = replace(
        answer(0), base_seconds=2.0, adapter_seconds=1.0, prompt_tokens=10, base_tokens=20,
        adapter_tokens=30,
    )  # fmt: skip
    prices = Prices("7", lambda p, c: p + 2 * c, lambda p, c: 2 * p + 4 * c)
    found = beside.speed([timed, answer(1)], prices)
    assert found is not None
    assert (found.base_tokens_per_s, found.adapter_tokens_per_s) == (10.0, 30.0)
    assert (found.base_cost_micro, found.adapter_cost_micro) == (50.0, 140.0)
    assert (found.tokens.mean, found.price_version) == (10.0, "7")
    assert beside.speed([answer(1)], prices) is None


def test_a_whole_summary_is_read_back_as_it_was_stored_and_an_old_one_too() -> None:
    judged = [one for n in range(2) for one in both(n, "adapter", "adapter")]
    found = summary(
        scores(gained=25), [replace(answer(0), reference="Ankara."), answer(1)],
        replace(KEPT, judged=judged),
    )  # fmt: skip
    assert Summary.from_json(found.as_json()) == found
    assert {"win_rate", "neutral_nll_change", "adapter_rouge_l"} <= found.metrics.keys()
    new = ("texts", "overlap", "judged", "tasks", "task_loss_low", "speed")
    old = {name: value for name, value in found.as_json().items() if name not in new}
    read = Summary.from_json(old)
    assert (read.texts, read.tasks, read.judged, read.verdict) == (None, (), None, found.verdict)
