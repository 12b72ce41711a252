from __future__ import annotations

import pytest
from sqlalchemy import func, select, update

from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import Conflict, InvalidInput, NotFound, NotPermitted
from services.preferences.bulk import Bulk, Kind
from services.preferences.filters import Filters
from services.preferences.models import Pair, PairStatus
from services.preferences.service import Preferences
from services.preferences.store import BulkChangeRow, DecisionRow, PairRow
from tests.services.preferences.conftest import Time
from tests.services.preferences.rows import (
    ANNOTATOR,
    ENGINEER,
    MANAGER,
    STRANGER,
    jsonl,
    pairs_file,
    trl,
)

ALL = Filters()
UNREVIEWED, APPROVED, REJECTED, DISPUTED = (
    PairStatus.UNREVIEWED, PairStatus.APPROVED, PairStatus.REJECTED, PairStatus.DISPUTED,
)  # fmt: skip


@pytest.fixture
def bulk(database: Database, preferences: Preferences, time: Time) -> Bulk:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(5), source="file")
    return Bulk(database, clock=time)


def pairs(preferences: Preferences) -> list[Pair]:
    return list(preferences.pairs(ENGINEER, "acme", limit=1_000).pairs)


def statuses(preferences: Preferences) -> list[PairStatus]:
    return [one.status for one in pairs(preferences)]


def put(database: Database, pair_id: str, **values: object) -> None:
    with database.write() as session:
        session.execute(update(PairRow).where(PairRow.id == pair_id).values(**values))


def rows(database: Database, table: type) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


@pytest.mark.parametrize("actor", [STRANGER, MANAGER, ANNOTATOR])
def test_only_those_who_may_edit_pairs_change_many(bulk: Bulk, actor: object) -> None:
    with pytest.raises(NotPermitted):
        bulk.preview(actor, "acme", Kind.REJECT, ALL)  # type: ignore[arg-type]
    with pytest.raises(NotPermitted):
        bulk.run(actor, "acme", Kind.REJECT, ALL)  # type: ignore[arg-type]
    with pytest.raises(NotPermitted):
        bulk.undo(actor, "acme", "x")  # type: ignore[arg-type]


def test_another_tenants_pairs_and_actions_stay_out_of_reach(
    bulk: Bulk, preferences: Preferences
) -> None:
    preferences.import_pairs(STRANGER, "globex", pairs_file(2), source="file")
    done = bulk.run(ENGINEER, "acme", Kind.REJECT, ALL)
    assert done.changed == 5
    assert preferences.counts(STRANGER, "globex")[UNREVIEWED] == 2
    with pytest.raises(NotFound):
        bulk.undo(STRANGER, "globex", done.id)
    assert bulk.actions(STRANGER, "globex") == []


def test_an_approval_of_many_leaves_a_decision_each_and_one_audit_event(
    bulk: Bulk, preferences: Preferences, database: Database
) -> None:
    tie = {"instruction": "Sky?", "output_1": "a", "output_2": "b", "preference": None}
    preferences.import_pairs(ENGINEER, "acme", jsonl(tie), source="ties")
    first = pairs(preferences)[0]
    preferences.decide(ENGINEER, "acme", first.id, verdict=REJECTED)
    seen = bulk.preview(ENGINEER, "acme", Kind.APPROVE, ALL)
    assert (seen.matched, seen.changed) == (6, 4)
    events = rows(database, OutboxRow)
    done = bulk.run(ENGINEER, "acme", Kind.APPROVE, ALL, reason="sampled", expected=4)
    assert (done.changed, done.undone, rows(database, OutboxRow)) == (4, None, events + 1)
    assert statuses(preferences) == [REJECTED, *[APPROVED] * 4, UNREVIEWED]
    one = preferences.pair(ENGINEER, "acme", pairs(preferences)[1].id)
    assert one.chosen_response_id == one.imported_preference
    assert one.history is not None
    (decision,) = one.history.decisions
    assert (decision.number, decision.reason, decision.actor_id) == (1, "sampled", ENGINEER.id)
    assert decision.mark == "bulk"
    assert decision.rejected_response_id in {each.id for each in one.responses}
    (change,) = bulk.changes_of(ENGINEER, "acme", one.id)
    assert (change.action.id, change.before, change.after) == (done.id, "unreviewed", "approved")


def test_nothing_is_changed_when_the_count_is_not_the_agreed_one(
    bulk: Bulk, preferences: Preferences, database: Database
) -> None:
    with pytest.raises(Conflict, match=r"expected to change 4 .* found 5"):
        bulk.run(ENGINEER, "acme", Kind.REJECT, ALL, expected=4)
    with pytest.raises(Conflict, match="found none"):
        bulk.run(ENGINEER, "acme", Kind.REJECT, Filters(query="nothing"))
    assert statuses(preferences) == [UNREVIEWED] * 5
    assert rows(database, DecisionRow) == rows(database, BulkChangeRow) == 0


def test_an_undo_restores_what_held_and_leaves_what_was_touched_since(
    bulk: Bulk, preferences: Preferences, time: Time
) -> None:
    bulk.run(ENGINEER, "acme", Kind.APPROVE, Filters(query="what"))
    chosen = [one.chosen_response_id for one in pairs(preferences)]
    time.pass_minutes(1)
    done = bulk.run(ENGINEER, "acme", Kind.REJECT, ALL)
    time.pass_minutes(1)
    touched = pairs(preferences)[2]
    preferences.decide(ENGINEER, "acme", touched.id, verdict=UNREVIEWED)
    undo = bulk.undo(ENGINEER, "acme", done.id)
    assert (undo.changed, undo.undoes_id) == (4, done.id)
    assert statuses(preferences) == [APPROVED, APPROVED, UNREVIEWED, APPROVED, APPROVED]
    kept = [one.chosen_response_id for one in pairs(preferences)]
    assert [a == b for a, b in zip(kept, chosen, strict=True)] == [True, True, False, True, True]
    assert [one.undone for one in bulk.actions(ENGINEER, "acme")] == [4, None]
    with pytest.raises(Conflict, match="taken back"):
        bulk.undo(ENGINEER, "acme", done.id)
    with pytest.raises(Conflict, match="an undo"):
        bulk.undo(ENGINEER, "acme", undo.id)


