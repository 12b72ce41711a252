from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest

from console import wiring
from console.i18n import catalogue
from labeling.models import ReviewPolicy
from services.bootstrap import Services
from services.db import new_id
from services.preferences.models import (
    CRITERIA,
    FLAGS,
    SKIP_REASONS,
    PairStatus,
    Review,
    ReviewKind,
)
from services.preferences.store import JudgmentRow
from services.tenants.models import Actor
from tests.pages.conftest import SYSTEM, OpenPage, texts
from tests.pages.desk import DeskPage

ROWS = (
    {"prompt": "What is the capital of Turkey?", "chosen": "Ankara.", "rejected": "Istanbul.",
     "chosen_score": 8.5, "rejected_score": 4.1},
    {"prompt": "Say <b>hi</b>.", "chosen": "<script>alert(1)</script>", "rejected": "**hi**"},
)  # fmt: skip
ALIKE = (ROWS[0], ROWS[0] | {"prompt": "Which city is the capital of Turkey?"})
"""For tests that look into the first card: one card in ten is drawn by lot, so it may be any."""
OpenDesk = Callable[..., DeskPage]


def _bring(
    services: Services, tenant_id: str = "acme", rows: tuple[dict[str, Any], ...] = ROWS
) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    services.preferences.import_pairs(SYSTEM, tenant_id, BytesIO(lines.encode()), source="rows")


@pytest.fixture
def pairs(services: Services) -> Services:
    _bring(services)
    return services


@pytest.fixture
def open_desk(open_page: OpenPage) -> OpenDesk:
    def open_(actor: str = "annotator", **how: str) -> DeskPage:
        return DeskPage(open_page("review", actor=actor, **how))

    return open_


def _reviews(services: Services, pair_id: str) -> tuple[Review, ...]:
    history = services.preferences.pair(SYSTEM, "acme", pair_id).history
    assert history is not None
    return history.reviews


def test_the_wrong_role_is_refused(open_page: OpenPage) -> None:
    assert "You may not do this" in open_page("review", actor="admin").error[0].value


def test_another_tenants_cards_are_out_of_reach(open_desk: OpenDesk, pairs: Services) -> None:
    _bring(pairs, "globex")
    pair_id = pairs.preferences.pairs(SYSTEM, "globex").pairs[0].id
    desk = open_desk(tenant="globex")
    desk.act("vote", pair=pair_id, verdict=1)
    assert desk.page.error
    desk.act("vote", verdict=1)
    assert pairs.preferences.stats(SYSTEM, "globex").reviews == 0
    assert pairs.preferences.stats(SYSTEM, "acme").reviews == 1


@pytest.mark.parametrize(("language", "said"), [("en", "No pairs yet"), ("tr", "Henüz çift yok")])
def test_a_tenant_without_pairs_says_where_they_come_from(
    open_desk: OpenDesk, services: Services, language: str, said: str
) -> None:
    desk = open_desk(language=language)
    assert desk.sent["card"] is None
    assert desk.sent["empty"]["title"] == said


def test_a_vote_names_the_answer_that_was_seen_on_that_side(
    open_desk: OpenDesk, services: Services
) -> None:
    _bring(services, rows=ALIKE)
    desk = open_desk()
    left = desk.card["left"]["html"]
    desk.act("vote", verdict=-3)
    [pair] = services.preferences.pairs(SYSTEM, "acme", status=PairStatus.APPROVED).pairs
    chosen = pair.response(pair.chosen_response_id)
    assert chosen is not None
    assert chosen.text in left
    assert desk.sent["progress"] == {"value": 0.5, "text": "1 of 2 pairs reviewed · 1 by you"}


@pytest.mark.parametrize(
    ("verdict", "strength"), [(-3, 3), (-1, 1), (0, 0), (2, 2), ("both_bad", None)]
)
def test_each_verdict_stores_its_grade(
    open_desk: OpenDesk, pairs: Services, verdict: int | str, strength: int | None
) -> None:
    desk = open_desk()
    pair_id = desk.card["pair"]
    desk.act("vote", verdict=verdict)
    [review] = _reviews(pairs, pair_id)
    assert (review.kind, review.strength) == (ReviewKind.VOTE, strength)


def test_a_vote_carries_all_that_was_said_with_it(open_desk: OpenDesk, pairs: Services) -> None:
    desk = open_desk()
    card = desk.card
    ratings = {card["left"]["id"]: {"accuracy": 5}, card["right"]["id"]: {"clarity": 1}}
    desk.act("vote", verdict=-1, ratings=ratings, flags=["unsafe"], note="İyi.", active_ms=1)
    [review] = _reviews(pairs, card["pair"])
    assert review.ratings == ratings
    assert (review.flags, review.note, review.active_ms) == (("unsafe",), "İyi.", 1)
    assert not review.is_revealed


