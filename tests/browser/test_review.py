"""The review desk by keyboard alone, in a real browser."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, WebSocket, expect
from sqlalchemy import update

from console.i18n import catalogue
from labeling.models import ReviewPolicy
from labeling.policies import Policies
from labeling.queue import ReviewQueue
from labeling.store import ClaimRow
from services.preferences.models import Review, ReviewKind
from services.tenants.models import Actor, Role
from tests.browser.alone import SYSTEM, Console, console
from tests.browser.visitors import picture
from tests.support import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ANNOTATOR = frozenset({Role.ANNOTATOR})
TENANTS = ("plain", "typing", "fast", "blind", "drafts", "lost", "texts", "narrow", "time", "words")
HOSTILE = "<img src=x onerror=alert(1)> ![p](https://evil.example/p.png) <script>alert(2)</script>"
ARABIC = "عاصمة تركيا هي أنقرة.\nIn English: Ankara."
TURKISH = "Işıl ışıl İstanbul'da ılık bir gün, ğüşöç."


def _row(prompt: str, chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


PLAIN = [
    _row(f"Question {n}?", f"Good {n}.", f"Bad {n}.", chosen_score=8.5, rejected_score=3.5)
    for n in range(12)
]
TEXTS = [
    _row("Hostile?", HOSTILE, "x" * 300),
    _row("ما هي عاصمة تركيا؟", ARABIC, "Istanbul."),
    _row("Bugün İstanbul'da hava nasıl? Kısaca ve güzelce anlat.", TURKISH, "Çok güzel bir gün."),
    _row("A megabyte, please.", "word " * 200_000 + "THE END", "No."),
]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    people = {
        "ayse": dict.fromkeys(TENANTS, ANNOTATOR),
        "john": dict.fromkeys(TENANTS, ANNOTATOR),
        "other": dict.fromkeys(TENANTS, ANNOTATOR),
    }
    home = tmp_path_factory.mktemp("desk")
    with console(home, people, languages={"ayse": "tr"}) as running:
        for tenant_id in TENANTS:
            rows = TEXTS if tenant_id in {"texts", "narrow"} else PLAIN
            lines = "\n".join(json.dumps(row) for row in rows).encode()
            running.services.preferences.import_pairs(
                SYSTEM, tenant_id, io.BytesIO(lines), source="rows"
            )
        yield running


@pytest.fixture(scope="module")
def chromium(browser: Browser) -> Browser:
    """The folder's Chromium, by the name that its type leaves free."""
    return browser


def _open(chromium: Browser, desk: Console, name: str, tenant_id: str, **context: Any) -> Page:
    page: Page = desk.sign_in(
        chromium, name, f"review?tenant={tenant_id.title()}", locale="en-US", **context
    )
    _ready(page)
    return page


def _ready(page: Page) -> None:
    page.wait_for_selector('.pc-desk[data-state="ready"]')


def _keys(page: Page, *keys: str) -> None:
    """Strike keys, each when the desk has done what the one before asked for."""
    for key in keys:
        _ready(page)
        page.keyboard.press(key)


def _pair(page: Page) -> str:
    return str(page.locator(".pc-desk-card").get_attribute("data-pair"))


def _next(page: Page, *keys: str) -> str:
    """Strike keys, the last of which moves the card on; the pair that was on the desk."""
    before = _pair(page)
    _keys(page, *keys)
    page.wait_for_function(
        "before => document.querySelector('.pc-desk-card')?.dataset.pair !== before", arg=before
    )
    _ready(page)
    return before


def _edit(page: Page) -> None:
    """Open the editor and put the cursor behind the left answer."""
    _keys(page, "e")
    expect(page.locator("textarea").first).to_be_focused()
    page.keyboard.press("Control+End")


def _actor(desk: Console, name: str) -> Actor:
    users = desk.services.tenants.list_users(SYSTEM)
    return next(user for user in users if user.username == name).actor()


def _reviews(desk: Console, tenant_id: str, pair_id: str) -> tuple[Review, ...]:
    history = desk.services.preferences.pair(SYSTEM, tenant_id, pair_id).history
    assert history is not None
    return history.reviews


