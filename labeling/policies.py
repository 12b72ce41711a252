"""How each tenant reviews, and in which groups its people work."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from labeling.models import Group, Reviewer, ReviewPolicy
from labeling.store import GroupRow, PolicyRow
from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.errors import Conflict, InvalidInput, NotFound
from services.preferences import queries
from services.preferences.models import PairStatus
from services.preferences.store import PairRow
from services.preferences.text import defect
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope
from services.tenants.store import users_in

LANGUAGES = ("en", "tr")
MAX_OVERLAP = 9
MAX_GOLD_EVERY = 1_000
MAX_TOO_FAST_MS = 600_000
MAX_GUIDELINES = 20_000
MAX_NAME = 80
MAX_MEMBERS = 500


def current(session: Session, tenant_id: str) -> ReviewPolicy:
    """The tenant's policy; one vote a pair until somebody says otherwise."""
    newest = select(PolicyRow).where(PolicyRow.tenant_id == tenant_id)
    row = session.scalar(newest.order_by(PolicyRow.version.desc()).limit(1))
    if row is None:
        return ReviewPolicy()
    return ReviewPolicy(
        overlap=row.overlap,
        risky_overlap=row.risky_overlap,
        is_revealing=row.is_revealing,
        gold_every=row.gold_every,
        too_fast_ms=row.too_fast_ms,
        guidelines=row.guidelines,
    )


def groups_of(session: Session, tenant_id: str, annotator_id: str) -> list[str]:
    """Ids of the groups that a person is in."""
    return [one.id for one in _groups(session, tenant_id) if annotator_id in one.members]


