"""What a run will cost, before anything is paid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from services.metering.models import Price
from services.rlaif.asking import FIXED_BYTES, OVERHEAD_TOKENS
from services.rlaif.models import Estimate, JudgePrice, Spec

BYTES_PER_TOKEN = 3.2
"""Of English and Turkish text together; a guess that gives way to what was measured."""
VERDICT_TOKENS = 320
"""A reason and two numbers for each of five criteria; likewise a guess."""
ANSWER_SHARE = 0.6
"""Of the longest candidate, what the mean one is expected to need."""
TURN_BYTES = 40
"""Marks around the texts of one request."""
Measured = tuple[int, float, float]
"""How many verdicts there are, prompt tokens a byte, completion tokens of one."""
ENOUGH = 20


def of_prompts(
    spec: Spec,
    prompts: Sequence[int],
    *,
    own: Price,
    judge: JudgePrice,
    measured: Measured,
    is_batch: bool,
) -> Estimate:
    """The estimate of a run that generates.

    Args:
        prompts: Size of each prompt, bytes.
    """
    slots = len(spec.temperatures)
    answer_bytes = int(spec.max_new_tokens * ANSWER_SHARE * BYTES_PER_TOKEN)
    texts = [(size, answer_bytes, answer_bytes) for size in prompts for _ in _pairs(spec)]
    read = sum(_expected(size) for size in prompts) * slots
    written = int(len(prompts) * slots * spec.max_new_tokens * ANSWER_SHARE)
    most = sum(slots * _cost(own, size + 16 * 8 + 64, spec.max_new_tokens) for size in prompts)
    found = _judging(spec, texts, judge=judge, measured=measured, is_batch=is_batch)
    # A candidate's tokens may be longer than a byte each: eight is more than any text has.
    longest = [(size, 8 * spec.max_new_tokens, 8 * spec.max_new_tokens) for size in prompts]
    return Estimate(
        prompts=len(prompts),
        candidates=len(prompts) * slots,
        pairs=found.pairs,
        calls=found.calls,
        is_batch=is_batch,
        candidate_micro=_cost(own, read, written),
        judge_micro=found.judge_micro,
        most_micro=most + len(_pairs(spec)) * _most(spec, longest, judge, is_batch),
        measured_calls=found.measured_calls,
        price_version=judge.version,
    )


def of_pairs(
    spec: Spec,
    texts: Sequence[tuple[int, int, int]],
    *,
    judge: JudgePrice,
    measured: Measured,
    is_batch: bool,
) -> Estimate:
    """The estimate of a run that judges what is there.

    Args:
        texts: Size of prompt and both answers of each pair, bytes.
    """
    return _judging(spec, texts, judge=judge, measured=measured, is_batch=is_batch)


def _judging(
    spec: Spec,
    texts: Sequence[tuple[int, int, int]],
    *,
    judge: JudgePrice,
    measured: Measured,
    is_batch: bool,
) -> Estimate:
    number, rate, written = measured
    known = number >= ENOUGH
    read = 0.0
    for one in texts:
        size = FIXED_BYTES + TURN_BYTES + sum(one)
        read += size * rate if known else size / BYTES_PER_TOKEN + OVERHEAD_TOKENS / 2
    each = written if known else VERDICT_TOKENS
    cost = judge.cost_micro(
        math.ceil(2 * read), math.ceil(2 * len(texts) * each), is_batch=is_batch
    )
    return Estimate(
        prompts=0,
        candidates=0,
        pairs=len(texts),
        calls=2 * len(texts),
        is_batch=is_batch,
        candidate_micro=0,
        judge_micro=cost,
        most_micro=_most(spec, texts, judge, is_batch),
        measured_calls=number if known else 0,
        price_version=judge.version,
    )


def _most(
    spec: Spec, texts: Iterable[tuple[int, int, int]], judge: JudgePrice, is_batch: bool
) -> int:
    """Both orders at their longest, and each as often as it may be asked."""
    return sum(
        2
        * sum(
            judge.cost_micro(
                FIXED_BYTES + TURN_BYTES + sum(one) + OVERHEAD_TOKENS,
                spec.max_tokens * 2**attempt,
                is_batch=is_batch,
            )
            for attempt in range(spec.attempts)
        )
        for one in texts
    )


def _pairs(spec: Spec) -> range:
    return range(spec.pairs_per_prompt)


def _expected(size: int) -> int:
    return math.ceil(size / BYTES_PER_TOKEN) + 16


def _cost(price: Price, prompt_tokens: int, completion_tokens: int) -> int:
    exact = (
        prompt_tokens * price.prompt_micro_per_mtok
        + completion_tokens * price.completion_micro_per_mtok
    )
    return -(-exact // 1_000_000)