def test_no_more_time_is_believed_than_has_passed(open_desk: OpenDesk, pairs: Services) -> None:
    desk = open_desk()
    pair_id = desk.card["pair"]
    desk.act("vote", verdict=1, active_ms=3_600_000)
    [review] = _reviews(pairs, pair_id)
    assert review.active_ms is not None
    assert review.active_ms < 600_000


def test_an_act_that_is_told_twice_counts_once(open_desk: OpenDesk, pairs: Services) -> None:
    desk = open_desk()
    card = desk.card
    for _ in range(2):
        desk.act("vote", n="the-same", pair=card["pair"], left=card["left"]["id"],
                 right=card["right"]["id"], verdict=2)  # fmt: skip
    assert pairs.preferences.stats(SYSTEM, "acme").reviews == 1
    assert not desk.page.error
    assert desk.sent["seen"] == "the-same"


def test_a_verdict_on_a_text_that_another_window_changed_is_refused(
    open_desk: OpenDesk, pairs: Services, actor_of: Callable[[str], Actor]
) -> None:
    desk = open_desk()
    card = desk.card
    wiring.review_queue().edit(
        actor_of("annotator"), "acme", card["pair"], card["left"]["id"], "Quite another answer."
    )
    desk.act("vote", verdict=-2)
    assert desk.page.error
    assert [one.kind for one in _reviews(pairs, card["pair"])] == [ReviewKind.EDIT]
    assert "Quite another answer." in desk.card["left"]["html"]


@pytest.mark.parametrize(
    "value",
    ["vote", {"do": "vote"}, {"do": "drop", "n": "1"}, {"do": "vote", "n": "1", "verdict": 9},
     {"do": "vote", "n": "1", "verdict": True}, {"do": "vote", "n": "1", "flags": "unsafe"},
     {"do": "vote", "n": "1", "ratings": {"x": {"accuracy": 9}}},
     {"do": "skip", "n": "1", "reason": "bored"}, {"do": "draft", "n": "1", "drafts": {"x": "y"}},
     {"do": "save", "n": "1", "more": "than asked"}, {"do": "touch", "n": "x" * 65}],
)  # fmt: skip
def test_nonsense_from_a_browser_is_refused_in_one_sentence(
    open_desk: OpenDesk, pairs: Services, value: object
) -> None:
    desk = open_desk()
    before = desk.card["pair"]
    told = {**value, "pair": before} if isinstance(value, dict) else value
    desk.say(told)
    assert len(desk.page.error) == 1
    assert desk.card["pair"] == before
    assert pairs.preferences.stats(SYSTEM, "acme").reviews == 0


def test_nothing_of_the_ai_is_sent_before_the_vote(open_desk: OpenDesk, services: Services) -> None:
    alpaca = {
        "instruction": "Capital?", "output_1": "Ankara.", "output_2": "Istanbul.",
        "generator_1": "model-anka", "generator_2": "model-boran", "preference": 1.2,
    }  # fmt: skip
    rows = json.dumps([alpaca, {**alpaca, "instruction": "Largest city?"}]).encode()
    services.preferences.import_pairs(SYSTEM, "acme", BytesIO(rows), source="alpaca")
    for pair in services.preferences.pairs(SYSTEM, "acme").pairs:
        _judge(services, pair.id, pair.responses[0].id, pair.responses[1].id, "because-of-anka")
    secrets = ("model-anka", "model-boran", "judge-7", "because-of-anka")
    desk = open_desk()
    for act in ("touch", "edit", "close", "difference"):
        sent = json.dumps(desk.act(act).sent)
        assert not [secret for secret in secrets if secret in sent]
    desk.act("vote", verdict=1)
    strip = json.dumps(desk.sent["last"])
    assert [secret in strip for secret in secrets] == [True, True, True, False]
    card = json.dumps(desk.card)
    assert not [secret for secret in secrets if secret in card]
    revealed = json.dumps(desk.act("revise").card)
    assert [secret in revealed for secret in secrets] == [True] * 4


def _judge(services: Services, pair_id: str, first: str, second: str, reason: str) -> None:
    with services.db.write() as session:
        session.add(
            JudgmentRow(
                id=new_id(), tenant_id="acme", pair_id=pair_id, first_response_id=first,
                second_response_id=second, preferred_response_id=first, scores={},
                reason=reason, judge="judge-7", revision="1", created_at=datetime.now(UTC),
            )
        )  # fmt: skip


def _voted(desk: DeskPage, text: str, *, likes: bool) -> dict[str, Any]:
    """Vote for or against the answer with a text; the strip about it."""
    is_left = text in desk.card["left"]["html"]
    desk.act("vote", verdict=-2 if is_left is likes else 2)
    last: dict[str, Any] = desk.sent["last"]
    return last