def test_an_undo_with_nothing_left_to_restore_is_refused(
    bulk: Bulk, preferences: Preferences
) -> None:
    done = bulk.run(ENGINEER, "acme", Kind.REJECT, ALL)
    for one in pairs(preferences):
        preferences.decide(ENGINEER, "acme", one.id, verdict=UNREVIEWED)
    with pytest.raises(Conflict, match="changed since"):
        bulk.undo(ENGINEER, "acme", done.id)


def test_a_first_decision_that_is_undone_leaves_the_pair_unreviewed(
    bulk: Bulk, preferences: Preferences
) -> None:
    done = bulk.run(ENGINEER, "acme", Kind.APPROVE, ALL)
    bulk.undo(ENGINEER, "acme", done.id, reason="too early")
    assert statuses(preferences) == [UNREVIEWED] * 5
    assert {one.chosen_response_id for one in pairs(preferences)} == {None}


def test_reopened_pairs_ask_one_more_person(
    bulk: Bulk, preferences: Preferences, database: Database
) -> None:
    bulk.run(ENGINEER, "acme", Kind.REJECT, ALL)
    first = pairs(preferences)[0]
    put(database, first.id, taken=1, status=DISPUTED.value)
    assert bulk.run(ENGINEER, "acme", Kind.REOPEN, ALL).changed == 5
    assert statuses(preferences) == [UNREVIEWED] * 5
    assert [one.overlap for one in pairs(preferences)] == [2, 1, 1, 1, 1]


def test_pairs_are_assigned_unless_another_program_has_them(
    bulk: Bulk, preferences: Preferences, database: Database
) -> None:
    ids = [one.id for one in pairs(preferences)]
    put(database, ids[0], assignee="label-studio:7")
    preferences.decide(ENGINEER, "acme", ids[1], verdict=REJECTED)
    done = bulk.run(ENGINEER, "acme", Kind.ASSIGN, ALL, value="group:g1")
    assert done.changed == 3
    assert preferences.pairs(ENGINEER, "acme", assignee="group:g1").total == 3
    put(database, ids[2], assignee="user:u9")
    assert bulk.undo(ENGINEER, "acme", done.id).changed == 2
    assert [one.assignee for one in pairs(preferences)] == [
        "label-studio:7", None, "user:u9", None, None,
    ]  # fmt: skip
    assert bulk.run(ENGINEER, "acme", Kind.ASSIGN, ALL, value=None).changed == 1


def test_the_overlap_is_lowered_only_where_nobody_has_begun(
    bulk: Bulk, preferences: Preferences, database: Database
) -> None:
    ids = [one.id for one in pairs(preferences)]
    put(database, ids[0], overlap=3, taken=1)
    put(database, ids[1], overlap=3)
    put(database, ids[2], taken=1)
    done = bulk.run(ENGINEER, "acme", Kind.OVERLAP, ALL, value="2")
    assert [one.overlap for one in pairs(preferences)] == [3, 2, 2, 2, 2]
    put(database, ids[3], taken=2)
    assert bulk.undo(ENGINEER, "acme", done.id).changed == 2
    assert [one.overlap for one in pairs(preferences)] == [3, 3, 2, 2, 1]


def test_only_approved_pairs_are_planted(bulk: Bulk, preferences: Preferences) -> None:
    first = pairs(preferences)[0]
    better = first.responses[1]
    preferences.decide(ENGINEER, "acme", first.id, verdict=APPROVED, chosen_response_id=better.id)
    done = bulk.run(ENGINEER, "acme", Kind.PLANT, ALL)
    assert [one.gold_response_id for one in pairs(preferences)] == [better.root_id, *[None] * 4]
    assert bulk.preview(ENGINEER, "acme", Kind.UNPLANT, ALL).changed == done.changed == 1
    bulk.undo(ENGINEER, "acme", done.id)
    assert preferences.pairs(ENGINEER, "acme", is_gold=True).total == 0


def test_an_evaluation_prompt_takes_all_of_its_pairs_along(
    bulk: Bulk, preferences: Preferences
) -> None:
    same = [trl(9, rejected=word, source=word) for word in ("Red.", "Green.", "Grey.")]
    preferences.import_pairs(ENGINEER, "acme", jsonl(*same), source="more")
    one_of_three = Filters(query="green")
    assert bulk.preview(ENGINEER, "acme", Kind.EVALUATION, one_of_three).matched == 1
    done = bulk.run(ENGINEER, "acme", Kind.EVALUATION, one_of_three)
    assert done.changed == 3
    assert [one.is_evaluation for one in pairs(preferences)] == [False] * 5 + [True] * 3
    assert bulk.undo(ENGINEER, "acme", done.id).changed == 3
    assert preferences.pairs(ENGINEER, "acme", is_evaluation=True).total == 0


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.OVERLAP, None), (Kind.OVERLAP, "0"), (Kind.OVERLAP, "10"), (Kind.OVERLAP, "many"),
        (Kind.ASSIGN, "label-studio:1"), (Kind.ASSIGN, "user:"), (Kind.REJECT, "x"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused(bulk: Bulk, kind: Kind, value: str | None) -> None:
    with pytest.raises(InvalidInput):
        bulk.run(ENGINEER, "acme", kind, ALL, value=value)
