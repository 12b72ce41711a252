"""The list of 500 training runs in a real browser: every row is there, by key, by eye, by ear."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from bench.runs import TENANT, fill
from services.tenants.models import Role
from tests.browser.alone import Console, console

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RUNS = 500


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    people = {"engineer": {TENANT: frozenset({Role.ENGINEER})}}
    with console(tmp_path_factory.mktemp("train"), people) as found:
        fill(found.services.db, found.services.training, RUNS, 30)
        yield found


@pytest.fixture
def page(browser: Browser, running: Console) -> Iterator[Page]:
    opened: Any = running.sign_in(browser, "engineer", "train", locale="en-US")
    opened.locator(".pc-list tbody tr").first.wait_for()
    yield opened
    opened.context.close()


def test_each_of_500_runs_is_reached_by_keys_alone(page: Page) -> None:
    rows = page.get_by_role("grid", name="Training runs").locator("tbody tr")
    expect(rows).to_have_count(RUNS)
    newest = rows.first
    expect(newest).to_have_attribute("aria-selected", "true")
    newest.focus()
    page.keyboard.press("End")
    oldest = rows.last
    expect(oldest).to_be_focused()
    expect(oldest).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(oldest).to_have_attribute("aria-selected", "true")
    expect(newest).to_have_attribute("aria-selected", "false")
    expect(page.get_by_text("Adapter", exact=True).first).to_be_visible()
    expect(page.get_by_text("bench-000000000000").last).to_be_visible()


def test_a_search_finds_a_run_and_says_how_many(page: Page) -> None:
    rows = page.locator(".pc-list tbody tr")
    expect(rows).to_have_count(RUNS)
    search = page.get_by_role("searchbox", name="Search the list")
    search.fill("BENCH-0000000001F3")
    expect(rows).to_have_count(1)
    expect(page.get_by_role("status").filter(has_text="1 of 500")).to_be_visible()
    search.fill("no such run")
    expect(rows).to_have_count(0)
    expect(page.get_by_text("Nothing found")).to_be_visible()
    search.fill("")
    expect(rows).to_have_count(RUNS)


def test_a_title_sorts_and_says_so(page: Page) -> None:
    rows = page.locator(".pc-list tbody tr")
    expect(rows).to_have_count(RUNS)
    newest = rows.first.get_attribute("data-id")
    title = page.get_by_role("columnheader", name="Launched", exact=True)
    title.get_by_role("button").click()
    expect(title).to_have_attribute("aria-sort", "ascending")
    expect(rows.last).to_have_attribute("data-id", str(newest))
    title.get_by_role("button").click()
    expect(title).to_have_attribute("aria-sort", "descending")
    expect(rows.first).to_have_attribute("data-id", str(newest))


def test_a_clone_opens_the_form_with_the_settings_of_its_run(page: Page) -> None:
    chosen = page.locator(".pc-list tbody tr[aria-selected=true]").get_attribute("data-id")
    page.get_by_role("button", name="Clone").click()
    expect(page.get_by_role("button", name="Start training")).to_be_visible()
    told = f"The form holds the settings of run …{str(chosen)[-6:]}."
    expect(page.get_by_text(told)).to_be_visible()
