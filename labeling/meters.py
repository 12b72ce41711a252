"""How annotators work: speed, habits, and how often they are right where the answer is known.

A meter is a mirror, not a verdict: each share stands with its interval, so that a habit is told
from an accident. Everything is counted by the database over standing votes as they were first
cast; a revision after the AI's verdict counts as a change of that vote, and its time as time spent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Integer, and_, case, cast, func, or_, select
from sqlalchemy.orm import Session, aliased

from labeling import policies, reliability
from labeling.people import Person, people
from labeling.reliability import Estimate
from labeling.votes import revised_by, standing
from services.db import Clock, Database, utcnow
from services.preferences.models import PairStatus, ReviewKind
from services.preferences.store import PairRow, ResponseRow, ReviewRow
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope


@dataclass(frozen=True)
class Meter:
    """One annotator's work, or a whole team's.

    Attributes:
        person: None for the team.
        votes: Standing votes, each pair once.
        skips: Standing skips; likewise edits.
        active_s: Active time at the cards of the votes, revisions included, seconds.
        pairs_per_hour: Of active time; None where no vote was timed.
        chose_longer: Share of the votes for an answer, of unequal lengths, that favour the longer.
        chose_left: Share of the votes for an answer that favour the one shown left.
        approved_as_is: Share of the votes on pairs with an imported preference that confirm it
            without any change to the texts.
        too_fast: Share of the timed votes that took less than the tenant's threshold.
        gold: Share of the votes on planted pairs that favour the known better answer.
        changed: Share of the votes whose verdict was changed after the AI's was revealed.
    """

    person: Person | None
    votes: int
    skips: int
    edits: int
    active_s: float
    pairs_per_hour: float | None
    chose_longer: Estimate
    chose_left: Estimate
    approved_as_is: Estimate
    too_fast: Estimate
    gold: Estimate
    changed: Estimate


@dataclass(frozen=True)
class TeamMeters:
    """Everybody's work.

    Attributes:
        team: All of it together.
        annotators: By votes, most first.
        by_status: How many pairs have each status.
        votes_left: Votes that the unreviewed pairs still wait for.
        hours_left: Active time that those take at the team's pace, hours; None without a pace.
        too_fast_ms: The tenant's threshold, milliseconds.
    """

    team: Meter
    annotators: tuple[Meter, ...]
    by_status: Mapping[PairStatus, int]
    votes_left: int
    hours_left: float | None
    too_fast_ms: int


class Meters:
    """Reader of meters."""

    def __init__(self, db: Database, *, clock: Clock = utcnow) -> None:
        self._db, self._clock = db, clock

    def mine(self, actor: Actor, tenant_id: str, *, within: timedelta | None = None) -> Meter:
        """The actor's own work.

        Args:
            within: Only what happened so long ago or less; None for everything.
        """
        tenant_id = scope(actor, tenant_id, Permission.REVIEW)
        with self._db.read() as session:
            mine = (*self._since(within), ReviewRow.annotator_id == actor.id)
            counted = _counted(session, tenant_id, mine, _too_fast_ms(session, tenant_id))
            own = people(session, actor, tenant_id, [actor.id])[actor.id]
        return _meter(own, counted.get(actor.id, {}))

    def everyone(
        self, actor: Actor, tenant_id: str, *, within: timedelta | None = None
    ) -> TeamMeters:
        """The work of all annotators of a tenant, and what is left to do.

        Args:
            within: Only votes that were cast so long ago or less; None for all.
        """
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        with self._db.read() as session:
            threshold = _too_fast_ms(session, tenant_id)
            counted = _counted(session, tenant_id, self._since(within), threshold)
            known = people(session, actor, tenant_id, counted)
            by_status = _by_status(session, tenant_id)
            left = _votes_left(session, tenant_id)
        annotators = [_meter(known[one], counts) for one, counts in counted.items()]
        team = _meter(None, _summed(list(counted.values())))
        pace = team.pairs_per_hour
        return TeamMeters(
            team=team,
            annotators=tuple(sorted(annotators, key=_by_diligence)),
            by_status={one: by_status.get(one.value, 0) for one in PairStatus},
            votes_left=left,
            hours_left=left / pace if pace else None,
            too_fast_ms=threshold,
        )

    def _since(self, within: timedelta | None) -> tuple[ColumnElement[bool], ...]:
        return () if within is None else (ReviewRow.created_at >= self._clock() - within,)


def _by_diligence(meter: Meter) -> tuple[int, str]:
    return -meter.votes, meter.person.code if meter.person else ""


def _too_fast_ms(session: Session, tenant_id: str) -> int:
    return policies.current(session, tenant_id).too_fast_ms


def _counted(
    session: Session,
    tenant_id: str,
    conditions: Sequence[ColumnElement[bool]],
    too_fast_ms: int,
) -> dict[str, dict[str, int]]:
    """All counts by annotator, those of nobody left out."""
    of_tenant = (ReviewRow.tenant_id == tenant_id, *standing(), *conditions)
    found: dict[str, dict[str, int]] = {}
    for row in session.execute(_votes(of_tenant, too_fast_ms)).mappings():
        counts = {str(name): int(value or 0) for name, value in row.items() if name != "who"}
        found[row["who"]] = counts
    others = (
        select(ReviewRow.annotator_id, ReviewRow.kind, func.count())
        .where(*of_tenant, ReviewRow.kind.in_((ReviewKind.SKIP.value, ReviewKind.EDIT.value)))
        .group_by(ReviewRow.annotator_id, ReviewRow.kind)
    )
    for who, kind, number in session.execute(others):
        found.setdefault(who, {})[f"{kind}s"] = number
    return found


def _votes(conditions: Sequence[ColumnElement[bool]], too_fast_ms: int) -> Any:
    """One row an annotator: how many of their votes are what."""
    left, right, revision = aliased(ResponseRow), aliased(ResponseRow), aliased(ReviewRow)
    vote, pair = ReviewRow, PairRow
    is_first = vote.revises_id.is_(None)
    is_free = and_(is_first, vote.is_gold.is_(False))
    chose_left = vote.preferred_response_id == vote.left_response_id
    is_decided = and_(is_free, vote.preferred_response_id.is_not(None))
    left_chars, right_chars = func.length(left.text), func.length(right.text)
    is_unequal = and_(is_decided, left_chars != right_chars)
    chosen_root = case((chose_left, left.root_id), else_=right.root_id)
    has_import = and_(is_free, pair.imported_preference.is_not(None))
    as_is = and_(
        is_decided, chosen_root == pair.imported_preference, left.version == 1, right.version == 1
    )
    is_timed = and_(is_free, vote.active_ms.is_not(None))
    # A flag or a new note alone is no change of mind.
    is_changed = or_(
        revision.preferred_response_id.is_distinct_from(vote.preferred_response_id),
        revision.strength.is_distinct_from(vote.strength),
    )
    counts: dict[str, ColumnElement[bool]] = {
        "votes": is_first,
        "decided": is_decided,
        "left": and_(is_decided, chose_left),
        "unequal": is_unequal,
        "longer": and_(is_unequal, chose_left == (left_chars > right_chars)),
        "imported": has_import,
        "as_is": and_(has_import, as_is),
        "timed": is_timed,
        "too_fast": and_(is_timed, vote.active_ms < too_fast_ms),
        "clocked": and_(is_first, vote.active_ms.is_not(None)),
        "gold": and_(is_first, vote.is_gold),
        "gold_right": and_(
            is_first,
            vote.is_gold,
            vote.preferred_response_id.is_not(None),
            chosen_root == pair.gold_response_id,
        ),
        "free": is_free,
        "changed": and_(is_free, revision.id.is_not(None), is_changed),
    }
    return (
        select(
            vote.annotator_id.label("who"),
            func.sum(vote.active_ms).label("active_ms"),
            *(
                cast(func.sum(case((condition, 1), else_=0)), Integer).label(name)
                for name, condition in counts.items()
            ),
        )
        .join(pair, pair.id == vote.pair_id)
        .join(left, left.id == vote.left_response_id)
        .join(right, right.id == vote.right_response_id)
        .outerjoin(revision, revised_by(revision))
        .where(*conditions, vote.kind == ReviewKind.VOTE.value)
        .group_by(vote.annotator_id)
    )


def _summed(all_counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    summed: dict[str, int] = {}
    for counts in all_counts:
        for name, value in counts.items():
            summed[name] = summed.get(name, 0) + value
    return summed


def _meter(person: Person | None, counts: Mapping[str, int]) -> Meter:
    def count(name: str) -> int:
        return counts.get(name, 0)

    active_s = count("active_ms") / 1000
    return Meter(
        person=person,
        votes=count("votes"),
        skips=count("skips"),
        edits=count("edits"),
        active_s=active_s,
        pairs_per_hour=count("clocked") * 3600 / active_s if active_s else None,
        chose_longer=reliability.share(count("longer"), count("unequal")),
        chose_left=reliability.share(count("left"), count("decided")),
        approved_as_is=reliability.share(count("as_is"), count("imported")),
        too_fast=reliability.share(count("too_fast"), count("timed")),
        gold=reliability.share(count("gold_right"), count("gold")),
        changed=reliability.share(count("changed"), count("free")),
    )


def _by_status(session: Session, tenant_id: str) -> dict[str, int]:
    wanted = select(PairRow.status, func.count()).where(PairRow.tenant_id == tenant_id)
    return {status: number for status, number in session.execute(wanted.group_by(PairRow.status))}


def _votes_left(session: Session, tenant_id: str) -> int:
    """Votes that unreviewed pairs wait for: places are taken by votes and by cards that are out."""
    unreviewed = (
        PairRow.tenant_id == tenant_id,
        PairRow.status == PairStatus.UNREVIEWED.value,
        PairRow.gold_response_id.is_(None),
    )
    missing = func.sum(PairRow.overlap - PairRow.taken)
    return int(session.scalar(select(missing).where(*unreviewed)) or 0)
