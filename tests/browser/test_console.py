"""The console alone in a real browser: what AppTest cannot see."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from console.navigation import ROWS
from services import bootstrap, settings
from services.bootstrap import Services
from services.tenants.models import EVERY_TENANT, Actor, Limits, Role
from tests.support import ROOT, free_port

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SYSTEM = Actor.system("test")
PASSWORD = "parola-parola"
PEOPLE = {
    "annotator": {"acme": frozenset({Role.ANNOTATOR})},
    "engineer": {"acme": frozenset({Role.ENGINEER}), "globex": frozenset({Role.ENGINEER})},
    "root": {EVERY_TENANT: frozenset({Role.ADMIN})},
}
HOSTILE = "<img src=x onerror=alert(1)> ![p](https://evil.example/p.png)"


@dataclass
class Console:
    """A console process and the services on its database."""

    url: str
    services: Services
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Start the process and wait until it answers."""
        command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "console" / "app.py")]
        port = self.url.rpartition(":")[2].strip("/")
        self.process = subprocess.Popen(
            [*command, "--server.port", port, "--server.address", "127.0.0.1"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}_stcore/health", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)
        raise AssertionError("the console did not answer within 120 s")


def _rows() -> bytes:
    rows = [
        {"prompt": f"Question {i}?", "chosen": f"Good {i}.", "rejected": f"Bad {i}."}
        for i in range(12)
    ]
    rows.append({"prompt": "Hostile?", "chosen": HOSTILE, "rejected": "x" * 300})
    return "\n".join(json.dumps(row) for row in rows).encode()


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    home, port = tmp_path_factory.mktemp("console"), free_port()
    own = {"PARAM_HOME": str(home), "PARAM_CONSOLE_PORT": str(port)}
    built = bootstrap.build(settings.load(own))
    built.db.migrate()
    for tenant_id in ("acme", "globex"):
        built.tenants.create(SYSTEM, tenant_id.title(), limits=Limits(5, 100, 10_000))
        built.preferences.import_pairs(SYSTEM, tenant_id, io.BytesIO(_rows()), source="rows")
    for name, grants in PEOPLE.items():
        built.tenants.create_user(
            SYSTEM, name, display_name=name.title(), grants=grants, password=PASSWORD
        )
    running = Console(f"http://127.0.0.1:{port}/", built, os.environ | own, None)  # type: ignore[arg-type]
    running.start()
    yield running
    running.process.terminate()
    running.process.wait(timeout=30)
    built.close()


@pytest.fixture(scope="module")
def chromium(browser: Browser) -> Browser:
    """The folder's Chromium, by the name that its type leaves free."""
    return browser


def _signed_in(chromium: Browser, console: Console, name: str, path: str, *, width: int) -> Page:
    context = chromium.new_context(viewport={"width": width, "height": 900}, locale="en-US")
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.goto(console.url + path)
    page.get_by_role("textbox", name="Username").fill(name)
    page.get_by_role("textbox", name="Password").fill(PASSWORD)
    page.get_by_role("textbox", name="Password").press("Enter")
    page.get_by_test_id("stSidebarNav").wait_for(state="attached")
    return page


def _reviewed(page: Page, text: str) -> None:
    expect(page.get_by_test_id("stProgress")).to_contain_text(text, timeout=30_000)
    page.wait_for_timeout(150)  # nobody strikes a key in the very frame that shows the count


def test_the_cookie_is_hidden_from_scripts_and_outlives_reload_and_restart(
    console: Console, chromium: Browser
) -> None:
    page = _signed_in(chromium, console, "engineer", "pairs", width=1280)
    expect(page.get_by_role("heading", name="Pairs")).to_be_visible(timeout=30_000)
    deadline = time.monotonic() + 10
    while not (found := _cookies(page)) and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    [cookie] = found
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert cookie["value"] not in page.evaluate("document.cookie")
    page.reload()
    expect(page.get_by_role("heading", name="Pairs")).to_be_visible(timeout=30_000)
    console.process.kill()
    console.process.wait()
    console.start()
    page.goto(console.url + "pairs")
    expect(page.get_by_role("heading", name="Pairs")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Engineer").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=30_000)
    assert console.services.tenants.resume(str(cookie["value"])) is None


def _cookies(page: Page) -> list[dict[str, object]]:
    cookies = page.context.cookies()
    return [dict(one) for one in cookies if one["name"].startswith("param_session")]


def test_a_review_by_keyboard_alone(console: Console, chromium: Browser) -> None:
    page = _signed_in(chromium, console, "annotator", "review", width=1280)
    _reviewed(page, "0 of 13")
    expect(page.get_by_role("button", name="Keys")).to_be_visible()
    page.keyboard.press("2")
    _reviewed(page, "1 of 13")
    page.keyboard.press("0")
    _reviewed(page, "2 of 13")
    page.keyboard.press("z")
    _reviewed(page, "1 of 13")
    page.keyboard.press("e")
    editor = page.locator("textarea").first
    editor.focus()
    page.keyboard.press("Control+End")
    # Letters and digits that are keys elsewhere, and the text not yet committed at Ctrl+Enter.
    page.keyboard.type(" 7 s z 0 edited")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".pc-note")).to_have_text("edited, version 2", timeout=30_000)
    expect(page.locator(".pc-answer").first).to_contain_text(" 7 s z 0 edited")
    expect(page.get_by_role("button", name="Keys")).to_be_visible()
    page.keyboard.press("6")
    _reviewed(page, "2 of 13")
    assert console.services.preferences.stats(SYSTEM, "acme").edited == 1


