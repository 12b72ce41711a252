import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import InvalidInput
from services.evaluation.gate import gate
from services.evaluation.models import Evaluation, Range, Summary, Verdict
from services.evaluation.summary import LeftOut, decide, dpo_loss, summarise
from services.jobs.models import Job, JobStatus
from tests.services.evaluation.world import answer, score, scores, summary

logp = st.floats(-200, 0)


def evaluation(found: Summary | None) -> Evaluation:
    from services.db import utcnow

    job = Job(
        id="j", tenant_id="t", kind="evaluation.score", queue="training", payload={},
        status=JobStatus.RUNNING, progress=0.0, message="", error=None, attempt=1, worker=None,
        heartbeat_at=None, created_at=utcnow(), started_at=None, ended_at=None, created_by="Elif",
    )  # fmt: skip
    return Evaluation(
        id="e", tenant_id="t", adapter="a-0123456789ab", adapter_digest="", base_model="b",
        base_digest="", dataset_id="d", dataset_sha256="", prompts=None, beta=0.1, job=job,
        summary=found, created_at=utcnow(), created_by="Elif",
    )  # fmt: skip


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.tuples(logp, logp), min_size=1, max_size=30))
def test_a_policy_equal_to_its_reference_has_margin_zero_and_loss_log_two(
    pairs: list[tuple[float, float]],
) -> None:
    found = summary([score(number, pair, pair) for number, pair in enumerate(pairs)])
    assert found.reward_margin.mean == 0
    assert found.dpo_loss == pytest.approx(math.log(2))
    assert (found.gained, found.lost, found.p_value) == (0, 0, 1.0)
    assert found.base_accuracy == found.adapter_accuracy
    assert found.verdict is Verdict.INCONCLUSIVE


@settings(deadline=None)  # a busy machine is no failure
@given(st.floats(-1e6, 1e6))
def test_the_loss_is_minus_log_sigmoid_and_never_overflows(margin: float) -> None:
    assert dpo_loss(margin) >= 0
    assert dpo_loss(margin) - dpo_loss(-margin) == pytest.approx(-margin, abs=1e-6)
    if abs(margin) < 30:
        assert dpo_loss(margin) == pytest.approx(-math.log(1 / (1 + math.exp(-margin))))


def test_the_numbers_are_those_computed_by_hand() -> None:
    # Pair 0: base margin -1, adapter margin 3; pair 1: base 2, adapter 1.
    found = summarise(
        [
            score(0, (-5.0, -4.0), (-3.0, -6.0), tokens=(5, 2)),
            score(1, (-4.0, -6.0), (-6.0, -7.0), tokens=(4, 3)),
        ],
        [],
        beta=0.5,
        left_out=LeftOut(seen=3, too_long=1),
        seconds=2.0,
    )
    assert (found.base_accuracy, found.adapter_accuracy) == (0.5, 1.0)
    assert (found.gained, found.lost) == (1, 0)
    assert (found.base_margin, found.adapter_margin) == (0.5, 2.0)
    assert found.reward_margin.mean == pytest.approx((0.5 * 4 + 0.5 * -1) / 2)
    assert found.reward_accuracy == 0.5
    # Per token: base -1.0 against -2.0 and -1.0 against -2.0.
    assert found.base_accuracy_per_token == 1.0
    assert found.chosen_shift.mean == pytest.approx((2 / 5 - 2 / 4) / 2)
    assert found.rejected_shift.mean == pytest.approx((-2 / 2 - 1 / 3) / 2)
    expected = (math.log1p(math.exp(-2.0)) + math.log1p(math.exp(0.5))) / 2
    assert found.dpo_loss == pytest.approx(expected)
    assert (found.n_seen, found.n_too_long) == (3, 1)


