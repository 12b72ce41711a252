"""People in front of a browser: at the console, and at the playground."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from console.i18n import catalogue
from console.playground.texts import TEXTS
from tests.browser.installation import Installation
from tests.support import ROOT

PICTURES = ROOT / "test-artifacts"
PATIENCE_MS = 480_000
SETTLED = '[data-testid="stApp"][data-test-script-state="notRunning"]'


def said(key: str, language: str = "en", **values: object) -> str:
    """What the console says under a key; of several forms the one for many."""
    text = catalogue("tr" if language == "tr" else "en")[key]
    if not isinstance(text, str):
        text = text["other"]
    return text.format(**values) if values else text


def picture(tab: Any, name: str) -> None:
    """Keep a picture of what is on the screen."""
    PICTURES.mkdir(exist_ok=True)
    tab.screenshot(path=str(Path(PICTURES) / f"{name}.png"))


class Visitor:
    """One person at the console, in a browser of their own.

    Attributes:
        tab: Playwright's page.
        language: What the console speaks with this person.
        loads: How often a page was loaded as a whole.
        bugs: What went wrong in the page's scripts.
    """

    def __init__(self, browser: Any, installed: Installation, *, locale: str = "en-GB") -> None:
        self.installed = installed
        self.language = locale[:2]
        self.context = browser.new_context(
            locale=locale, viewport={"width": 1360, "height": 900}, accept_downloads=True
        )
        self.context.set_default_timeout(PATIENCE_MS)
        self.tab = self.context.new_page()
        self.loads = 0
        self.bugs: list[str] = []
        self.tab.on("load", lambda _tab: self._loaded())
        self.tab.on("pageerror", lambda error: self.bugs.append(str(error)))

    def _loaded(self) -> None:
        self.loads += 1

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self.leave()
        else:
            picture(self.tab, "failed")
            self.context.close()

    def leave(self) -> None:
        """Close the browser; no script of a page may have failed meanwhile."""
        self.context.close()
        assert not self.bugs, self.bugs

    def text(self, key: str, **values: object) -> str:
        """What the console says under a key in this person's language."""
        return said(key, self.language, **values)

    def sign_in(self, username: str) -> None:
        """Sign in by keyboard, and wait until the browser has its cookie."""
        self.tab.goto(self.installed.settings.console_url)
        self.part("sign_in.username").locator("input").focus()
        self.tab.keyboard.type(username)
        self.tab.keyboard.press("Tab")
        self.tab.keyboard.type(self.installed.passwords[username])
        with self.tab.expect_response(_is_session):
            self.tab.keyboard.press("Enter")
        self.is_in()

    def sign_out(self) -> None:
        """Sign out, and wait until the browser has given up its cookie."""
        self.corner()
        with self.tab.expect_response(_is_session):
            self.part("shared.sign_out").locator("button").click()
        self.is_out()

    def corner(self) -> None:
        """Open the corner that shows who is signed in."""
        self.tab.locator('[data-testid="stSidebar"] [data-testid="stPopover"] button').click()

    def is_in(self) -> None:
        """See that somebody is signed in."""
        self.part("tenant").wait_for()

    def is_out(self) -> None:
        """See the sign-in form."""
        self.part("sign_in.username").wait_for()

    def open(self, name: str, tenant: str = "ailydian-hq", **query: str) -> None:
        """Open a page by its address, as from a bookmark; `home` is the bare address."""
        name = "" if name == "home" else name
        asked = "&".join(f"{key}={value}" for key, value in {"tenant": tenant, **query}.items())
        self.tab.goto(f"{self.installed.settings.console_url}/{name}?{asked}")
        self.settle()

    def settle(self) -> None:
        """Wait until the page is drawn, with no trace of a bug in it."""
        self.tab.locator('[data-testid="stMain"] [data-testid="stVerticalBlock"]').first.wait_for()
        self.tab.wait_for_selector(SETTLED)
        assert self.tab.locator('[data-testid="stException"]').count() == 0, self.main()

    def has_card(self) -> None:
        """Wait until the review desk takes keys."""
        self.tab.wait_for_selector('.pc-desk[data-state="ready"]')

    def part(self, key: str) -> Any:
        """The element that was drawn under a key of the session."""
        return self.tab.locator(f".st-key-{re.sub('[^a-zA-Z0-9_-]', '-', key)}")

    def press(self, key: str) -> None:
        """Press the button of a key."""
        self.part(key).get_by_role("button").click()

    def fill(self, key: str, value: str) -> None:
        """Type into the field of a key, and leave it."""
        field = self.part(key).locator("input, textarea").first
        field.fill(value)
        field.press("Tab")
        self.tab.wait_for_selector(SETTLED)

    def sees(self, text: str | re.Pattern[str]) -> None:
        """Wait for a text on the page, other than in a table."""
        self.tab.get_by_text(text).filter(visible=True).first.wait_for()

    def chosen(self, key: str) -> str:
        """What the select box of a key shows."""
        return str(self.part(key).locator("input").first.input_value())

    def sees_cell(self, text: str) -> None:
        """Wait for a text in a table; a canvas, with its cells below it for screen readers."""
        cell = self.tab.locator("canvas td", has_text=re.compile(re.escape(text)))
        cell.first.wait_for(state="attached")

    def main(self) -> str:
        """What stands on the page, without the sidebar, the cells of tables included."""
        block = self.tab.locator('[data-testid="stMain"]')
        cells = self.tab.locator("canvas td").all_text_contents()
        return "\n".join([str(block.inner_text()), *cells])

    def offered(self) -> list[str]:
        """Names of the pages in the navigation, as in the addresses."""
        links = self.tab.locator('[data-testid="stSidebarNavLink"]')
        links.first.wait_for()
        addresses = links.evaluate_all("links => links.map(link => new URL(link.href).pathname)")
        return [str(address).strip("/") or "home" for address in addresses]

    def picture(self, name: str) -> None:
        """Keep a picture of the page."""
        picture(self.tab, name)