@pytest.mark.parametrize(("name", "language"), [("john", "en"), ("ayse", "tr")])
def test_a_working_day_by_keyboard_alone(
    desk: Console, chromium: Browser, name: str, language: str
) -> None:
    said = catalogue("tr" if language == "tr" else "en")
    page = _open(chromium, desk, name, "plain")
    page.mouse.move(0, 0)

    _keys(page, "?")
    expect(page.get_by_role("dialog", name=str(said["keys.title"]))).to_be_visible()
    expect(page.get_by_text(str(said["review.key_skip"]))).to_be_visible()
    page.keyboard.press("1")  # nothing while the sheet is open
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_have_count(0)

    # Two flags, three ratings, a note, then the verdict.
    left, right = page.locator(".pc-answer").all_inner_texts()
    _keys(page, "f", "2", "4", "Escape", "q", "5", "1", "4", "ArrowRight", "Escape")
    _keys(page, "n")
    page.keyboard.type("çünkü 7 s z 0 ?")
    page.keyboard.press("Enter")
    pair_id = _next(page, "2")
    [vote] = _reviews(desk, "plain", pair_id)
    assert (vote.kind, vote.strength, vote.preferred_response_id) == (
        ReviewKind.VOTE, 2, vote.left_response_id,
    )  # fmt: skip
    assert vote.flags == ("factual_error", "needs_expert")
    assert vote.ratings == {
        vote.left_response_id: {"relevance": 5, "helpfulness": 4},
        vote.right_response_id: {"relevance": 1, "helpfulness": 1},
    }
    assert vote.note == "çünkü 7 s z 0 ?"
    assert vote.active_ms is not None
    assert 0 < vote.active_ms < 60_000

    # What the AI had said stands above the next card; the vote comes back with it and is revised.
    strip = page.locator(".pc-desk-last")
    expect(strip).to_contain_text(str(said["review.grade_2"]))
    expect(strip).to_contain_text("8,5" if language == "tr" else "8.5")
    following = _pair(page)
    _next(page, "v")
    assert _pair(page) == pair_id
    expect(page.locator("[data-verdict='-2']")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("region", name=str(said["review.evidence"]))).to_be_visible()
    assert page.locator(".pc-answer").all_inner_texts() == [left, right]
    _next(page, "0")
    assert _pair(page) == following
    old, new = _reviews(desk, "plain", pair_id)
    assert (new.strength, new.revises_id, new.is_revealed) == (None, old.id, True)

    # Skip with a reason, and take it back.
    skipped = _next(page, "s", "3")
    assert _reviews(desk, "plain", skipped)[-1].reason == "too_long"
    _next(page, "z")
    assert _pair(page) == skipped

    # An edit, with letters that are keys elsewhere, saved while the text is still warm.
    _edit(page)
    page.keyboard.type(" 7 s z 0 ığ")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".pc-note")).to_be_visible()
    expect(page.locator(".pc-answer").first).to_contain_text(" 7 s z 0 ığ")
    _keys(page, "d")
    expect(page.locator(".pc-diff")).to_be_visible()
    _keys(page, "d", "m", "m", "7")
    page.wait_for_function(
        "before => document.querySelector('.pc-desk-card')?.dataset.pair !== before", arg=skipped
    )
    picture(page, f"review-desk-{language}")
    kinds = [one.kind for one in _reviews(desk, "plain", skipped)]
    assert kinds == [ReviewKind.SKIP, ReviewKind.UNDO, ReviewKind.EDIT, ReviewKind.VOTE]


def test_keys_rest_while_somebody_types_composes_or_holds_another_key(
    desk: Console, chromium: Browser
) -> None:
    page = _open(chromium, desk, "john", "typing")
    before = _pair(page)
    _keys(page, "n")
    page.keyboard.type("1234567 0 szvedfq ?")
    page.keyboard.press("Escape")
    expect(page.locator("[data-act=note]")).to_have_value("1234567 0 szvedfq ?")
    page.locator('[data-testid="stSidebar"] input').first.focus()
    page.keyboard.type("2")
    page.keyboard.press("Escape")
    page.locator(".pc-desk-card").focus()
    for held in ("Control", "Alt", "Meta"):
        page.keyboard.press(f"{held}+2")
    page.evaluate(
        """() => {
          const strike = (more) => document.dispatchEvent(new KeyboardEvent(
            "keydown", { key: "2", code: "Digit2", bubbles: true, ...more }));
          strike({ repeat: true });
          strike({ isComposing: true });
          strike({ keyCode: 229 });
        }"""
    )
    page.wait_for_timeout(1_500)
    assert _pair(page) == before
    assert desk.services.preferences.stats(SYSTEM, "typing").reviews == 0


