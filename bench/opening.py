"""A page opened in headless Chromium until its list is painted: `opened` for other benches.

The time by the clock is from the click on the page's name to the second frame after the first rows
of its list are in the document, where screen readers find them: Streamlit's own table puts them
there some 200 ms after its canvas, a plain list in the frame that shows them. What the page draws
below the list may follow later and is not waited for. Beside it stands the processor time that the
console and the page's own thread took, which other work on the machine leaves alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.card import CHROMIUM, FLAGS, PASSWORD, _free_port, console

__all__ = ["CHROMIUM", "PASSWORD", "Opening", "free_port", "opened"]

free_port = _free_port

LIST = '[data-testid="stDataFrame"], .pc-list'
WATCH = """
(name) => {
  const canvas = '[data-testid="stDataFrame"] canvas[data-testid="data-grid-canvas"]';
  const rows = `${canvas} [role="row"], .pc-list tbody [role="row"]`;
  document.addEventListener("click", (event) => {
    if (!event.target.closest(`a[href$="/${name}"]`)) return;
    const began = event.timeStamp;
    window.paramOpened = null;
    const look = () => {
      if (!document.querySelector(rows)) return requestAnimationFrame(look);
      requestAnimationFrame(() => requestAnimationFrame(() => {
        window.paramOpened = performance.now() - began;
      }));
    };
    requestAnimationFrame(look);
  }, true);
}
"""


@dataclass(frozen=True)
class Opening:
    """One opening, milliseconds.

    Attributes:
        clock: From the click to the painted list.
        server: Processor time of the console's process until then.
        browser: Likewise of the page's own thread.
    """

    clock: float
    server: float
    browser: float


def opened(home: Path, port: int, name: str, *, user: str, times: int) -> list[Opening]:
    """Open a page so often, each time from another one; the first two warm up and are left out.

    Args:
        name: Of the page, as its address ends.
    """
    from playwright.sync_api import sync_playwright

    with console(home, port) as url, sync_playwright() as playwright:
        [server] = [
            process for process in psutil.Process().children(recursive=True)
            if "streamlit" in process.cmdline()
        ]  # fmt: skip
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(240_000)
        page.goto(f"{url}train")
        page.get_by_role("textbox", name="Username").fill(user)
        page.get_by_role("textbox", name="Password").fill(PASSWORD)
        page.get_by_role("textbox", name="Password").press("Enter")
        page.wait_for_selector(LIST)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.evaluate(WATCH, name)
        found = []
        for _ in range(times + 2):
            page.locator('a[href$="/verify"]').first.click()
            page.wait_for_selector(LIST, state="detached")
            _rest(page)
            before = _busy(server, session)
            page.locator(f'a[href$="/{name}"]').first.click()
            page.wait_for_function("() => window.paramOpened")
            after = _busy(server, session)
            found.append(Opening(float(page.evaluate("window.paramOpened")),
                                 after[0] - before[0], after[1] - before[1]))  # fmt: skip
            _rest(page)
        browser.close()
    return found[2:]


def _rest(page: Any) -> None:
    """Wait until the console has drawn all of the page."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def _busy(server: psutil.Process, session: Any) -> tuple[float, float]:
    spent = server.cpu_times()
    metrics = session.send("Performance.getMetrics")["metrics"]
    [task] = [one["value"] for one in metrics if one["name"] == "TaskDuration"]
    return 1000 * (spent.user + spent.system), 1000 * float(task)