def _is_session(response: Any) -> bool:
    return str(response.url).endswith("/session")


class Customer:
    """Somebody with a key at the playground."""

    def __init__(self, browser: Any, installed: Installation) -> None:
        self.context = browser.new_context(
            locale="en-GB", viewport={"width": 1360, "height": 900}, accept_downloads=True
        )
        self.context.set_default_timeout(PATIENCE_MS)
        self.tab = self.context.new_page()
        self.tab.goto(installed.settings.playground_url)

    def enter(self, key: str) -> None:
        """Sign in."""
        self.tab.fill("#pg-door input", key)
        self.tab.keyboard.press("Enter")

    def ask(self, message: str) -> None:
        """Send a message and wait until the answer is complete and its receipt is there."""
        self.tab.fill("#pg-message textarea", message)
        self.tab.press("#pg-message textarea", "Enter")
        self.sees(TEXTS["en"]["download"])

    def facts(self) -> dict[str, str]:
        """What the page says about the last answer, by the name of the fact."""
        names = self.tab.locator(".pg-facts dt").all_inner_texts()
        values = self.tab.locator(".pg-facts dd").all_inner_texts()
        words = {TEXTS["en"][name]: name for name in ("served", "arm", "tokens", "cost", "receipt")}
        return {
            words[name]: value for name, value in zip(names, values, strict=True) if name in words
        }

    def press(self, name: str) -> None:
        """Press the button of this name."""
        self.tab.get_by_role("button", name=TEXTS["en"][name], exact=True).click()

    def sees(self, text: str) -> None:
        """Wait for a text on the page."""
        self.tab.get_by_text(text).first.wait_for()

    def picture(self, name: str) -> None:
        """Keep a picture of the page."""
        picture(self.tab, name)

    def leave(self) -> None:
        """Close the browser."""
        self.context.close()
