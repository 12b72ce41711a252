"""Who may change a tenant's policy, and what is kept of each change."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select

from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import Conflict, InvalidInput, NotFound, NotPermitted
from services.guardrails.policy import default_policy
from services.guardrails.service import Guardrails
from services.tenants.models import Actor, Role

ADMIN = Actor("user", "u1", "Elif", {"legal": frozenset({Role.ADMIN})})
ANNOTATOR = Actor("user", "u2", "Mert", {"legal": frozenset({Role.ANNOTATOR})})
STRANGER = Actor("user", "u3", "Nil", {"medical": frozenset({Role.ADMIN})})
FIRST = "version: 1\nchecks: {pii: {places: [input]}}\n"
SECOND = "version: 1\nchecks: {}\n"


@pytest.fixture
def guardrails(database: Database) -> Guardrails:
    return Guardrails(database)


def test_another_tenant_can_neither_see_nor_change_a_policy(guardrails: Guardrails) -> None:
    guardrails.save(ADMIN, "legal", FIRST)
    for refused in (
        lambda: guardrails.save(STRANGER, "legal", SECOND),
        lambda: guardrails.current(STRANGER, "legal"),
        lambda: guardrails.versions(STRANGER, "legal"),
        lambda: guardrails.version(STRANGER, "legal", 1),
        lambda: guardrails.version(STRANGER, "legal", 0),
    ):
        with pytest.raises(NotPermitted):
            refused()
    assert guardrails.current(ADMIN, "legal").source == FIRST


def test_a_role_that_manages_no_tenant_changes_nothing(guardrails: Guardrails) -> None:
    with pytest.raises(NotPermitted):
        guardrails.save(ANNOTATOR, "legal", FIRST)
    assert guardrails.versions(ADMIN, "legal") == []


def test_each_change_is_a_new_version_and_none_is_lost(guardrails: Guardrails) -> None:
    assert guardrails.current(ADMIN, "legal").version == 0
    assert guardrails.current(ADMIN, "legal").source == default_policy().source
    assert guardrails.save(ADMIN, "legal", FIRST).version == 1
    assert guardrails.save(ADMIN, "legal", SECOND).version == 2
    assert guardrails.save(ADMIN, "legal", FIRST).version == 3
    found = guardrails.versions(ADMIN, "legal")
    assert [(one.version, one.source) for one in found] == [(3, FIRST), (2, SECOND), (1, FIRST)]
    assert found[0].digest == found[2].digest != found[1].digest
    assert guardrails.version(ADMIN, "legal", 2).source == SECOND
    assert guardrails.version(ADMIN, "legal", 0).actor_id == "system"
    with pytest.raises(NotFound, match="no policy version 4"):
        guardrails.version(ADMIN, "legal", 4)


def test_each_change_leaves_one_event_without_the_policy(
    guardrails: Guardrails, database: Database
) -> None:
    saved = guardrails.save(ADMIN, "legal", FIRST)
    with database.read() as session:
        [event] = session.scalars(select(OutboxRow))
        assert (event.action, event.tenant_id, event.actor_id) == ("policy.changed", "legal", "u1")
        assert event.details == {"version": 1, "digest": saved.digest}


def test_what_is_no_policy_is_not_saved(guardrails: Guardrails, database: Database) -> None:
    with pytest.raises(InvalidInput):
        guardrails.save(ADMIN, "legal", "version: 1\nchecks: {piii: {}}")
    assert guardrails.versions(ADMIN, "legal") == []
    with database.read() as session:
        assert session.scalars(select(OutboxRow)).all() == []


def test_who_saw_an_older_version_overwrites_nothing(guardrails: Guardrails) -> None:
    guardrails.save(ADMIN, "legal", FIRST, expected_version=0)
    with pytest.raises(Conflict, match="expected version 0 to be the newest, found 1"):
        guardrails.save(ADMIN, "legal", SECOND, expected_version=0)
    assert guardrails.current(ADMIN, "legal").version == 1


def test_of_writers_at_once_that_saw_the_same_only_one_wins(guardrails: Guardrails) -> None:
    outcomes: list[object] = []
    gate = threading.Barrier(6)

    def write(number: int) -> None:
        gate.wait()
        source = SECOND + f"# {number}\n"
        try:
            outcomes.append(guardrails.save(ADMIN, "legal", source, expected_version=0).version)
        except Conflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["1", *["conflict"] * 5]
    assert len(guardrails.versions(ADMIN, "legal")) == 1


def test_the_gateway_sees_the_newest_of_each_tenant(guardrails: Guardrails) -> None:
    assert guardrails.live() == {}
    guardrails.save(ADMIN, "legal", FIRST)
    guardrails.save(ADMIN, "legal", SECOND)
    guardrails.save(STRANGER, "medical", FIRST)
    assert guardrails.live() == {"legal": (2, SECOND), "medical": (1, FIRST)}
