from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button

from console import wiring
from services.bootstrap import Services
from services.preferences.models import PairStatus, ReviewKind
from services.tenants.models import Actor
from tests.pages.conftest import SYSTEM, OpenPage, texts

ROWS = b"""\
{"prompt": "What is the capital of Turkey?", "chosen": "Ankara.", "rejected": "Istanbul."}
{"prompt": "Say <b>hi</b>.", "chosen": "<script>alert(1)</script>", "rejected": "**hi**"}
"""


@pytest.fixture
def pairs(services: Services) -> Services:
    services.preferences.import_pairs(SYSTEM, "acme", BytesIO(ROWS), source="rows.jsonl")
    return services


def _answers(page: AppTest) -> list[str]:
    return [html.proto.body for html in page.get("html") if "<article" in html.proto.body]


def _button(page: AppTest, name: str) -> Button:
    """The button of that name; its key ends with the pair's id."""
    return next(one for one in page.button if (one.key or "").startswith(f"review.{name}."))


def _press(page: AppTest, name: str) -> AppTest:
    _button(page, name).click().run()
    assert not page.exception
    return page


def test_the_wrong_role_is_refused(open_page: OpenPage) -> None:
    assert "You may not do this" in open_page("review", actor="admin").error[0].value


def test_another_tenants_cards_are_out_of_reach(open_page: OpenPage, pairs: Services) -> None:
    pairs.preferences.import_pairs(SYSTEM, "globex", BytesIO(ROWS), source="rows.jsonl")
    page = open_page("review", actor="annotator", tenant="globex")
    _press(page, "vote.1")
    assert pairs.preferences.stats(SYSTEM, "globex").reviews == 0
    assert pairs.preferences.stats(SYSTEM, "acme").reviews == 1


def test_a_tenant_without_pairs_says_where_they_come_from(open_page: OpenPage) -> None:
    assert "No pairs yet" in texts(open_page("review", actor="annotator"))
    assert "Henüz çift yok" in texts(open_page("review", actor="annotator", language="tr"))


def test_a_vote_names_the_answer_that_was_seen_on_that_side(
    open_page: OpenPage, pairs: Services
) -> None:
    page = open_page("review", actor="annotator")
    left = _answers(page)[0]
    _press(page, "vote.1")
    [pair] = pairs.preferences.pairs(SYSTEM, "acme", status=PairStatus.APPROVED).pairs
    chosen = pair.response(pair.chosen_response_id)
    assert chosen is not None
    assert chosen.text in left
    assert "1 of 2 pairs reviewed" in page.get("progress")[0].proto.text


@pytest.mark.parametrize(
    ("button", "strength"),
    [("vote.1", 3), ("vote.3", 1), ("vote.4", 0), ("vote.6", 2), ("both_bad", None)],
)
def test_each_key_stores_its_grade(
    open_page: OpenPage, pairs: Services, button: str, strength: int | None
) -> None:
    page = open_page("review", actor="annotator")
    _press(page, button)
    first = pairs.preferences.pairs(SYSTEM, "acme").pairs[0]
    history = pairs.preferences.pair(SYSTEM, "acme", first.id).history
    assert history is not None
    [review] = history.reviews
    assert (review.kind, review.strength) == (ReviewKind.VOTE, strength)
    assert review.active_ms is not None


def test_every_grade_has_its_digit(open_page: OpenPage, pairs: Services) -> None:
    page = open_page("review", actor="annotator")
    for digit in "1234567":
        assert _button(page, f"vote.{digit}").proto.shortcut == digit
    letters = {"both_bad": "0", "edit": "e", "skip": "s", "undo": "z", "markdown": "m"}
    for name, key in letters.items():
        assert _button(page, name).proto.shortcut == key


def test_a_button_means_the_card_that_was_seen(open_page: OpenPage, pairs: Services) -> None:
    page = open_page("review", actor="annotator")
    names = ("vote.1", "vote.7", "both_bad", "skip")
    seen = {_button(page, name).key for name in names}
    _press(page, "vote.4")
    assert not seen & {_button(page, name).key for name in names}


def test_a_key_that_is_struck_twice_counts_once(
    open_page: OpenPage, pairs: Services, actor_of: Callable[[str], Actor]
) -> None:
    page = open_page("review", actor="annotator")
    card = wiring.review_queue().next_card(actor_of("annotator"), "acme")
    assert card is not None
    page.session_state["review.last"] = card.pair_id
    _press(page, "vote.2")
    assert pairs.preferences.stats(SYSTEM, "acme").reviews == 0
    assert not page.error


def test_skip_and_undo(open_page: OpenPage, pairs: Services) -> None:
    page = open_page("review", actor="annotator")
    first = _answers(page)
    assert _answers(_press(page, "skip")) != first
    assert _answers(_press(page, "undo")) == first
    assert "nothing to take back" in texts(_press(page, "undo"))


def test_an_edit_is_a_new_version_and_the_card_stays(open_page: OpenPage, pairs: Services) -> None:
    page = _press(open_page("review", actor="annotator"), "edit")
    assert not _answers(page)
    page.text_area[0].set_value("Ankara, since 1923.")
    next(b for b in page.button if b.label == "Save as a new version").click().run()
    assert any("Ankara, since 1923." in answer for answer in _answers(page))
    assert any("edited, version 2" in answer for answer in _answers(page))
    assert pairs.preferences.stats(SYSTEM, "acme").edited == 1


def test_an_unchanged_edit_is_refused_in_words(open_page: OpenPage, pairs: Services) -> None:
    page = _press(open_page("review", actor="annotator"), "edit")
    next(b for b in page.button if b.label == "Save as a new version").click().run()
    assert "changed answer" in page.error[0].value
    assert page.text_area


def test_a_models_text_is_escaped(open_page: OpenPage, pairs: Services) -> None:
    page = _press(open_page("review", actor="annotator"), "skip")
    for drawn in (page, _press(page, "markdown"), _press(page, "difference")):
        shown = "".join(html.proto.body for html in drawn.get("html"))
        assert "<script>" not in shown
        assert "<b>hi" not in shown
        assert "&lt;script&gt;" in shown


def test_when_all_is_reviewed_it_says_so(open_page: OpenPage, pairs: Services) -> None:
    page = _press(_press(open_page("review", actor="annotator"), "vote.1"), "vote.7")
    assert "All reviewed" in texts(page)
    assert _answers(_press(page, "undo"))


def test_a_colleagues_card_is_named_as_the_reason(open_page: OpenPage, pairs: Services) -> None:
    _press(open_page("review", actor="annotator"), "vote.1")
    page = open_page("review", actor="engineer")
    assert not _answers(page)
    assert "1 pair is being reviewed by a colleague" in texts(page)
