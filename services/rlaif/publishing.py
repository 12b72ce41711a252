"""What a run found out becomes pairs and judgments: once, in order, for people to review.

The answer that both orders prefer, by at least the margin, is what the pair's import preferred.
Where the orders disagree, or the margin is too small, the import prefers none; the judgments are
kept all the same, and put the pair at the front of the review queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import fmean
from typing import Any

from sqlalchemy.orm import Session

from services.audit.outbox import record
from services.db import Clock, Database, utcnow
from services.jobs.claims import WORKER
from services.preferences.drafts import Draft, DraftAnswer, DraftJudgment
from services.preferences.judging import NewJudgment, add_judgments, add_pairs, versions_of
from services.preferences.models import Turn
from services.preferences.text import text_key
from services.rlaif import asking
from services.rlaif.asking import ORDERS, Item, Order, question_of
from services.rlaif.models import CallState, Run
from services.rlaif.store import CallRow, CandidateRow, ItemRow

FORMAT = "rlaif"
Verdicts = Mapping[Order, CallRow]


class Publishing:
    """Takes the finished items of one run over into the tenant's pairs."""

    def __init__(self, db: Database, run: Run, *, clock: Clock = utcnow) -> None:
        self._db, self._run, self._clock = db, run, clock

    def publish(self, *, only_judged: bool) -> int:
        """Write all items that are not written yet.

        Args:
            only_judged: Leave those alone that have no verdict at all: they may get one later.

        Returns:
            How many were written.
        """
        after, written = -1, 0
        while True:
            with self._db.write() as session:
                found = asking.items(session, self._run.id, after=after)
                if not found:
                    return written
                written += self._chunk(session, found, only_judged)
                after = found[-1].number

    def _chunk(self, session: Session, found: Sequence[Item], only_judged: bool) -> int:
        rows = {
            row.id: row
            for row in session.query(ItemRow).where(ItemRow.id.in_([one.id for one in found]))
        }
        fresh = [one for one in found if rows[one.id].published_at is None]
        verdicts = _verdicts(session, self._run.tenant_id, fresh, self._run.revision)
        fresh = [one for one in fresh if not only_judged or len(verdicts[one.id]) == len(ORDERS)]
        if not fresh:
            return 0
        now = self._clock()
        made = [one for one in fresh if one.prompt_id is not None]
        pair_ids = self._make(session, made, verdicts, now) if made else {}
        for one in fresh:
            if one.prompt_id is None and one.pair_id is not None:
                names = {"low": one.low_id, "high": one.high_id}
                self._judge(session, one.pair_id, verdicts[one.id], names, now)
            rows[one.id].pair_id = pair_ids.get(one.id, one.pair_id)
            rows[one.id].is_consistent = is_consistent(verdicts[one.id])
            rows[one.id].published_at = now
        record(
            session, WORKER, "rlaif.published", f"rlaif:{self._run.id}",
            tenant_id=self._run.tenant_id, details={"pairs": len(fresh)}, at=now,
        )  # fmt: skip
        return len(fresh)

    def _make(
        self,
        session: Session,
        found: Sequence[Item],
        verdicts: Mapping[str, Verdicts],
        now: datetime,
    ) -> dict[str, str]:
        """Write new pairs; those that the tenant has already are only judged."""
        spec = self._run.spec
        candidates = _candidates(session, found)
        drafts = [self._draft(one, verdicts[one.id], candidates) for one in found]
        _, ids, before = add_pairs(
            session, self._run.tenant_id, drafts, source=spec.source, format=FORMAT,
            actor_id=WORKER.id, at=now, is_evaluation=spec.is_evaluation,
        )  # fmt: skip
        for one in found:
            if one.key in before:
                names = _ids_by_text(session, ids[one.key], one)
                self._judge(session, ids[one.key], verdicts[one.id], names, now)
        return {one.id: ids[one.key] for one in found}

    def _draft(
        self, item: Item, verdicts: Verdicts, candidates: Mapping[str, CandidateRow]
    ) -> Draft:
        answers = []
        for side, answer_id, text in (
            ("low", item.low_id, item.low),
            ("high", item.high_id, item.high),
        ):
            row = candidates[answer_id]
            extra: dict[str, Any] = {"generator": row.served, "temperature": row.temperature}
            if (score := score_of(verdicts, side)) is not None:
                extra["score"] = round(score, 3)
            answers.append(DraftAnswer(text, extra))
        return Draft(
            turns=tuple(Turn(turn["role"], turn["content"]) for turn in item.turns),
            answers=(answers[0], answers[1]),
            preferred=preferred(verdicts, self._run.spec.margin),
            extra={"run": self._run.id},
            judgments=tuple(
                _draft_judgment(order, row.verdict or {}) for order, row in verdicts.items()
            ),
            line=item.number + 1,
        )

    def _judge(
        self, session: Session, pair_id: str, verdicts: Verdicts, names: Mapping[str, str],
        now: datetime,
    ) -> None:  # fmt: skip
        found = [_new_judgment(order, row.verdict or {}, names) for order, row in verdicts.items()]
        add_judgments(session, self._run.tenant_id, pair_id, found, at=now)