@pytest.mark.parametrize(("likes", "tone"), [(True, "same"), (False, "other")])
def test_after_the_vote_the_ai_is_revealed(
    open_desk: OpenDesk, services: Services, likes: bool, tone: str
) -> None:
    _bring(services, rows=ROWS[:1])
    desk = open_desk()
    ankara_is = "left" if "Ankara" in desk.card["left"]["html"] else "right"
    last = _voted(desk, "Ankara", likes=likes)
    assert last["tone"] == tone
    assert last["ai"] == f"AI said {ankara_is}, much better"
    assert last["facts"].count("8.5") == last["facts"].count("4.1") == 1


def test_scores_of_the_text_before_an_edit_are_said_to_be_that(
    open_desk: OpenDesk, services: Services
) -> None:
    _bring(services, rows=ROWS[:1])
    desk = open_desk().act("edit")
    desk.act("save", response=desk.card["left"]["id"], text="Another answer.").act(
        "vote", verdict=1
    )
    assert desk.sent["last"]["ai"].endswith("of the text before the edit")
    assert desk.sent["last"]["tone"] == "none"


def test_a_judge_that_contradicts_itself_is_said_to(
    open_desk: OpenDesk, services: Services
) -> None:
    _bring(services, rows=ROWS[1:])
    pair = services.preferences.pairs(SYSTEM, "acme").pairs[0]
    one, other = (response.id for response in pair.responses)
    _judge(services, pair.id, one, other, "first")
    _judge(services, pair.id, other, one, "second")
    desk = open_desk()
    desk.act("vote", verdict=1)
    assert "judge-7 contradicted itself" in desk.sent["last"]["ai"]
    assert desk.sent["last"]["tone"] == "none"


def test_where_the_policy_reveals_nothing_nothing_is_sent(
    open_desk: OpenDesk, pairs: Services
) -> None:
    wiring.policies().change(SYSTEM, "acme", ReviewPolicy(is_revealing=False))
    desk = open_desk()
    last = _voted(desk, "Ankara", likes=True)
    assert (last["ai"], last["facts"], last["tone"]) == ("", "", "none")
    desk.act("revise")
    assert desk.card["mode"] == "revise"
    assert "8.5" not in json.dumps(desk.sent)


def test_a_revised_vote_leaves_both_and_brings_back_the_next_card(
    open_desk: OpenDesk, services: Services
) -> None:
    _bring(services, rows=ALIKE)
    desk = open_desk()
    first = desk.card["pair"]
    desk.act("vote", verdict=-1, note="first thought")
    second = desk.card["pair"]
    desk.act("revise")
    assert (desk.card["pair"], desk.card["mode"]) == (first, "revise")
    assert desk.card["vote"] == {
        "verdict": -1, "ratings": {}, "flags": [], "note": "first thought"
    }  # fmt: skip
    assert [sorted(row[1:]) for row in desk.card["evidence"]["rows"]] == [["4.1", "8.5"]]
    desk.act("revote", verdict=3, note="second thought")
    assert (desk.card["pair"], desk.card["mode"]) == (second, "judge")
    old, new = _reviews(services, first)
    assert (old.note, new.note, new.revises_id) == ("first thought", "second thought", old.id)
    assert (old.is_revealed, new.is_revealed) == (False, True)


def test_a_verdict_that_is_kept_changes_nothing(open_desk: OpenDesk, pairs: Services) -> None:
    desk = open_desk()
    first = desk.card["pair"]
    desk.act("vote", verdict=-1).act("revise").act("keep")
    assert desk.card["mode"] == "judge"
    assert desk.card["pair"] != first
    assert len(_reviews(pairs, first)) == 1


def test_skip_gives_its_reason_and_undo_brings_the_card_back(
    open_desk: OpenDesk, pairs: Services
) -> None:
    desk = open_desk()
    first = desk.card["pair"]
    desk.act("skip", reason="too_long", note="later")
    assert desk.card["pair"] != first
    [review] = _reviews(pairs, first)
    assert (review.kind, review.reason, review.note) == (ReviewKind.SKIP, "too_long", "later")
    assert desk.act("undo").card["pair"] == first
    desk.act("undo")
    assert "nothing to take back" in texts(desk.page)


def test_a_revision_that_is_undone_stands_open_again(open_desk: OpenDesk, pairs: Services) -> None:
    desk = open_desk()
    first = desk.card["pair"]
    desk.act("vote", verdict=-1).act("revise").act("revote", verdict=2).act("undo")
    assert (desk.card["pair"], desk.card["mode"]) == (first, "revise")