def test_keys_that_are_struck_too_fast_judge_no_unseen_card(
    desk: Console, chromium: Browser
) -> None:
    page = _open(chromium, desk, "john", "fast")
    strike = """document.dispatchEvent(new KeyboardEvent(
        "keydown", { key: "1", code: "Digit1", bubbles: true }))"""
    page.evaluate(f"() => {{ for (let i = 0; i < 5; i++) {strike}; }}")
    page.wait_for_function("document.querySelector('.pc-desk').dataset.state !== 'busy'")
    # In the very moment in which the next card appears, and in each of the next tenths.
    page.evaluate(
        f"""() => new MutationObserver(() => {{ {strike}; setTimeout(() => {strike}, 100); }}).observe(
            document.querySelector(".pc-desk"), {{ childList: true }})"""
    )
    page.wait_for_timeout(300)
    _next(page, "1")
    page.wait_for_timeout(2_000)
    assert desk.services.preferences.stats(SYSTEM, "fast").reviews == 2
    assert page.get_by_test_id("stAlert").count() == 0


def test_nothing_of_the_ai_reaches_the_browser_before_the_vote(
    desk: Console, chromium: Browser
) -> None:
    came: list[bytes] = []

    def listen(socket: WebSocket) -> None:
        socket.on("framereceived", lambda data: came.append(_bytes(data)))

    page = desk.sign_in(chromium, "john", "", locale="en-US")
    page.on("websocket", listen)
    page.goto(f"{desk.url}review?tenant=Blind")
    _ready(page)
    _keys(page, "d", "d", "e", "Escape", "m")
    _ready(page)
    assert came
    assert not [frame for frame in came if b"8.5" in frame]
    _next(page, "1")
    assert [frame for frame in came if b"8.5" in frame]
    expect(page.locator(".pc-desk-card")).not_to_contain_text("8.5")


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data


def test_a_draft_outlives_the_window(desk: Console, chromium: Browser) -> None:
    page = _open(chromium, desk, "john", "drafts")
    pair_id = _pair(page)
    _edit(page)
    page.keyboard.type(" unsaved words")
    expect(page.locator(".pc-desk-change ins")).to_have_text(" unsaved words")
    field = page.locator("textarea").first
    expect(field).to_have_attribute("data-kept", re.compile("unsaved words$"))
    page.keyboard.type(" and more")
    page.context.close()
    page = _open(chromium, desk, "john", "drafts")
    assert _pair(page) == pair_id
    expect(page.locator(".pc-note")).to_have_text("unsaved draft")
    _keys(page, "e")
    expect(page.locator("textarea").first).to_have_value(re.compile("unsaved words( and more)?$"))


def test_a_card_that_goes_to_somebody_else_while_one_edits_leaves_the_draft(
    desk: Console, chromium: Browser
) -> None:
    page = _open(chromium, desk, "john", "lost")
    pair_id = _pair(page)
    _edit(page)
    page.keyboard.press("Control+Home")
    page.keyboard.type("not lost. ")
    expect(page.locator(".pc-desk-change ins")).to_be_visible()
    other = _actor(desk, "other")
    queue = ReviewQueue(desk.services.db, desk.services.preferences)
    with desk.services.db.write() as session:
        held = update(ClaimRow).where(ClaimRow.pair_id == pair_id)
        session.execute(held.values(until=datetime(2020, 1, 1, tzinfo=UTC)))
    for _ in range(len(PLAIN)):
        card = queue.next_card(other, "lost")
        assert card is not None
        queue.vote(other, "lost", card.pair_id, verdict=1)
        if card.pair_id == pair_id:
            break
    page.keyboard.press("Control+Home")
    page.keyboard.type("Saved too late. ")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_test_id("stAlert").first).to_contain_text("draft")
    page.get_by_text("1 kept draft").click()
    expect(page.get_by_test_id("stExpander")).to_contain_text("Saved too late. not lost.")
    assert [one.kind for one in _reviews(desk, "lost", pair_id)] == [ReviewKind.VOTE]


