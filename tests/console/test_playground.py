"""The playground against a small gateway: client, dialogue, what is shown, and a real browser."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from console.playground import shown
from console.playground.client import Answer, Gateway
from console.playground.conversation import Choices, Conversation, sign_in
from console.playground.texts import TEXTS, preferred, sentence
from console.processes.probing import answers
from services.errors import (
    InvalidInput,
    LimitExceeded,
    NotSignedIn,
    TooLarge,
    Unavailable,
)
from tests.conftest import free_port, require
from tests.fakes.gateway import ADAPTER, KEY, RECEIPT, FakeGateway

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
HOSTILE = (
    "**Ankara** <script>document.title='pwned'</script> <img src=x onerror=\"document.title='pwned'\">"
    " ![x](http://evil.example/x.png) [link](javascript:document.title='pwned')\n\n- one\n\n"
    "<iframe src='http://evil.example'></iframe>\n\n```\n<b>code</b>\n\nmore\n```"
)


@pytest.fixture
def fake() -> Iterator[FakeGateway]:
    with FakeGateway() as gateway:
        yield gateway


@pytest.fixture
async def gateway(fake: FakeGateway) -> AsyncIterator[Gateway]:
    client = Gateway(fake.url)
    yield client
    await client.close()


@pytest.fixture
async def conversation(gateway: Gateway) -> Conversation:
    return await sign_in(gateway, f" {KEY}\n")


async def ask(conversation: Conversation, message: str) -> list[str]:
    choices = Choices(alias="legal-ai", system="Be brief.", temperature=0.5, max_tokens=64)
    return [answer.text async for answer in conversation.ask(message, choices)]


async def test_a_key_opens_the_page_of_its_tenant_only(conversation: Conversation) -> None:
    assert conversation.account.tenant_name == "Legal AI"
    assert conversation.account.aliases == ("legal-ai",)
    assert KEY not in repr(conversation)


async def test_the_tenants_own_alias_comes_first(fake: FakeGateway, gateway: Gateway) -> None:
    fake.aliases = 2
    assert (await gateway.account(KEY)).aliases == ("legal-ai", "contracts")


@pytest.mark.parametrize("key", ["pk_wrong", "pk_ä", "two words", "a\r\nx-header: y"])
async def test_a_wrong_key_is_refused(gateway: Gateway, key: str) -> None:
    with pytest.raises(NotSignedIn):
        await sign_in(gateway, key)


async def test_an_answer_grows_and_ends_with_its_facts(
    fake: FakeGateway, conversation: Conversation
) -> None:
    texts = await ask(conversation, "Başkent?")
    assert texts[0] == "Başkent"
    assert texts[-1] == fake.answer
    last = conversation.last
    assert last is not None
    assert (last.model, last.arm, last.receipt_id) == (ADAPTER, "canary", RECEIPT)
    assert (last.prompt_tokens, last.completion_tokens, last.cost_micro) == (12, 2, 1234)
    assert last.first_token_ms is not None
    assert last.first_token_ms <= last.total_ms
    assert fake.asked[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (fake.asked[0]["temperature"], fake.asked[0]["max_tokens"]) == (0.5, 64)


async def test_a_thumb_is_given_changed_and_taken_back(
    fake: FakeGateway, conversation: Conversation
) -> None:
    with pytest.raises(InvalidInput, match="no receipt"):
        await conversation.rate("up")
    await ask(conversation, "Başkent?")
    assert conversation.last is not None
    for thumb, stands in (("up", "up"), ("down", "down"), ("down", "")):
        await conversation.rate(thumb)
        assert conversation.last.thumb == stands
    assert fake.thumbs == [
        {"request_id": RECEIPT, "thumb": thumb} for thumb in ("up", "down", "none")
    ]


async def test_a_dialogue_is_sent_whole_and_stays_on_one_arm(
    fake: FakeGateway, conversation: Conversation
) -> None:
    await ask(conversation, "one")
    first = fake.headers["x-param-conversation"]
    await ask(conversation, "two")
    assert fake.headers["x-param-conversation"] == first
    roles = [turn["role"] for turn in fake.asked[1]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    conversation.begin_again()
    await ask(conversation, "three")
    assert fake.headers["x-param-conversation"] != first
    assert len(fake.asked[2]["messages"]) == 2


async def test_verification_compares_the_exact_bytes(
    fake: FakeGateway, conversation: Conversation
) -> None:
    fake.answer = "line\u2028separator and\u0085more"
    await ask(conversation, "Başkent?")
    assert (await conversation.verified())["ok"] is True
    (sent,) = fake.verified
    assert conversation.last is not None
    assert base64.b64decode(sent["request"]) == fake.raw_request
    assert base64.b64decode(sent["response"]) == fake.raw_response
    assert conversation.last.text == fake.answer
    assert sent["receipt"]["salt"] == "00" * 32


async def test_stopping_closes_the_connection(
    fake: FakeGateway, conversation: Conversation
) -> None:
    async for _text in _answers(conversation, "!slow"):
        conversation.stop.set()
    assert conversation.last is not None
    assert (conversation.last.text, conversation.last.is_stopped) == ("Başkent", True)
    for _ in range(200):
        if fake.cut:
            break
        await asyncio.sleep(0.01)
    assert fake.cut == 1
    with pytest.raises(InvalidInput):
        await conversation.verified()


async def _answers(conversation: Conversation, message: str) -> AsyncIterator[str]:
    async for answer in conversation.ask(message, Choices("legal-ai")):
        yield answer.text


async def test_a_refused_message_is_taken_back(conversation: Conversation) -> None:
    await ask(conversation, "one")
    before, last = list(conversation.turns), conversation.last
    with pytest.raises(LimitExceeded) as caught:
        await ask(conversation, "!429")
    assert caught.value.retry_after_s == 7
    assert (conversation.turns, conversation.last) == (before, last)


async def test_an_answer_that_breaks_off_keeps_what_came(
    fake: FakeGateway, conversation: Conversation
) -> None:
    fake.answer = "one two three"
    with pytest.raises(Unavailable, match="broke off"):
        await ask(conversation, "!break")
    assert conversation.turns[-1] == {"role": "assistant", "content": "one two"}
    assert conversation.last is not None
    assert conversation.last.receipt_id == ""


async def test_an_empty_message_is_not_sent(fake: FakeGateway, conversation: Conversation) -> None:
    with pytest.raises(InvalidInput):
        await ask(conversation, "  \n")
    assert fake.asked == []


async def test_a_gateway_that_is_away_is_unavailable() -> None:
    client = Gateway(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match="does not answer"):
        await client.account(KEY)
    await client.close()


def test_both_languages_say_the_same_things() -> None:
    assert set(TEXTS["en"]) == set(TEXTS["tr"])
    for name, text in TEXTS["en"].items():
        assert text.count("{") == TEXTS["tr"][name].count("{"), name
        assert text.strip(), name


def test_the_browser_says_the_language() -> None:
    assert preferred("tr-TR,tr;q=0.9,en;q=0.8") == "tr"
    assert preferred("de-DE,en;q=0.8,tr;q=0.1") == "en"
    assert preferred("") == "en"


def test_every_error_is_one_sentence_in_both_languages() -> None:
    errors = [
        LimitExceeded("x", retry_after_s=7.2), NotSignedIn("x"), Unavailable("x"), TooLarge("x"),
        InvalidInput("temperature: expected 0 to 2"),
    ]  # fmt: skip
    for language in TEXTS:
        told = [sentence(error, language) for error in errors]
        assert len(set(told)) == len(errors)
        assert "7 s" in told[0]
    assert "temperature: expected 0 to 2" in sentence(errors[-1], "en")


def test_model_text_holds_no_link_picture_or_tag() -> None:
    html = shown.text(HOSTILE, as_markdown=True)
    assert "<strong>Ankara</strong>" in html
    for tag in ("<script", "<img", "<a ", "<iframe", "<b>"):
        assert tag not in html
    assert "\n" not in html
    assert "&lt;script&gt;" in html


def test_text_of_a_person_is_shown_as_typed() -> None:
    assert shown.text("a <b>\n*c*", as_markdown=False) == (
        '<div class="pg-raw">a &lt;b&gt;&#10;*c*</div>'
    )


def test_every_fact_is_escaped() -> None:
    evil = '"><script>x</script>'
    answer = Answer(text=evil, model=evil, arm=evil, receipt_id=evil, request_id=evil)
    check = {"name": evil, "ok": False, "detail": evil}
    html = (
        shown.facts(answer, "en")
        + shown.account(evil, "tr")
        + shown.problem(evil)
        + shown.checks({"ok": False, "checks": [check], "not_established": [evil]}, "en")
        + shown.checks({"ok": False, "error": evil}, "en")
        + shown.receipt_links(answer, {"receipt_id": evil}, "http://127.0.0.1:1", "en")
    )
    assert "<script>" not in html
    assert 'href=""' not in html


def test_a_receipt_that_does_not_hold_is_not_said_to_hold() -> None:
    for found in ({}, {"ok": "yes"}, {"ok": False}, {"valid": True}):
        html = shown.checks(found, "en")
        assert TEXTS["en"]["broken"] in html
        assert TEXTS["en"]["holds"] not in html


@dataclass
class Served:
    """The playground in a process of its own, and the gateway that it asks."""

    address: str
    gateway: FakeGateway


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    port, home = free_port(), tmp_path_factory.mktemp("playground")
    with FakeGateway() as gateway, (home / "log").open("wb") as log:
        settings = {
            "PARAM_HOME": str(home),
            "PARAM_GATEWAY_URL": gateway.url,
            "PARAM_PLAYGROUND_PORT": str(port),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "console.playground"],
            env={**os.environ, **settings},
            stdout=log,
            stderr=log,
        )
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 90
        while not answers(f"{address}/healthz"):
            assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline, "the playground did not start"
            time.sleep(0.1)
        yield Served(address, gateway)
        process.terminate()
        assert process.wait(15) in {0, -signal.SIGTERM}


@pytest.fixture
def page(playground: Served) -> str:
    """The address of the playground."""
    playground.gateway.answer, playground.gateway.cut = "Başkent Ankara'dır.", 0
    playground.gateway.whoami_s = 0.0
    return playground.address


def test_the_page_is_guarded_and_loads_nothing_from_elsewhere(page: str) -> None:
    with httpx.Client(base_url=page) as http:
        assert http.get("/healthz").json() == {"status": "ok"}
        answer = http.get("/")
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
        assert "googleapis" not in answer.text
        for path in (
            "/gradio_api/upload",
            "/gradio_api/file=/etc/passwd",
            "/gradio_api/dev/reload",
            "/monitoring",
        ):
            assert http.get(path).status_code == 404, path
        assert http.post("/gradio_api/upload", files={"files": b"x"}).status_code == 404


@pytest.fixture
def browser() -> Iterator[Any]:
    require(bool(CHROMIUM), "Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


class Visit:
    """One person at the page, and what their browser asked of whom."""

    def __init__(
        self, browser: Any, address: str, *, locale: str = "en-US", width: int = 1280
    ) -> None:
        self.address = address
        context = browser.new_context(locale=locale, viewport={"width": width, "height": 860})
        self.tab = context.new_page()
        self.asked: list[str] = []
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(address)

    def enter(self, key: str) -> None:
        self.tab.fill("#pg-door input", key)
        self.tab.keyboard.press("Enter")

    def say(self, message: str) -> None:
        self.tab.fill("#pg-message textarea", message)
        self.tab.press("#pg-message textarea", "Enter")

    def press(self, name: str) -> None:
        self.tab.get_by_role("button", name=name, exact=True).click()

    def sees(self, text: str) -> None:
        self.tab.get_by_text(text).first.wait_for(state="visible")


@pytest.mark.browser
def test_a_customer_signs_in_chats_and_verifies(
    browser: Any, page: str, playground: Served
) -> None:
    playground.gateway.answer = HOSTILE
    visit = Visit(browser, page)
    visit.enter("pk_wrong")
    visit.sees(TEXTS["en"]["wrong_key"])
    visit.enter(KEY)
    visit.sees("Legal AI")
    visit.say("What is the <b>capital</b>?")
    visit.sees("Download the receipt")
    for fact in (ADAPTER, "canary", "0.001234 USD", RECEIPT):
        visit.sees(fact)
    assert visit.tab.locator("#pg-chat img, #pg-chat a, #pg-chat iframe, #pg-chat b").count() == 0
    visit.sees("<script>document.title='pwned'</script>")
    visit.sees("What is the <b>capital</b>?")
    visit.press("Verify this answer")
    visit.sees(TEXTS["en"]["holds"])
    assert visit.tab.title() != "pwned"
    assert [url for url in visit.asked if not url.startswith((page, "data:", "blob:"))] == []
    kept = (
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    )
    assert KEY not in visit.tab.evaluate(kept) + visit.tab.content()
    visit.press("Sign out")
    visit.tab.wait_for_selector("#pg-door input", state="visible")
    assert ADAPTER not in visit.tab.content()


@pytest.mark.browser
def test_a_limit_says_how_long_to_wait_and_gives_the_message_back(browser: Any, page: str) -> None:
    visit = Visit(browser, page, locale="tr-TR", width=390)
    visit.enter(KEY)
    visit.sees("Kurum:")
    visit.say("!429")
    visit.sees(TEXTS["tr"]["wait"].format(seconds=7))
    assert visit.tab.input_value("#pg-message textarea") == "!429"
    assert visit.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.browser
def test_a_language_chosen_while_the_key_is_checked_is_spoken_afterwards(
    browser: Any, page: str, playground: Served
) -> None:
    visit = Visit(browser, page)
    visit.tab.get_by_label("Türkçe").wait_for()
    playground.gateway.whoami_s = 2.0
    visit.enter(KEY)
    visit.tab.get_by_label("Türkçe").check()
    visit.sees("Kurum:")
    visit.sees("Legal AI")


@pytest.mark.browser
def test_stop_ends_an_answer_and_a_new_conversation_begins_empty(
    browser: Any, page: str, playground: Served
) -> None:
    visit = Visit(browser, page)
    visit.enter(KEY)
    visit.sees("Legal AI")
    visit.say("!slow")
    visit.tab.locator("#pg-chat").get_by_text("Başkent").wait_for()
    visit.press("Stop")
    visit.sees(TEXTS["en"]["stopped"])
    deadline = time.monotonic() + 10
    while not playground.gateway.cut and time.monotonic() < deadline:
        time.sleep(0.02)
    assert playground.gateway.cut == 1
    visit.press("New conversation")
    visit.tab.locator("#pg-chat").get_by_text("Başkent").wait_for(state="detached")
