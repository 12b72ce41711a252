"""From the key of a verdict to the next card on the screen, in headless Chromium.

    python bench/card.py [--pairs 100000] [--votes 200] [--home FOLDER]

Prints one table. A console of its own is started on a fresh SQLite database with so many pairs.
The time is the browser's: from the key event to the frame in which the next card was painted. With
`--home` the database is kept, and found again by the next run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services import bootstrap, settings
from services.db.revise import declared_tables
from services.tenants.models import Actor, Limits, Role

TARGET_MS = {"median": 200, "p95": 400}
PASSWORD = "bench-parola"  # noqa: S105 - of a throw-away database
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WORDS = ("neden", "nasıl", "şehir", "ülke", "river", "answer", "because", "model", "yıldız")

# The second frame after the card changed: by then the first one with it has been painted.
WATCH = """
() => {
  window.paramTimes = [];
  const pair = () => document.querySelector(".pc-desk-card")?.dataset.pair;
  let struck = 0, before = pair();
  document.addEventListener("keydown", (event) => { struck = event.timeStamp; before = pair(); }, true);
  new MutationObserver(() => {
    if (!struck || pair() === before) return;
    const since = struck;
    struck = 0;
    requestAnimationFrame(() => requestAnimationFrame(() =>
      window.paramTimes.push(performance.now() - since)));
  }).observe(document.querySelector(".pc-desk"), { childList: true, subtree: true });
}
"""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--votes", type=int, default=200)
    parser.add_argument("--home", type=Path)
    options = parser.parse_args()
    if CHROMIUM is None:
        print("left out: Chromium is not on this machine")
        return
    with tempfile.TemporaryDirectory() as folder:
        home = options.home or Path(folder)
        port = _free_port()
        prepare(home, port, options.pairs)
        with console(home, port) as url:
            times = votes(url, options.votes)
    cuts = statistics.quantiles(times, n=20)
    rows = [
        ("pairs in the tenant", f"{options.pairs:,}"),
        ("votes", f"{len(times):,}"),
        ("median", f"{statistics.median(times):.0f} ms (at most {TARGET_MS['median']})"),
        ("p95", f"{cuts[18]:.0f} ms (at most {TARGET_MS['p95']})"),
        ("longest", f"{max(times):.0f} ms"),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def prepare(home: Path, port: int, pairs: int) -> None:
    """A database with one annotator and so many pairs, unless it is there already."""
    found = (home / "param.db").is_file()
    built = bootstrap.build(settings.load(_environment(home, port)))
    if not found:
        actor = Actor.system("bench")
        declared_tables().create_all(built.db.engine)
        built.tenants.create(actor, "Bench", limits=Limits(5, 100, 10_000))
        grants = {"bench": frozenset({Role.ANNOTATOR})}
        built.tenants.create_user(
            actor, "annotator", display_name="Annotator", grants=grants, password=PASSWORD
        )
        file = home / "pairs.jsonl"
        write_pairs(file, pairs)
        with file.open("rb") as stream:
            built.preferences.import_pairs(actor, "bench", stream, source="bench")
    built.close()


def write_pairs(path: Path, count: int) -> None:
    """Write synthetic rows of about 1.2 kB, all different."""
    chance = random.Random(7)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            first, second, third = (" ".join(chance.choices(WORDS, k=60)) for _ in range(3))
            row = {
                "prompt": f"{first} {number}?", "chosen": f"{second}.", "rejected": f"{third}!",
                "chosen_score": 8.5, "rejected_score": 4.1,
            }  # fmt: skip
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


@contextmanager
def console(home: Path, port: int) -> Iterator[str]:
    """The console on this home; its address."""
    entry = Path(__file__).parents[1] / "console" / "app.py"
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(entry),
         "--server.port", str(port), "--server.address", "127.0.0.1"],
        cwd=entry.parents[1], stdout=subprocess.DEVNULL,
        env=os.environ | _environment(home, port),  # noqa: TID251  # for the console's process
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}/"
    try:
        _await(f"{url}_stcore/health")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def votes(url: str, count: int) -> list[float]:
    """Milliseconds from the key to the next card, for each of so many votes."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{url}review")
        page.get_by_role("textbox", name="Username").fill("annotator")
        page.get_by_role("textbox", name="Password").fill(PASSWORD)
        page.get_by_role("textbox", name="Password").press("Enter")
        ready = '.pc-desk[data-state="ready"]'
        page.wait_for_selector(ready)
        page.evaluate(WATCH)
        for number in range(count + 5):  # The first five warm up.
            page.wait_for_selector(ready)
            page.keyboard.press("1234567"[number % 7])
            page.wait_for_function("count => window.paramTimes.length > count", arg=number)
        times: Any = page.evaluate("window.paramTimes")
        browser.close()
    return [float(one) for one in times[5:]]


def _environment(home: Path, port: int) -> dict[str, str]:
    config = home / "none.toml"
    config.touch()
    return {
        "PARAM_HOME": str(home), "PARAM_CONFIG": str(config), "PARAM_CONSOLE_PORT": str(port),
        "PARAM_DATABASE_URL": f"sqlite:///{home / 'param.db'}", "PARAM_MAX_UPLOAD_MB": "1024",
    }  # fmt: skip


def _await(url: str) -> None:
    for _ in range(240):
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError(f"expected the console at {url} within 120 s, found no answer")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
