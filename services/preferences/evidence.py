"""What the AI made of a pair, and how much a person's look at the pair is worth.

The score of an answer is the mean of what a judge gave it over all criteria and both orders, on
0 to 10. The margin is the distance between the scores of the two answers, and it is told on the
annotators' own scale:

    margin below 0.5    0  tie
    below 1.5           1  slightly better
    below 3             2  better
    3 and more          3  much better

A judge that names a better answer without telling the scores says 2, and never less than 1 with
scores. Scores that came with an import are read as 0 to 10 too, since nothing says otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from services.preferences.models import Judgment, Response

TIE, SLIGHT, CLEAR = 0.5, 1.5, 3.0
CLOSE = 1.0
"""Below this margin, of 10, a judge's word is worth little (arXiv 2406.07791: position bias is
driven by small gaps in quality)."""

INCONSISTENT, UNDECIDED, REMARKABLE, PLAIN = 3, 2, 1, 0
"""Priorities: the judge contradicts itself, the answers are close, a lint warns, nothing."""


@dataclass(frozen=True)
class AiVerdict:
    """What a judge, or else the imported scores, say of a pair.

    Attributes:
        preferred_response_id: The current version of the better answer; None for a tie and for a
            judge whose answer depends on the order.
        strength: 0 (tie) to 3 (much better).
        margin: Distance of the scores, 0 to 10; None where there are none.
        is_consistent: Whether both orders agree; None where only one order was judged.
        is_stale: An answer was edited since; the verdict is of the older text.
        judge: Name of the model that judged; empty for scores that came with the import.
    """

    preferred_response_id: str | None
    strength: int
    margin: float | None
    is_consistent: bool | None
    is_stale: bool
    judge: str


def ai_verdict(
    responses: Iterable[Response], judgments: Sequence[Judgment] = ()
) -> AiVerdict | None:
    """Sum up what the AI said of a pair.

    The latest judgment names the judge and the revision of its instructions; the latest word of
    that judge in each order counts. Judgments of the current texts go before those of older ones.

    Args:
        responses: Versions of both answers, all of them or only the current ones. Without the
            first versions, nothing is known of the scores that an edited answer was imported with.
        judgments: All of the pair, in any order.

    Returns:
        None where nothing judged both answers.
    """
    versions = sorted(responses, key=lambda one: one.version)
    current = {one.root_id: one for one in versions}
    if len(current) != 2:
        return None
    root_of = {one.id: one.root_id for one in versions} | {root: root for root in current}
    known = [
        one
        for one in judgments
        if {root_of.get(one.first_response_id), root_of.get(one.second_response_id)} == {*current}
    ]
    present = {one.id for one in current.values()}
    fresh = [one for one in known if {one.first_response_id, one.second_response_id} == present]
    if counted := _latest_of_each_order(fresh or known):
        return _of_judgments(counted, current, root_of, is_stale=not fresh)
    return _of_imported_scores(versions, current)


def priority(*, verdict: AiVerdict | None, lints: Collection[str]) -> int:
    """How early people should see a pair; the higher, the earlier.

    Returns:
        `INCONSISTENT`, `UNDECIDED`, `REMARKABLE` or `PLAIN`. From `UNDECIDED` on a pair is risky:
        a tenant's policy may ask more people about it.
    """
    if verdict is not None and verdict.is_consistent is False:
        return INCONSISTENT
    if verdict is not None and (
        verdict.strength == 0 or (verdict.margin is not None and verdict.margin < CLOSE)
    ):
        return UNDECIDED
    return REMARKABLE if lints else PLAIN


def lottery(pair_id: str) -> int:
    """A number that means nothing, the same for the same pair: 0 to 2^31 - 1."""
    digest = hashlib.sha256(f"param.lottery.v1|{pair_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _latest_of_each_order(judgments: Sequence[Judgment]) -> list[Judgment]:
    ordered = sorted(judgments, key=lambda one: (one.created_at, one.id))
    if not ordered:
        return []
    last = ordered[-1]
    of_judge = [one for one in ordered if (one.judge, one.revision) == (last.judge, last.revision)]
    return list({one.first_response_id: one for one in of_judge}.values())


def _of_judgments(
    judgments: Sequence[Judgment],
    current: Mapping[str, Response],
    root_of: Mapping[str, str],
    *,
    is_stale: bool,
) -> AiVerdict:
    first, second = current
    scores: dict[str, list[float]] = {first: [], second: []}
    for judgment in judgments:
        for response_id, given in judgment.scores.items():
            if given and response_id in root_of:
                scores[root_of[response_id]].append(fmean(given.values()))
    margin = None
    if scores[first] and scores[second]:
        margin = abs(fmean(scores[first]) - fmean(scores[second]))
    named = {
        None if one.preferred_response_id is None else root_of.get(one.preferred_response_id)
        for one in judgments
    }
    orders = {root_of[one.first_response_id] for one in judgments}
    is_consistent = len(named) == 1 if len(orders) == 2 else None
    preferred = named.pop() if len(named) == 1 else None
    return AiVerdict(
        preferred_response_id=None if preferred is None else current[preferred].id,
        strength=0 if preferred is None else 2 if margin is None else max(1, _strength(margin)),
        margin=margin,
        is_consistent=is_consistent,
        is_stale=is_stale,
        judge=judgments[-1].judge,
    )


def _of_imported_scores(
    versions: Sequence[Response], current: Mapping[str, Response]
) -> AiVerdict | None:
    # Later versions have no score of their own: that of the first one is of an older text.
    scored = {one.root_id: one for one in versions if _score(one) is not None}
    if len(scored) != 2:
        return None
    (low, low_score), (high, high_score) = sorted(
        ((root, _score(one) or 0.0) for root, one in scored.items()), key=lambda item: item[1]
    )
    margin = high_score - low_score
    strength = _strength(margin)
    return AiVerdict(
        preferred_response_id=current[high].id if strength else None,
        strength=strength,
        margin=margin,
        is_consistent=None,
        is_stale=any(current[root].id != one.id for root, one in scored.items()),
        judge="",
    )


def _score(response: Response) -> float | None:
    value = response.extra.get("score")
    return float(value) if isinstance(value, int | float) and value is not True else None


def _strength(margin: float) -> int:
    return sum(margin >= bound for bound in (TIE, SLIGHT, CLEAR))
