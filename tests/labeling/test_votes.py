from __future__ import annotations

import random

import pytest

from labeling.votes import Basis, current, latest_of_each
from services.db import Database
from services.preferences.models import Review
from tests.labeling.scene import ALI, BEA, CAN, Scene


def _ids(found: list[Review]) -> set[str]:
    return {vote.id for vote in found}


def test_only_votes_of_the_tenant_are_read(database: Database) -> None:
    with database.write() as session:
        ours, theirs = Scene(session), Scene(session, tenant_id="globex")
        vote = ours.vote(ours.pair(), ALI, 1)
        foreign = theirs.pair()
        theirs.vote(foreign, ALI, 1)
        assert _ids(current(session, "acme")) == {vote.id}
        assert current(session, "acme", [foreign.id]) == []


def test_a_vote_on_a_text_that_was_edited_since_is_history(database: Database) -> None:
    with database.write() as session:
        scene = Scene(session)
        edited, other = scene.pair(), scene.pair()
        scene.vote(edited, ALI, -2)
        kept = scene.vote(other, ALI, 1)
        scene.edit(edited, 1, "A better answer.")
        assert _ids(current(session, "acme")) == {kept.id}
        again = scene.vote(edited, ALI, 3)
        assert _ids(current(session, "acme")) == {kept.id, again.id}
        scene.edit(edited, 0, "Both are better now.")
        assert _ids(current(session, "acme")) == {kept.id}


def test_skips_and_edits_are_no_votes(database: Database) -> None:
    with database.write() as session:
        scene = Scene(session)
        pair = scene.pair()
        scene.skip(pair, ALI)
        scene.edit(pair, 0, "Edited.")
        assert current(session, "acme") == []


def test_a_vote_that_was_taken_back_does_not_count(database: Database) -> None:
    with database.write() as session:
        scene = Scene(session)
        pair = scene.pair()
        first = scene.vote(pair, ALI, 1)
        scene.undo(first, pair)
        kept = scene.vote(pair, BEA, 0)
        assert _ids(current(session, "acme")) == {kept.id}


def test_a_revision_takes_the_place_of_the_vote_until_it_is_taken_back(database: Database) -> None:
    with database.write() as session:
        scene = Scene(session)
        pair = scene.pair()
        first = scene.vote(pair, ALI, 1)
        revision = scene.vote(pair, ALI, -1, revises_id=first.id, is_revealed=True)
        assert _ids(current(session, "acme")) == {revision.id}
        scene.undo(revision, pair)
        assert _ids(current(session, "acme")) == {first.id}


def test_a_blind_vote_stays_what_it_was(database: Database) -> None:
    with database.write() as session:
        scene = Scene(session)
        pair = scene.pair()
        first = scene.vote(pair, ALI, 1)
        scene.vote(pair, ALI, -1, revises_id=first.id, is_revealed=True)
        assert _ids(current(session, "acme", basis=Basis.BLIND)) == {first.id}
        scene.undo(first, pair)
        assert current(session, "acme", basis=Basis.BLIND) == []


def test_the_later_vote_of_one_person_counts(database: Database) -> None:
    with database.write() as session:
        scene = Scene(session)
        pair = scene.pair()
        scene.vote(pair, ALI, 1)
        later, other = scene.vote(pair, ALI, 2), scene.vote(pair, BEA, -1)
        assert [vote.id for vote in current(session, "acme", [pair.id])] == [later.id, other.id]


def test_many_pairs_may_be_asked_for_at_once(database: Database) -> None:
    with database.write() as session:
        scene = Scene(session)
        pairs = [scene.pair() for _ in range(700)]
        for pair in pairs[::7]:
            scene.vote(pair, CAN, 1)
        assert len(current(session, "acme", [pair.id for pair in pairs])) == 100
        assert current(session, "acme", []) == []


@pytest.mark.parametrize("seed", range(6))
def test_the_rule_is_that_of_a_replay_of_all_actions(database: Database, seed: int) -> None:
    """The statement finds what following the actions one by one finds."""
    chance = random.Random(seed)
    with database.write() as session:
        scene = Scene(session)
        pairs = [scene.pair() for _ in range(4)]
        standing: dict[tuple[str, str], list[str]] = {}
        rows = {}
        for _ in range(60):
            pair, by = chance.choice(pairs), chance.choice([ALI, BEA, CAN])
            mine = standing.setdefault((pair.id, by.id), [])
            act = chance.choice(["vote", "vote", "revise", "undo", "edit"])
            if act == "vote" and not mine:
                row = scene.vote(pair, by, chance.randint(-3, 3))
                mine.append(row.id)
            elif act == "revise" and mine and not _was_revised(rows, mine[-1]):
                row = scene.vote(pair, by, chance.randint(-3, 3), revises_id=mine[-1])
                mine.append(row.id)
            elif act == "undo" and mine:
                row = scene.undo(rows[mine.pop()], pair)
            elif act == "edit" and chance.random() < 0.2:
                scene.edit(pair, chance.randint(0, 1), f"Text {chance.random()}")
                for (of_pair, _), votes in standing.items():
                    if of_pair == pair.id:
                        votes.clear()
                continue
            else:
                continue
            rows[row.id] = row
        expected = {votes[-1] for votes in standing.values() if votes}
        assert _ids(current(session, "acme")) == expected


def _was_revised(rows: dict, vote_id: str) -> bool:  # type: ignore[type-arg]
    """One row may revise a vote, ever: the column is unique."""
    return any(row.revises_id == vote_id for row in rows.values())


def test_nothing_is_the_latest_of_nothing() -> None:
    assert latest_of_each([]) == []