def test_keys_that_are_struck_too_fast_judge_no_unseen_card(
    console: Console, chromium: Browser
) -> None:
    page = _signed_in(chromium, console, "engineer", "review?tenant=Acme", width=1280)
    expect(page.get_by_role("button", name="Keys")).to_be_visible(timeout=30_000)
    before = console.services.preferences.stats(SYSTEM, "acme").reviews
    page.evaluate(
        """() => { for (let i = 0; i < 5; i++) document.dispatchEvent(new KeyboardEvent(
            "keydown", {key: "1", code: "Digit1", keyCode: 49, bubbles: true})) }"""
    )
    page.wait_for_timeout(3_000)
    assert console.services.preferences.stats(SYSTEM, "acme").reviews - before <= 1
    assert page.get_by_test_id("stAlert").count() == 0


def test_a_models_text_loads_and_runs_nothing(console: Console, chromium: Browser) -> None:
    page = _signed_in(chromium, console, "engineer", "review?tenant=Globex", width=1280)
    asked: list[str] = []
    opened: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (opened.append(dialog.message), dialog.dismiss()))
    expect(page.get_by_role("button", name="Keys")).to_be_visible(timeout=30_000)
    page.keyboard.press("m")
    for done in range(12):
        _reviewed(page, f"{done} of 13")
        page.keyboard.press("1")
    _reviewed(page, "12 of 13")
    expect(page.locator(".pc-turns")).to_contain_text("Hostile?")
    assert page.locator(".pc-answer img").count() == 0
    assert not opened
    assert not [url for url in asked if "evil" in url]


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_the_window(console: Console, chromium: Browser, width: int) -> None:
    for name in ("engineer", "root"):
        page = _signed_in(chromium, console, name, "", width=width)
        actor = next(u for u in console.services.tenants.list_users(SYSTEM) if u.username == name)
        for row in ROWS:
            if not row.open_to(actor.actor(), "acme"):
                continue
            page.goto(console.url + row.name + "?tenant=Acme")
            expect(page.get_by_role("heading").first).to_be_visible(timeout=30_000)
            main = page.get_by_test_id("stMain")
            assert main.evaluate("e => e.scrollWidth - e.clientWidth") == 0, row.name
            assert page.get_by_test_id("stException").count() == 0, row.name
