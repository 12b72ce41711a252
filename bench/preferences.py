"""Import of many pairs, finding them, changing them, and the time from a vote to the next card.

    python bench/preferences.py [--pairs 100000] [--votes 300] [--database URL]

Prints one table. The database is a fresh SQLite file in a temporary folder unless a URL names an
empty one. Times are of the services alone; the page's own drawing comes on top.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from labeling.queue import ReviewQueue
from services.db import Database
from services.db.revise import declared_tables
from services.preferences.bulk import Bulk, Kind
from services.preferences.filters import Filters, Sort
from services.preferences.models import PairStatus
from services.preferences.service import Preferences
from services.tenants.models import Actor

T = TypeVar("T")
WORDS = tuple(
    [
        "neden",
        "nasıl",
        "hangi",
        "şehir",
        "ülke",
        "river",
        "answer",
        "because",
        "model",
        "weight",
        "seven",
        "yıldız",
        "kitap",
    ]
)


def write_pairs(path: Path, count: int) -> None:
    """Write synthetic rows of about 600 bytes, all different."""
    random.seed(7)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            texts = [" ".join(random.choices(WORDS, k=25)) for _ in range(3)]
            row = {
                "prompt": f"{texts[0]} {number}?",
                "chosen": texts[1] + ".",
                "rejected": texts[2] + "!",
                "chosen_score": 8.5,
                "rejected_score": 4.1,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def timed(what: Callable[[], T]) -> tuple[float, str, T]:
    """Seconds, the same in words with the processor's share of them, and the result."""
    started, busy = time.perf_counter(), time.process_time()
    result = what()
    seconds = time.perf_counter() - started
    return seconds, f"{seconds:.1f} s ({time.process_time() - busy:.1f} s of CPU)", result


def percentiles(seconds: list[float]) -> str:
    """Median and 99th percentile, milliseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return f"{statistics.median(seconds) * 1e3:.1f} / {cuts[98] * 1e3:.1f} ms (p50 / p99)"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--votes", type=int, default=300)
    parser.add_argument("--database")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        rows = measure(home, options.database or f"sqlite:///{home / 'bench.db'}", options)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def measure(home: Path, url: str, options: argparse.Namespace) -> list[tuple[str, str]]:
    """All measurements, as rows of the table."""
    file = home / "pairs.jsonl"
    write_pairs(file, options.pairs)
    db = Database(url)
    declared_tables().create_all(db.engine)
    actor = Actor.system("bench")
    preferences = Preferences(db, datasets_dir=home / "datasets", max_bytes=1 << 30)
    queue = ReviewQueue(db, preferences)
    before = peak_mib()

    def take_in(dry_run: bool = False) -> int:
        with file.open("rb") as stream:
            report = preferences.import_pairs(
                actor, "bench", stream, source="bench", dry_run=dry_run
            )
        return report.imported

    checked, words, _ = timed(lambda: take_in(dry_run=True))
    table = [
        ("file", f"{file.stat().st_size / 2**20:.0f} MiB, {options.pairs:,} pairs"),
        ("dry run", words),
    ]
    seconds, words, imported = timed(take_in)
    table += [
        ("import", f"{words}, {imported / seconds:,.0f} pairs/s"),
        ("of that, writing locked for about", f"{seconds - checked:.1f} s"),
        ("peak memory of the import", f"{peak_mib():.0f} MiB ({before:.0f} MiB before)"),
    ]
    _, words, again = timed(take_in)
    table.append(("import of the same file again", f"{words}, {again} new"))
    table += finding(preferences, actor)
    table += changing(Bulk(db), actor)
    table.append(("vote to next card", percentiles(review(queue, actor, options.votes))))
    counts = [timed(lambda: queue.progress(actor, "bench"))[0] for _ in range(20)]
    table.append(("progress", percentiles(counts)))
    _, words, approved = timed(lambda: preferences.approve_imported(actor, "bench"))
    table.append(("approve as imported", f"{words}, {approved:,} pairs"))
    _, words, dataset = timed(lambda: preferences.snapshot(actor, "bench"))
    table.append(("snapshot", f"{words}, {dataset.n_train:,} + {dataset.n_eval:,} pairs"))
    table.append(("peak memory at the end", f"{peak_mib():.0f} MiB"))
    db.close()
    return table


def finding(preferences: Preferences, actor: Actor) -> list[tuple[str, str]]:
    """Times of the list that the page draws: 25 rows and how many there are."""
    asked: dict[str, dict[str, Any]] = {
        "browse, first page": {},
        "browse, page 300": {"offset": 7_475},
        "browse, by priority": {"sort": Sort.PRIORITY},
        "browse, by status and what stands out": {
            "status": PairStatus.UNREVIEWED,
            "lint": "length_gap",
        },
        "search, one pair has the word": {"query": "77777"},
        "search, nearly all have the word": {"query": "neden"},
        "search, three words": {"query": "neden weight kitap"},
        "search, beginnings of two words, one status": {
            "query": "ans wei",
            "status": PairStatus.UNREVIEWED,
        },
    }
    rows = []
    for name, how in asked.items():
        seconds = [
            timed(lambda how=how: preferences.pairs(actor, "bench", limit=25, **how))[0]  # type: ignore[misc]
            for _ in range(20)
        ]
        rows.append((name, percentiles(seconds)))
    return rows


def changing(bulk: Bulk, actor: Actor) -> list[tuple[str, str]]:
    """Times of a bulk action over all pairs: counted, done, taken back."""
    _, counted, seen = timed(lambda: bulk.preview(actor, "bench", Kind.REJECT, Filters()))
    _, done, action = timed(lambda: bulk.run(actor, "bench", Kind.REJECT, Filters()))
    _, back, undo = timed(lambda: bulk.undo(actor, "bench", action.id))
    return [
        ("bulk action, preview", f"{counted}, {seen.changed:,} pairs"),
        ("bulk action", f"{done}, {action.changed:,} pairs"),
        ("bulk action, taken back", f"{back}, {undo.changed:,} pairs"),
    ]


def review(queue: ReviewQueue, actor: Actor, votes: int) -> list[float]:
    """Seconds from each vote to the next card in hand."""
    card = queue.next_card(actor, "bench")
    seconds: list[float] = []
    for _ in range(votes):
        if card is None:
            break
        started = time.perf_counter()
        queue.vote(actor, "bench", card.pair_id, verdict=2)
        card = queue.next_card(actor, "bench")
        seconds.append(time.perf_counter() - started)
    return seconds


def peak_mib() -> float:
    """Peak resident memory of this process so far, MiB (Linux counts KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
