from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from labeling.models import ReviewPolicy
from labeling.policies import Policies
from labeling.store import PolicyRow
from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import Conflict, InvalidInput, NotFound, NotPermitted
from services.preferences.service import Preferences
from tests.labeling.desks import ALI, BEA, change, pair_ids
from tests.services.preferences.rows import ENGINEER, MANAGER, STRANGER, pairs_file


@pytest.fixture
def policies(database: Database) -> Policies:
    return Policies(database)


@pytest.mark.parametrize("actor", [STRANGER, MANAGER], ids=["wrong tenant", "wrong role"])
def test_others_are_refused(policies: Policies, actor: Any) -> None:
    for call in (
        lambda: policies.get(actor, "acme"),
        lambda: policies.groups(actor, "acme"),
        lambda: policies.change(actor, "acme", ReviewPolicy()),
        lambda: policies.change_group(actor, "acme", None, name="x", members=["y"]),
    ):
        with pytest.raises(NotPermitted):
            call()


def test_an_annotator_reads_and_changes_nothing(policies: Policies) -> None:
    assert policies.get(ALI, "acme") == ReviewPolicy()
    assert policies.groups(ALI, "acme") == ()
    with pytest.raises(NotPermitted):
        policies.change(ALI, "acme", ReviewPolicy())
    with pytest.raises(NotPermitted):
        policies.change_group(ALI, "acme", None, name="x", members=[ALI.id])


def test_each_change_is_a_new_version(policies: Policies, database: Database) -> None:
    first = ReviewPolicy(2, 3, False, 10, 1_500, {"en": "Be fair.", "tr": "Adil olun."})
    second = ReviewPolicy(overlap=1, risky_overlap=1)
    for policy in (first, second):
        policies.change(ENGINEER, "acme", policy)
        assert policies.get(ALI, "acme") == policy
    assert policies.get(STRANGER, "globex") == ReviewPolicy()
    with database.read() as session:
        assert sorted(session.scalars(select(PolicyRow.version))) == [1, 2]
        events = session.scalars(select(OutboxRow)).all()
    assert [event.action for event in events] == ["review.policy_changed"] * 2
    assert "Be fair." not in str([event.details for event in events])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"overlap": 0}, "overlap: expected 1 to 9"),
        ({"overlap": 2, "risky_overlap": 1}, "risky_overlap: expected 2 to 9"),
        ({"gold_every": 1}, "gold_every: expected 0 or at least 2"),
        ({"gold_every": -1}, "gold_every: expected 0 to"),
        ({"too_fast_ms": -5}, "too_fast_ms: expected 0 to"),
        ({"overlap": True}, "overlap: expected 1 to 9, found True"),
        ({"guidelines": {"de": "x"}}, "expected the languages en, tr"),
        ({"guidelines": {"en": "x" * 20_001}}, "at most 20,000 characters"),
        ({"guidelines": {"tr": "a\x00"}}, "text that can be stored"),
    ],
)
def test_a_policy_that_cannot_hold_is_refused(
    policies: Policies, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        policies.change(ENGINEER, "acme", ReviewPolicy(**values))
    assert policies.get(ENGINEER, "acme") == ReviewPolicy()


def test_a_group_changes_and_ends(policies: Policies) -> None:
    made = policies.change_group(
        ENGINEER, "acme", None, name=" Lawyers ", members=[ALI.id, BEA.id, ALI.id]
    )
    assert (made.name, made.members) == ("Lawyers", (ALI.id, BEA.id))
    assert policies.groups(ALI, "acme") == (made,)
    assert policies.groups(STRANGER, "globex") == ()
    smaller = policies.change_group(ENGINEER, "acme", made.id, name="Law", members=[BEA.id])
    assert policies.groups(ALI, "acme") == (smaller,)
    policies.change_group(ENGINEER, "acme", made.id, name="Law", members=[])
    assert policies.groups(ALI, "acme") == ()
    policies.change_group(ENGINEER, "acme", None, name="law", members=[ALI.id])


def test_a_group_that_cannot_be_is_refused(policies: Policies) -> None:
    made = policies.change_group(ENGINEER, "acme", None, name="Law", members=[ALI.id])
    for group_id, name, members, message in (
        (None, " ", [ALI.id], "name: expected a text"),
        (None, "law", [ALI.id], "no other group has"),
        (None, "New", [], "members: expected 1 to 500"),
        (made.id, "x" * 81, [ALI.id], "at most 80 characters"),
    ):
        with pytest.raises(InvalidInput, match=message):
            policies.change_group(ENGINEER, "acme", group_id, name=name, members=members)
    with pytest.raises(NotFound):
        policies.change_group(ENGINEER, "acme", "nowhere", name="x", members=[ALI.id])
    with pytest.raises(NotFound):
        policies.change_group(STRANGER, "globex", made.id, name="x", members=[ALI.id])


def test_a_group_with_work_does_not_end(
    policies: Policies, preferences: Preferences, database: Database
) -> None:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(2), source="file")
    made = policies.change_group(ENGINEER, "acme", None, name="Law", members=[ALI.id])
    change(database, pair_ids(preferences)[0], assignee=f"group:{made.id}")
    with pytest.raises(Conflict, match="1 unreviewed pairs are assigned to it"):
        policies.change_group(ENGINEER, "acme", made.id, name="Law", members=[])