class Policies:
    """Policies and groups of all tenants; each change is a new row."""

    def __init__(self, db: Database, *, clock: Clock = utcnow) -> None:
        self._db, self._clock = db, clock

    def get(self, actor: Actor, tenant_id: str) -> ReviewPolicy:
        """How the tenant reviews at present."""
        tenant_id = scope(actor, tenant_id, Permission.REVIEW)
        with self._db.read() as session:
            return current(session, tenant_id)

    def change(self, actor: Actor, tenant_id: str, policy: ReviewPolicy) -> ReviewPolicy:
        """Review in another way from now on.

        A pair that was begun keeps the number of people it was begun with, unless more are asked
        for while a place is free; what was decided stays decided.

        Raises:
            InvalidInput: A value is out of range.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        _refuse_policy(policy)
        with self._db.write() as session:
            queries.serialise(session, f"review policy|{tenant_id}")
            version = _newest(session, PolicyRow.version, PolicyRow.tenant_id == tenant_id) + 1
            row = PolicyRow(
                id=new_id(),
                tenant_id=tenant_id,
                version=version,
                overlap=policy.overlap,
                risky_overlap=policy.risky_overlap,
                is_revealing=policy.is_revealing,
                gold_every=policy.gold_every,
                too_fast_ms=policy.too_fast_ms,
                guidelines=dict(policy.guidelines),
                actor_id=actor.id,
                created_at=self._clock(),
            )
            session.add(row)
            details = {
                "version": version,
                "overlap": policy.overlap,
                "risky_overlap": policy.risky_overlap,
                "is_revealing": policy.is_revealing,
                "gold_every": policy.gold_every,
                "too_fast_ms": policy.too_fast_ms,
            }
            record(
                session, actor, "review.policy_changed", f"review-policy:{row.id}",
                tenant_id=tenant_id, details=details, at=row.created_at,
            )  # fmt: skip
        return policy

    def groups(self, actor: Actor, tenant_id: str) -> tuple[Group, ...]:
        """The tenant's groups that have members, by name."""
        tenant_id = scope(actor, tenant_id, Permission.REVIEW)
        with self._db.read() as session:
            return tuple(one for one in _groups(session, tenant_id) if one.members)

    def reviewers(self, actor: Actor, tenant_id: str) -> tuple[Reviewer, ...]:
        """Who reviews pairs in the tenant, by name: to them pairs can be assigned."""
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        with self._db.read() as session:
            users = users_in(session, frozenset({tenant_id}))
        found = [
            Reviewer(user.id, user.display_name)
            for user in users
            if not user.disabled and user.actor().may(Permission.REVIEW, tenant_id)
        ]
        return tuple(sorted(found, key=lambda one: (one.name.casefold(), one.id)))

    def change_group(
        self,
        actor: Actor,
        tenant_id: str,
        group_id: str | None,
        *,
        name: str,
        members: Collection[str],
    ) -> Group:
        """Begin a group, or say anew who is in it.

        Args:
            group_id: None for a new one.
            members: Ids of users; none ends the group.

        Raises:
            NotFound: The tenant has no such group.
            InvalidInput: The name is empty, too long or taken, or there are too many members.
            Conflict: Pairs that nobody decided yet are assigned to the group that is to end.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        name = name.strip()
        _refuse_text(name, "name", MAX_NAME)
        members = tuple(sorted(set(members)))
        if not name:
            raise InvalidInput("name: expected a text, found an empty one").because(
                "empty", field="group_name"
            )
        if len(members) > MAX_MEMBERS or (group_id is None and not members):
            raise InvalidInput(
                f"members: expected 1 to {MAX_MEMBERS}, found {len(members)}"
            ).because("members", most=MAX_MEMBERS)
        with self._db.write() as session:
            queries.serialise(session, f"review policy|{tenant_id}")
            known = {one.id: one for one in _groups(session, tenant_id)}
            if group_id is not None and group_id not in known:
                raise NotFound(f"tenant {tenant_id} has no group {group_id!r}")
            others = [one for one in known.values() if one.members and one.id != group_id]
            if name.casefold() in {one.name.casefold() for one in others}:
                raise InvalidInput(
                    f"name: expected one that no other group has, found {name!r}"
                ).because("group_name_taken", name=name)
            group = Group(group_id or new_id(), name, members)
            if not members:
                _refuse_to_strand(session, tenant_id, group)
            self._append(session, actor, tenant_id, group)
        return group

    def _append(self, session: Session, actor: Actor, tenant_id: str, group: Group) -> None:
        version = _newest(session, GroupRow.version, GroupRow.group_id == group.id) + 1
        now = self._clock()
        session.add(
            GroupRow(
                id=new_id(), tenant_id=tenant_id, group_id=group.id, version=version,
                name=group.name, members=list(group.members), actor_id=actor.id, created_at=now,
            )
        )  # fmt: skip
        details = {"version": version, "members": list(group.members)}
        record(
            session, actor, "review.group_changed", f"review-group:{group.id}",
            tenant_id=tenant_id, details=details, at=now,
        )  # fmt: skip


def _groups(session: Session, tenant_id: str) -> list[Group]:
    newer = aliased(GroupRow)
    is_replaced = (
        select(newer.id)
        .where(newer.group_id == GroupRow.group_id, newer.version > GroupRow.version)
        .exists()
    )
    rows = session.scalars(select(GroupRow).where(GroupRow.tenant_id == tenant_id, ~is_replaced))
    found = (Group(row.group_id, row.name, tuple(row.members)) for row in rows)
    return sorted(found, key=lambda one: (one.name.casefold(), one.id))


def _newest(session: Session, column: Any, condition: Any) -> int:
    return session.scalar(select(func.max(column)).where(condition)) or 0


def _refuse_to_strand(session: Session, tenant_id: str, group: Group) -> None:
    waiting = select(func.count()).where(
        PairRow.tenant_id == tenant_id,
        PairRow.status == PairStatus.UNREVIEWED.value,
        PairRow.assignee == f"group:{group.id}",
    )
    if count := session.scalar(waiting):
        raise Conflict(
            f"group {group.name!r}: {count} unreviewed pairs are assigned to it; "
            "assign them to others first"
        ).because("group_has_pairs", name=group.name, count=count)


def _refuse_policy(policy: ReviewPolicy) -> None:
    _refuse_number("overlap", policy.overlap, 1, MAX_OVERLAP)
    _refuse_number("risky_overlap", policy.risky_overlap, policy.overlap, MAX_OVERLAP)
    _refuse_number("gold_every", policy.gold_every, 0, MAX_GOLD_EVERY)
    _refuse_number("too_fast_ms", policy.too_fast_ms, 0, MAX_TOO_FAST_MS)
    if policy.gold_every == 1:
        raise InvalidInput(
            "gold_every: expected 0 or at least 2, found 1: nothing else would come"
        ).because("gold_alone")
    for language, text in policy.guidelines.items():
        if language not in LANGUAGES:
            raise InvalidInput(
                f"guidelines: expected the languages {', '.join(LANGUAGES)}, found {language!r}"
            )
        _refuse_text(text, f"guidelines ({language})", MAX_GUIDELINES)


def _refuse_number(name: str, value: int, lowest: int, highest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise InvalidInput(f"{name}: expected {lowest} to {highest}, found {value!r}").because(
            "range", field=name, low=lowest, high=highest, found=value
        )


def _refuse_text(text: str, name: str, limit: int) -> None:
    if len(text) > limit:
        raise InvalidInput(
            f"{name}: expected at most {limit:,} characters, found {len(text):,}"
        ).because("too_long", field=name, most=limit, found=len(text))
    if found := defect(text):
        raise InvalidInput(f"{name}: expected text that can be stored, found {found}").because(
            "not_storable", field=name
        )