def test_an_edit_is_a_new_version_and_the_card_stays(open_desk: OpenDesk, pairs: Services) -> None:
    desk = open_desk().act("edit")
    first = desk.card
    assert first["mode"] == "edit"
    desk.act("save", response=first["left"]["id"], text="Ankara, since 1923.", reason="a date")
    assert (desk.card["pair"], desk.card["mode"]) == (first["pair"], "judge")
    assert "Ankara, since 1923." in desk.card["left"]["html"]
    assert desk.card["left"]["notes"] == ["edited, version 2"]
    [review] = _reviews(pairs, first["pair"])
    assert (review.kind, review.reason) == (ReviewKind.EDIT, "a date")


def test_an_unchanged_edit_is_refused_in_words(open_desk: OpenDesk, pairs: Services) -> None:
    desk = open_desk().act("edit")
    left = desk.card["left"]
    desk.act("save", response=left["id"], text=left["text"])
    assert "same as before" in desk.page.error[0].value
    assert desk.card["mode"] == "edit"


def test_a_draft_shows_what_it_changes_and_outlives_the_session(
    open_desk: OpenDesk, pairs: Services
) -> None:
    desk = open_desk().act("edit")
    left = desk.card["left"]
    desk.act("draft", drafts={left["id"]: left["text"] + " Truly."})
    assert desk.card["mode"] == "edit"
    assert "<ins> Truly.</ins>" in desk.card["left"]["change"]
    again = open_desk()
    assert again.card["left"]["notes"] == ["unsaved draft"]
    assert again.act("edit").card["left"]["draft"] == left["text"] + " Truly."
    again.act("close", drafts={left["id"]: ""})
    assert again.card["left"]["notes"] == []


def test_a_card_that_is_lost_while_editing_keeps_the_draft_and_says_so(
    open_desk: OpenDesk, pairs: Services, actor_of: Callable[[str], Actor]
) -> None:
    desk = open_desk().act("edit")
    card = desk.card
    pairs.preferences.approve_imported(SYSTEM, "acme")
    desk.act("save", response=card["left"]["id"], text="Mended too late.")
    said = texts(desk.page)
    assert "kept as a draft" in said
    assert "1 kept draft" in desk.page.expander[0].label
    assert "Mended too late." in said
    assert desk.sent["card"] is None


def test_a_models_text_is_escaped(open_desk: OpenDesk, pairs: Services) -> None:
    desk = open_desk()
    if "Ankara" in json.dumps(desk.card):
        desk.act("skip", reason="other")
    for act in ("touch", "markdown", "difference", "whole"):
        shown = json.dumps(desk.act(act).card)
        assert "<script>" not in shown
        assert "<b>hi" not in shown
        assert "&lt;script&gt;" in shown


def test_guidelines_stand_beside_the_card_in_the_readers_language(
    open_desk: OpenDesk, pairs: Services
) -> None:
    told = {"en": "Be **strict** <script>", "tr": "Titiz olun"}
    wiring.policies().change(SYSTEM, "acme", ReviewPolicy(guidelines=told))
    english = open_desk().sent["guidelines"]
    assert "<strong>strict</strong> &lt;script&gt;" in english
    assert "Titiz olun" in open_desk(language="tr").sent["guidelines"]


def test_when_all_is_reviewed_it_says_so(open_desk: OpenDesk, pairs: Services) -> None:
    desk = open_desk().act("vote", verdict=-3).act("vote", verdict=3)
    assert desk.sent["empty"]["title"] == "All reviewed"
    assert desk.act("undo").card


def test_a_colleagues_card_is_named_as_the_reason(open_desk: OpenDesk, pairs: Services) -> None:
    open_desk().act("vote", verdict=-3)
    desk = open_desk("engineer")
    assert desk.sent["card"] is None
    assert "1 pair is being reviewed by a colleague" in desk.sent["empty"]["text"]


@pytest.mark.parametrize("language", ["en", "tr"])
def test_everything_the_desk_says_has_a_name(
    open_desk: OpenDesk, pairs: Services, language: str
) -> None:
    sent = open_desk(language=language).sent
    assert [name for name, _ in sent["flags"]] == list(FLAGS)
    assert [name for name, _ in sent["criteria"]] == list(CRITERIA)
    assert [name for name, _ in sent["reasons"]] == list(SKIP_REASONS)
    known = {
        text
        for text in catalogue("tr" if language == "tr" else "en").values()
        if isinstance(text, str)
    }
    assert {text for _, text in [*sent["keys"], *sent["flags"]]} <= known


def test_my_figures_are_only_counted_while_they_are_looked_at(
    open_desk: OpenDesk, pairs: Services
) -> None:
    desk = open_desk().act("vote", verdict=1)
    assert not desk.page.metric
    desk.page.session_state["review.meters"] = True
    desk.act("touch")
    assert desk.page.metric[0].value == "1"