def _verdicts(
    session: Session, tenant_id: str, found: Sequence[Item], revision: str
) -> dict[str, dict[Order, CallRow]]:
    names = {
        question_of(one.key, order, revision): (one.id, order) for one in found for order in ORDERS
    }
    verdicts: dict[str, dict[Order, CallRow]] = {one.id: {} for one in found}
    for name, rows in asking.calls(session, tenant_id, list(names)).items():
        item_id, order = names[name]
        for row in rows:
            if row.state == CallState.DONE:
                verdicts[item_id][order] = row
    return verdicts


def sides(order: Order) -> tuple[str, str]:
    """What was shown first and second."""
    return ("low", "high") if order == "ab" else ("high", "low")


def named(order: Order, verdict: Mapping[str, Any]) -> str | None:
    """The answer that a verdict prefers: `low`, `high`, or None for a tie."""
    shown = dict(zip(("first", "second"), sides(order), strict=True))
    return shown.get(verdict.get("preferred") or "")


def is_consistent(verdicts: Verdicts) -> bool | None:
    """Whether both orders agree; None where one is missing."""
    found = {named(order, row.verdict or {}) for order, row in verdicts.items()}
    return len(found) == 1 if len(verdicts) == len(ORDERS) else None


def score_of(verdicts: Verdicts, side: str) -> float | None:
    """Mean of all criteria in both orders, 0 to 10."""
    scores = [
        fmean((row.verdict or {})["first" if sides(order)[0] == side else "second"].values())
        for order, row in verdicts.items()
    ]
    return fmean(scores) if scores else None


def preferred(verdicts: Verdicts, margin: float) -> int | None:
    """0 for the low answer, 1 for the high one; None where nothing is clear.

    Both orders must name the same answer, and its score must be higher by the margin.
    """
    if not is_consistent(verdicts):
        return None
    better = named("ab", verdicts["ab"].verdict or {})
    low, high = score_of(verdicts, "low"), score_of(verdicts, "high")
    if better is None or low is None or high is None:
        return None
    distance = low - high if better == "low" else high - low
    if distance < margin:
        return None
    return 0 if better == "low" else 1


def _draft_judgment(order: Order, verdict: Mapping[str, Any]) -> DraftJudgment:
    index = {"low": 0, "high": 1}
    first, second = sides(order)
    better = named(order, verdict)
    by_side = {first: verdict["first"], second: verdict["second"]}
    return DraftJudgment(
        first=index[first],
        preferred=None if better is None else index[better],
        scores=(by_side["low"], by_side["high"]),
        reason=verdict["reason"],
        judge=verdict["judge"],
        revision=verdict["revision"],
    )


def _new_judgment(
    order: Order, verdict: Mapping[str, Any], names: Mapping[str, str]
) -> NewJudgment:
    first, second = sides(order)
    better = named(order, verdict)
    return NewJudgment(
        first_response_id=names[first],
        second_response_id=names[second],
        preferred_response_id=None if better is None else names[better],
        scores={names[first]: verdict["first"], names[second]: verdict["second"]},
        reason=verdict["reason"],
        judge=verdict["judge"],
        revision=verdict["revision"],
    )


def _candidates(session: Session, found: Sequence[Item]) -> dict[str, CandidateRow]:
    ids = [answer for one in found for answer in (one.low_id, one.high_id)]
    rows = session.query(CandidateRow).where(CandidateRow.id.in_(ids))
    return {row.id: row for row in rows}


def _ids_by_text(session: Session, pair_id: str, item: Item) -> dict[str, str]:
    """Versions of a pair that was there already, which have the texts that were judged."""
    found: dict[bytes, str] = {}
    for version in versions_of(session, pair_id):
        found.setdefault(text_key(version.text), version.id)
    return {"low": found[text_key(item.low)], "high": found[text_key(item.high)]}