def test_small_samples_are_inconclusive_and_say_so() -> None:
    found = summary(scores(gained=8))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.p_value < 0.01
    assert "8 are fewer than the 20 that a verdict needs" in found.sentence


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ({"gained": 12, "right": 10, "wrong": 3}, Verdict.BETTER),
        ({"lost": 12, "right": 10, "wrong": 3}, Verdict.WORSE),
        ({"gained": 3, "lost": 2, "right": 20}, Verdict.INCONCLUSIVE),
        ({"gained": 1, "lost": 1, "right": 300}, Verdict.NON_INFERIOR),
        ({"right": 50}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_verdict_follows_test_and_interval(counts: dict[str, int], verdict: Verdict) -> None:
    found = summary(scores(**counts))
    assert found.verdict is verdict
    assert found.accuracy_low <= found.accuracy_difference <= found.accuracy_high


def test_an_inconclusive_sentence_names_interval_n_and_detectable_difference() -> None:
    found = summary(scores(gained=3, lost=2, right=20))
    assert found.minimum_detectable is not None
    assert "on 25 held-out prompts" in found.sentence
    assert f"differences from {found.minimum_detectable:.1%} on" in found.sentence


def test_test_and_interval_must_agree_on_better() -> None:
    assert decide(30, 0.01, 0.2, 0.06) is Verdict.NON_INFERIOR
    assert decide(30, -0.01, 0.2, 0.04) is Verdict.NON_INFERIOR
    assert decide(30, 0.01, 0.2, 0.04) is Verdict.BETTER


def test_many_pairs_of_one_prompt_are_one_witness() -> None:
    same = [score(number, prompt="one") for number in range(50)]
    found = summary(same)
    assert (found.n_pairs, found.n_prompts, found.gained) == (50, 1, 1)
    assert found.verdict is Verdict.INCONCLUSIVE


def test_a_prompt_counts_with_the_mean_of_its_pairs() -> None:
    found = summary([*scores(gained=1), replace(scores(right=1)[0], pair_id="x"), score(7)])
    assert found.n_prompts == 2
    assert found.base_accuracy == pytest.approx(0.25)
    assert found.adapter_accuracy == 1.0
    assert found.accuracy_low <= found.accuracy_difference <= found.accuracy_high


def test_the_order_of_the_pairs_changes_nothing() -> None:
    some = scores(gained=40, lost=30, right=60)
    assert summary(some) == summary(some[::-1])


def test_no_pair_and_no_number_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"found none \(4 seen in training, 2 too long\)"):
        summarise([], [], beta=0.1, left_out=LeftOut(4, 2), seconds=0)
    with pytest.raises(InvalidInput, match="pair pair-0000: expected finite"):
        summary([score(0, (float("nan"), -1.0))])


def test_a_summary_survives_storage() -> None:
    found = summary(scores(gained=12, right=10), [answer(0)])
    assert Summary.from_json(found.as_json()) == found
    assert found.metrics["adapter_accuracy"] == 1.0
    assert found.metrics["reward_margin"] == found.reward_margin.mean
    assert all(isinstance(value, float) for value in found.metrics.values())


def test_the_gate_opens_for_a_better_adapter_only() -> None:
    assert gate(evaluation(summary(scores(gained=12, right=10)))).passed
    for counts, words in (
        ({"lost": 12, "right": 10}, "is worse than its base model"),
        ({"gained": 1, "lost": 1, "right": 300}, "no worse than its base model, but not shown"),
        ({"gained": 3, "right": 20}, "do not show that the adapter is better"),
    ):
        found = gate(evaluation(summary(scores(**counts))))
        assert not found.passed
        assert words in found.reasons[0]
        assert found.reasons[0].endswith(".")


def test_the_gate_is_shut_for_what_was_never_or_not_yet_evaluated() -> None:
    assert gate(None).reasons == ("The adapter was never evaluated.",)
    assert gate(evaluation(None)).reasons == ("The evaluation of the adapter is running.",)


def test_the_gate_sees_answers_that_repeat_themselves() -> None:
    answers = [answer(0), answer(1, adapter="Ankara Ankara Ankara Ankara Ankara")]
    found = gate(evaluation(summary(scores(gained=12, right=10), answers)))
    assert found.reasons == ("The adapter repeats itself in 1 of 2 answers, its base model in 0.",)
    both = [answer(0, base="no no no no no no", adapter="no no no no no no")]
    assert gate(evaluation(summary(scores(gained=12, right=10), both))).passed


def test_the_gate_sees_good_answers_that_became_unlikely() -> None:
    good = summary(scores(gained=12, right=10))
    far = replace(good, chosen_shift=Range(-0.4, -0.5, -0.3, 0.001, "t"))
    assert "became less likely" in gate(evaluation(far)).reasons[0]
    unsure = replace(good, chosen_shift=Range(-0.4, -0.9, 0.1, 0.3, "t"))
    assert gate(evaluation(unsure)).passed