def test_foreign_texts_run_nothing_and_read_in_their_own_direction(
    desk: Console, chromium: Browser
) -> None:
    page = _open(chromium, desk, "john", "texts")
    asked: list[str] = []
    opened: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    def dismiss(dialog: Dialog) -> None:
        opened.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    _keys(page, "m")
    seen: dict[str, Any] = {}
    for _ in range(len(TEXTS)):
        _ready(page)
        card = page.locator(".pc-desk-card")
        said = card.inner_text()
        if "Hostile?" in said:
            assert card.locator("img, script, a").count() == 0
        elif "Ankara" in said:
            arabic = card.locator(".pc-md", has_text="أنقرة").first
            assert arabic.evaluate("e => getComputedStyle(e).direction") == "rtl"
            latin = card.locator(".pc-md", has_text="Istanbul.")
            assert latin.evaluate("e => getComputedStyle(e).direction") == "ltr"
        elif "ılık" in said:
            assert card.locator("[lang=tr]").count() == 3
            assert TURKISH in said
        else:
            assert "THE END" not in said
            _keys(page, "w")
            expect(card).to_contain_text("THE END", timeout=30_000)
            picture(page, "review-long")
            expect(page.get_by_role("group", name="Which answer is better?")).to_be_in_viewport()
        seen[said] = _next(page, "4")
    assert len(seen) == len(TEXTS)
    assert not opened
    assert not [url for url in asked if "evil" in url]


@pytest.mark.parametrize(("name", "scheme"), [("john", "light"), ("ayse", "dark")])
def test_a_narrow_window_shows_everything(
    desk: Console, chromium: Browser, name: str, scheme: str
) -> None:
    view = {"width": 390, "height": 844}
    page = _open(chromium, desk, name, "narrow", viewport=view, color_scheme=scheme)
    main = page.get_by_test_id("stMain")
    for keys in (
        ("q",),
        ("Escape", "f"),
        ("Escape", "s"),
        ("Escape", "d"),
        ("d", "e"),
        ("Escape",),
        ("4",),
        ("v",),
    ):
        _keys(page, *keys)
        _ready(page)
        assert main.evaluate("e => e.scrollWidth - e.clientWidth") == 0, keys
    picture(page, f"review-narrow-{name}")
    expect(
        page.get_by_role("group").filter(has=page.locator(".pc-grade")).first
    ).to_be_in_viewport()


def test_who_cannot_see_the_card_hears_it_and_reaches_everything(
    desk: Console, chromium: Browser
) -> None:
    page = _open(chromium, desk, "john", "words")
    for name in ("Left is much better", "Right is slightly better", "Alike", "Both bad", "Undo"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
    expect(page.get_by_role("article", name="Left")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "0")
    _keys(page, "q")
    rated = page.get_by_role("radiogroup", name="Left: Relevance")
    expect(rated).to_be_focused()
    page.keyboard.press("3")
    expect(rated.get_by_role("radio", name="3")).to_have_attribute("aria-checked", "true")
    expect(page.get_by_role("radiogroup", name="Right: Relevance")).to_be_focused()
    page.keyboard.press("Escape")
    _next(page, "5")
    expect(page.get_by_role("status")).to_contain_text("you said right, slightly better")
    expect(page.get_by_role("status")).to_contain_text("Next pair.")
    assert page.evaluate("document.activeElement.className") == "pc-desk-card"
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_attribute("data-verdict", "-3")


def test_a_hidden_window_costs_no_time(desk: Console, chromium: Browser) -> None:
    page = _open(chromium, desk, "john", "time")
    hide = """hidden => {
      Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    page.wait_for_timeout(4_000)
    page.evaluate(hide, False)
    [vote] = _reviews(desk, "time", _next(page, "2"))
    assert vote.active_ms is not None
    assert vote.active_ms < 3_500


def test_a_minute_without_a_sign_of_life_stops_the_clock(chromium: Browser) -> None:
    source = (ROOT / "console" / "components" / "desk" / "clock.js").read_text()
    page = chromium.new_page()
    spent = page.evaluate(
        """source => {
          let now = 0;
          performance.now = () => now;
          const clock = new Function(source + "; return makeClock();")();
          const at = (seconds, sign) => {
            now = seconds * 1000;
            if (sign) document.dispatchEvent(new Event("pointermove"));
            return clock.milliseconds() / 1000;
          };
          return [at(30), at(50, true), at(109), at(500), at(600, true), at(610)];
        }""",
        source,
    )
    assert spent == [30, 50, 109, 110, 110, 120]
    page.close()


def test_guidelines_can_be_put_away_and_stay_away(desk: Console, chromium: Browser) -> None:
    told = ReviewPolicy(guidelines={"en": "Be strict.", "tr": "Titiz olun."})
    Policies(desk.services.db).change(SYSTEM, "words", told)
    page = _open(chromium, desk, "ayse", "words")
    beside = page.get_by_role("complementary").filter(has_text="Titiz olun.")
    expect(beside).to_be_visible()
    _keys(page, "g")
    expect(beside).to_be_hidden()
    _next(page, "4")
    expect(beside).to_be_hidden()
    page.reload()
    _ready(page)
    expect(beside).to_be_hidden()
