"""The console alone in a real browser: what AppTest cannot see."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from console.navigation import ROWS
from services import bootstrap, settings
from services.tenants.models import EVERY_TENANT, Actor, Limits, Role
from tests.browser.alone import Console
from tests.support import free_port

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SYSTEM = Actor.system("test")
PASSWORD = "parola-parola"
PEOPLE = {
    "annotator": {"acme": frozenset({Role.ANNOTATOR})},
    "engineer": {"acme": frozenset({Role.ENGINEER}), "globex": frozenset({Role.ENGINEER})},
    "root": {EVERY_TENANT: frozenset({Role.ADMIN})},
}
HOSTILE = "<img src=x onerror=alert(1)> ![p](https://evil.example/p.png)"


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
