"""The signed history against the log: what is taken away, at its end too, is noticed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from services.attestation.keys import Keyring
from services.attestation.statements import sign_statement
from services.audit.outbox import OutboxRow
from services.audit.service import AuditLog
from services.db import Database
from services.errors import NotFound, Unavailable
from services.rollouts.backends import Applied, Capabilities, EffectiveSplit, Plan, Previous
from services.rollouts.driving.store import StatementRow
from services.rollouts.history import Flaw, History
from services.rollouts.models import Rollout
from services.rollouts.statements import PREDICATE_TYPE
from services.rollouts.store import StepRow
from tests.services.rollouts.conftest import ENGINEER, STRANGER, Stage, build_stage
from tests.services.rollouts.driven import Course


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys")


@pytest.fixture
def stage(database: Database, tmp_path: Path, keyring: Keyring) -> Stage:
    def sign(subjects: Mapping[str, str], predicate: Mapping[str, Any]) -> dict[str, Any]:
        return sign_statement(PREDICATE_TYPE, subjects, predicate, keyring.key("event"))

    return build_stage(database, tmp_path, sign=sign)


@pytest.fixture
def history(stage: Stage, keyring: Keyring) -> History:
    return History(stage.db, stage.rollouts, keyring.jwks)


@pytest.fixture
def rollout(stage: Stage) -> Rollout:
    """Three signed steps; the first two are in the log, the third is on its way into it."""
    begun = stage.rollouts.start(ENGINEER, "legal", "legal", stage.adapter(1), percent=10)
    stage.rollouts.step(ENGINEER, begun.id, 40)
    log = AuditLog(stage.db, origin="test", sign_note=str, open_note=lambda note: note)
    log.sequence()
    return stage.rollouts.rollback(ENGINEER, begun.id, reason="it repeats itself")


def _flaws(history: History, rollout: Rollout) -> list[tuple[Flaw, int]]:
    found = history.check(ENGINEER, rollout.id)
    assert found.is_whole == (not found.flaws)
    return [(one.flaw, one.seq) for one in found.flaws]


def _take_away(stage: Stage, row: type[StatementRow] | type[StepRow], seq: int) -> None:
    with stage.db.write() as session:
        session.execute(delete(row).where(row.seq == seq))


def test_a_whole_history_is_said_to_be_whole(history: History, rollout: Rollout) -> None:
    found = history.check(ENGINEER, rollout.id)
    assert (found.signed, found.logged, found.flaws) == (3, 3, ())


def test_the_newest_statement_is_missed(stage: Stage, history: History, rollout: Rollout) -> None:
    _take_away(stage, StatementRow, 3)
    assert _flaws(history, rollout) == [(Flaw.MISSING, 3)]
    [found] = history.check(ENGINEER, rollout.id).flaws
    assert found.sentence() == "step 3: the log names its statement, and there is none"


def test_the_newest_statement_is_missed_even_if_its_step_went_with_it(
    stage: Stage, history: History, rollout: Rollout
) -> None:
    _take_away(stage, StatementRow, 3)
    _take_away(stage, StepRow, 3)
    assert _flaws(history, rollout) == [(Flaw.MISSING, 3)]


def test_a_step_alone_is_missed(stage: Stage, history: History, rollout: Rollout) -> None:
    _take_away(stage, StepRow, 3)
    assert _flaws(history, rollout) == [(Flaw.STEPLESS, 3)]


def test_a_statement_in_the_middle_is_missed_twice(
    stage: Stage, history: History, rollout: Rollout
) -> None:
    _take_away(stage, StatementRow, 2)
    assert _flaws(history, rollout) == [(Flaw.MISSING, 2), (Flaw.UNCHAINED, 3)]


def test_a_statement_that_the_log_does_not_know_is_told(
    stage: Stage, history: History, rollout: Rollout
) -> None:
    with stage.db.write() as session:
        session.execute(delete(OutboxRow).where(OutboxRow.action == "rollout.rolled_back"))
    assert _flaws(history, rollout) == [(Flaw.UNLOGGED, 3)]
    _take_away(stage, StatementRow, 3)
    assert _flaws(history, rollout) == [(Flaw.UNSIGNED, 3)]


def test_a_statement_in_the_place_of_another_is_told(
    stage: Stage, history: History, rollout: Rollout
) -> None:
    with stage.db.write() as session:
        first = session.get_one(StatementRow, (rollout.id, 1))
        session.execute(
            update(StatementRow).where(StatementRow.seq == 3).values(envelope=first.envelope)
        )
    assert _flaws(history, rollout) == [(Flaw.FOREIGN, 3)]


def test_a_signature_that_does_not_hold_is_told(
    stage: Stage, history: History, rollout: Rollout
) -> None:
    with stage.db.write() as session:
        row = session.get_one(StatementRow, (rollout.id, 2))
        row.envelope = {**row.envelope, "payload": row.envelope["payload"][::-1]}
    assert _flaws(history, rollout) == [(Flaw.REFUSED, 2)]


def test_another_tenant_is_told_nothing(history: History, rollout: Rollout) -> None:
    for refused in (history.check, history.changes):
        with pytest.raises(NotFound, match="there is no rollout"):
            refused(STRANGER, rollout.id)


@dataclass
class Patched:
    """A cluster that follows at once; its rollback fails after the first of two patches."""

    percent: int = 0
    restored: int = 0
    name: str = "patched"
    generation: int = field(default=1)

    def probe(self, target: Mapping[str, str]) -> Capabilities:
        return Capabilities(self.name, "prod/x", is_sticky=False)

    def capture(self, plan: Plan) -> Previous:
        return Previous(self.name, {})

    def effective(self, plan: Plan) -> EffectiveSplit:
        return EffectiveSplit(self.percent, True, True, "the object")

    def _patch(self, plan: Plan, percent: int) -> None:
        self.percent, self.generation = percent, self.generation + 1
        plan.witness({"object": "prod/x", "generation": str(self.generation)})

    def apply(self, plan: Plan) -> Applied:
        if plan.percent == self.percent:
            return Applied(plan.percent, changed=False)
        self._patch(plan, plan.percent)
        return Applied(plan.percent, changed=True)

    def restore(self, plan: Plan, previous: Previous) -> None:
        self.restored += 1
        if self.restored == 1:
            self._patch(plan, 0)
            raise Unavailable("the cluster does not follow")
        self._patch(plan, 0)


def test_what_was_changed_on_a_cluster_is_in_the_log_with_its_step(
    database: Database, tmp_path: Path, keyring: Keyring
) -> None:
    course = Course(database, tmp_path, others=(Patched(),))
    begun = course.launch(backend="patched")
    course.turn(2, times=5)
    assert course.states(begun)[-1] == ("stepping", 10)
    course.stage.rollouts.rollback(ENGINEER, begun.id, reason="enough")
    course.turn(2, times=3)
    found = History(database, course.stage.rollouts, keyring.jwks).changes(ENGINEER, begun.id)
    assert [(one.seq, one.evidence["generation"]) for one in found] == [
        (3, "2"), (4, "3"), (4, "4"),
    ]  # fmt: skip
