from __future__ import annotations

import pytest

from labeling.queue import MAX_EDIT, ReviewQueue
from services.errors import Conflict, InvalidInput, NotFound, NotPermitted
from services.preferences.models import SKIP_REASONS
from services.preferences.service import Preferences
from tests.labeling.desks import ALI, BEA, card
from tests.services.preferences.conftest import Time
from tests.services.preferences.rows import ENGINEER, MANAGER, STRANGER, pairs_file


@pytest.fixture
def filled(preferences: Preferences, queue: ReviewQueue) -> ReviewQueue:
    preferences.import_pairs(ENGINEER, "acme", pairs_file(2), source="file")
    return queue


def test_others_see_and_keep_no_drafts(filled: ReviewQueue) -> None:
    for actor in (MANAGER, STRANGER):
        for call in (
            lambda actor=actor: filled.keep_draft(actor, "acme", "x", "y", "text"),
            lambda actor=actor: filled.drafts(actor, "acme", "x"),
            lambda actor=actor: filled.my_drafts(actor, "acme"),
            lambda actor=actor: filled.touch(actor, "acme", "x"),
            lambda actor=actor: filled.evidence(actor, "acme", "x"),
            lambda actor=actor: filled.reveal(actor, "acme", "x"),
            lambda actor=actor: filled.revise(actor, "acme", "x", verdict=1),
        ):
            with pytest.raises(NotPermitted):
                call()


def test_a_draft_comes_with_the_card_to_its_writer_alone(filled: ReviewQueue, time: Time) -> None:
    shown = card(filled)
    filled.keep_draft(ALI, "acme", shown.pair_id, shown.left.id, "half a sen")
    filled.keep_draft(ALI, "acme", shown.pair_id, shown.left.id, "half a sentence")
    assert card(filled).drafts == {shown.left.id: "half a sentence"}
    assert filled.drafts(ALI, "acme", shown.pair_id) == {shown.left.id: "half a sentence"}
    assert [one.text for one in filled.my_drafts(ALI, "acme")] == ["half a sentence"]
    time.pass_minutes(11)
    theirs = card(filled, BEA)
    assert theirs.pair_id == shown.pair_id
    assert theirs.drafts == {}
    assert filled.my_drafts(BEA, "acme") == ()


def test_a_saved_or_emptied_draft_is_gone(filled: ReviewQueue) -> None:
    shown = card(filled)
    for response in (shown.left, shown.right):
        filled.keep_draft(ALI, "acme", shown.pair_id, response.id, "a draft")
    filled.keep_draft(ALI, "acme", shown.pair_id, shown.right.id, "")
    version = filled.edit(ALI, "acme", shown.pair_id, shown.left.id, "Mended.")
    assert card(filled).drafts == {}
    filled.keep_draft(ALI, "acme", shown.pair_id, shown.left.id, "of the older text")
    assert card(filled).drafts == {version.id: "of the older text"}
    filled.edit(ALI, "acme", shown.pair_id, version.id, "Mended twice.")
    assert filled.my_drafts(ALI, "acme") == ()


def test_a_lease_lost_while_editing_keeps_the_draft_and_says_so(
    filled: ReviewQueue, time: Time
) -> None:
    shown = card(filled)
    time.pass_minutes(11)
    card(filled, BEA)
    with pytest.raises(Conflict, match="not your card any more.*kept as a draft"):
        filled.edit(ALI, "acme", shown.pair_id, shown.left.id, "Long work.")
    with pytest.raises(Conflict, match="not your card any more"):
        filled.touch(ALI, "acme", shown.pair_id)
    filled.skip(BEA, "acme", shown.pair_id, "unclear")
    again = card(filled)
    assert again.pair_id == shown.pair_id
    assert again.drafts == {shown.left.id: "Long work."}
    filled.edit(ALI, "acme", again.pair_id, again.left.id, again.drafts[again.left.id])


def test_an_edit_of_others_leaves_ones_draft(filled: ReviewQueue, time: Time) -> None:
    shown = card(filled)
    filled.keep_draft(ALI, "acme", shown.pair_id, shown.left.id, "mine")
    time.pass_minutes(11)
    card(filled, BEA)
    version = filled.edit(BEA, "acme", shown.pair_id, shown.left.id, "theirs")
    assert filled.drafts(ALI, "acme", shown.pair_id) == {version.id: "mine"}


def test_a_draft_that_cannot_be_kept_is_refused(filled: ReviewQueue) -> None:
    shown = card(filled)
    for text, message in (("a" * (MAX_EDIT + 1), "at most 100,000"), ("a\x00", "NUL")):
        with pytest.raises(InvalidInput, match=message):
            filled.keep_draft(ALI, "acme", shown.pair_id, shown.left.id, text)
    with pytest.raises(InvalidInput, match="id of a response of it"):
        filled.keep_draft(ALI, "acme", shown.pair_id, "other", "text")
    with pytest.raises(NotFound):
        filled.keep_draft(ALI, "acme", "nowhere", "other", "text")


def test_work_on_a_card_renews_its_lease(filled: ReviewQueue, time: Time) -> None:
    shown = card(filled)
    for _ in range(3):
        time.pass_minutes(9)
        assert filled.touch(ALI, "acme", shown.pair_id) > time.now
        assert card(filled, BEA).pair_id != shown.pair_id


def test_a_skip_needs_one_of_the_reasons(filled: ReviewQueue) -> None:
    shown = card(filled)
    with pytest.raises(InvalidInput, match="reason: expected not_my_field"):
        filled.skip(ALI, "acme", shown.pair_id, "bored")
    review = filled.skip(ALI, "acme", shown.pair_id, SKIP_REASONS[0], note="law")
    assert (review.reason, review.note) == (SKIP_REASONS[0], "law")
