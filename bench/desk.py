"""The review desk at size: from a vote to the next card, and many annotators at once.

    python bench/desk.py [--pairs 100000] [--votes 300] [--people 20] [--seconds 120]
                         [--think 1.0] [--processes] [--database URL]

First one annotator votes, alone. Then as many people as asked for work at the same queue, as
threads of one process like visitors of the console, or each in a process of their own; two votes a
pair (three on risky ones): they vote, and now and then skip, edit, revise and
take back. In the end every vote that a person was told of must be there, no pair may have more
votes than its overlap, and nobody may have met an error of the database. Prints one table and
ends with status 1 if any of that does not hold.

The database is a fresh SQLite file in a temporary folder unless a URL names an empty one. Times
are of the services alone; the page's own drawing comes on top.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import queue
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from labeling import votes
from labeling.models import Card, ReviewPolicy
from labeling.policies import Policies
from labeling.queue import ReviewQueue
from labeling.store import ClaimRow
from services.db import Database
from services.db.revise import declared_tables
from services.errors import ConsoleError
from services.preferences.models import Review, ReviewKind
from services.preferences.service import Preferences
from services.preferences.store import PairRow, ReviewRow
from services.tenants.models import Actor

TENANT = "bench"
SYSTEM = Actor.system("bench")
READY_S = 120
"""Longest wait for the other people's processes to start."""
SIZE = 600
"""Bytes of a synthetic row, about as many as a short question with two short answers."""
WORDS = ("neden", "nasıl", "hangi", "şehir", "river", "answer", "because", "weight", "yıldız")
Times = list[float]


@dataclass
class Report:
    """What one annotator met.

    Attributes:
        cast: Ids of the votes that the desk took.
        refused: How often the desk said why not, by kind; a conflict is right where somebody else
            edited the pair in between.
        seconds: From a vote to the next card.
    """

    cast: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    seconds: Times = field(default_factory=list)


def write_pairs(path: Path, count: int) -> None:
    """Write synthetic rows, all different; a third have answers that the AI finds close."""
    draw = random.Random(7)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            texts = [" ".join(draw.choices(WORDS, k=SIZE // 20)) for _ in range(3)]
            row = {
                "prompt": f"{texts[0]} {number}?",
                "chosen": texts[1] + ".",
                "rejected": texts[2] + "!",
                "chosen_score": 8.5,
                "rejected_score": 8.1 if number % 3 == 0 else 4.1,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def prepare(url: str, folder: Path, pairs: int) -> None:
    """Make the tables and import the pairs."""
    database = Database(url)
    declared_tables().create_all(database.engine)
    rows = folder / "pairs.jsonl"
    write_pairs(rows, pairs)
    preferences = Preferences(database, datasets_dir=folder / "datasets", max_bytes=1 << 30)
    with rows.open("rb") as stream:
        preferences.import_pairs(SYSTEM, TENANT, stream, source="bench", format="trl")
    Policies(database).change(SYSTEM, TENANT, ReviewPolicy(overlap=2, risky_overlap=3))
    database.close()


def desk(url: str, folder: Path) -> tuple[Database, ReviewQueue]:
    """A queue of one process."""
    database = Database(url)
    return database, ReviewQueue(database, Preferences(database, datasets_dir=folder))


def annotator(number: int) -> Actor:
    """One of the people."""
    return Actor(kind="user", id=f"user-{number}", name=f"P{number}", grants=SYSTEM.grants)


def alone(url: str, folder: Path, count: int) -> tuple[Times, Times, Times]:
    """Seconds of each vote, of each next card and of each count, by one annotator."""
    database, review = desk(url, folder)
    one = annotator(1_000)
    voted, given, counted = [], [], []
    card = review.next_card(one, TENANT)
    for number in range(count):
        if card is None:
            break
        began = time.perf_counter()
        review.vote(one, TENANT, card.pair_id, verdict=number % 7 - 3, active_ms=4_000)
        middle = time.perf_counter()
        card = review.next_card(one, TENANT)
        ended = time.perf_counter()
        review.progress(one, TENANT)
        voted.append(middle - began)
        given.append(ended - middle)
        counted.append(time.perf_counter() - ended)
    database.close()
    return voted, given, counted


def work_alone(url: str, folder: str, *arguments: Any) -> None:
    """One annotator in a process of their own."""
    database, review = desk(url, Path(folder))
    work(review, *arguments)
    database.close()


def work(
    review: ReviewQueue, number: int, seconds: float, think_s: float, ready: Any, results: Any
) -> None:
    """One annotator; all begin when all are ready."""
    draw, one, report = random.Random(number), annotator(number), Report()
    last: Review | None = None
    card: Card | None = None
    ready.wait(READY_S)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        began = time.perf_counter()
        try:
            if card is None:
                card = review.next_card(one, TENANT)
                continue
            action = draw.choices(
                ("vote", "skip", "edit", "undo", "revise"), (86, 4, 4, 3, 3), k=1
            )[0]
            last = act(review, one, card, action, last, report, draw)
            report.done[action] += 1
            card = review.next_card(one, TENANT)
            if action == "vote":
                report.seconds.append(time.perf_counter() - began)
        except ConsoleError as error:
            report.refused[error.code] += 1
            card = None
        except Exception as error:  # a bug is counted and ends this annotator
            report.refused[f"{type(error).__name__}: {error}"[:200]] += 1
            break
        time.sleep(draw.expovariate(1 / think_s) if think_s else 0)
    results.put(report)


def act(
    review: ReviewQueue,
    one: Actor,
    card: Card,
    action: str,
    last: Review | None,
    report: Report,
    draw: random.Random,
) -> Review | None:
    """Do one thing with a card; the annotator's latest vote is returned."""
    verdict = draw.choice((-2, -1, 0, 1, 2))
    if action == "vote":
        last = review.vote(
            one, TENANT, card.pair_id, verdict=verdict, shown=(card.left.id, card.right.id)
        )
        report.cast.append(last.id)
    elif action == "revise" and last is not None:
        last = review.revise(one, TENANT, last.id, verdict=verdict)
        report.cast.append(last.id)
    elif action == "edit":
        text = f"{card.left.text} {draw.random()}"
        review.edit(one, TENANT, card.pair_id, card.left.id, text)
    elif action == "skip":
        review.skip(one, TENANT, card.pair_id, "unclear")
    elif action == "undo":
        review.undo(one, TENANT)
        last = None
    return last


def together(url: str, folder: Path, options: argparse.Namespace) -> list[Report]:
    """Let all people work at once."""
    people: list[Any]
    numbers, times = range(options.people), (options.seconds, options.think)
    if options.processes:
        context = multiprocessing.get_context("spawn")
        shared: tuple[Any, Any] = context.Barrier(options.people), context.Queue()
        people = [
            context.Process(target=work_alone, args=(url, str(folder), number, *times, *shared))
            for number in numbers
        ]
        database = None
    else:
        shared = threading.Barrier(options.people), queue.SimpleQueue()
        database, one_desk = desk(url, folder)
        people = [
            threading.Thread(target=work, args=(one_desk, number, *times, *shared))
            for number in numbers
        ]
    results = shared[1]
    for one in people:
        one.start()
    reports = [results.get(timeout=options.seconds + READY_S) for _ in people]
    for one in people:
        one.join()
    if database is not None:
        database.close()
    return reports


def check(url: str, reports: Sequence[Report]) -> list[tuple[str, int]]:
    """What must be 0: votes lost, pairs over their overlap, places counted wrongly, errors."""
    database = Database(url)
    told = {review_id for report in reports for review_id in report.cast}
    with database.read() as session:
        of_people = ReviewRow.annotator_id != annotator(1_000).id
        stored = set(
            session.scalars(
                select(ReviewRow.id).where(ReviewRow.kind == ReviewKind.VOTE.value, of_people)
            )
        )
        counted = Counter(vote.pair_id for vote in votes.current(session, TENANT))
        overlap = {
            pair_id: (wanted, taken)
            for pair_id, wanted, taken in session.execute(
                select(PairRow.id, PairRow.overlap, PairRow.taken).where(PairRow.taken > 0)
            )
        }
        held = Counter(session.scalars(select(ClaimRow.pair_id).where(ClaimRow.place <= 1_000)))
    database.close()
    refused = sum((report.refused for report in reports), Counter[str]())
    unexpected = sum(number for code, number in refused.items() if code != "conflict")
    return [
        ("votes lost", len(told - stored)),
        ("votes nobody cast", len(stored - told)),
        ("pairs over their overlap", sum(n > overlap[one][0] for one, n in counted.items())),
        ("pairs with places counted wrongly", sum(overlap[one][1] != n for one, n in held.items())),
        ("errors that reached a person", unexpected),
    ]


def spread(seconds: Times) -> str:
    """Median and 95th percentile, milliseconds."""
    if len(seconds) < 2:
        return "too few"
    ordered = statistics.quantiles(seconds, n=20)
    return f"{statistics.median(seconds) * 1e3:.1f} / {ordered[18] * 1e3:.1f} ms (p50 / p95)"


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--votes", type=int, default=300)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--think", type=float, default=1.0, help="mean seconds between actions")
    parser.add_argument("--processes", action="store_true", help="each person in a process")
    parser.add_argument("--database")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = options.database or f"sqlite:///{folder / 'bench.db'}"
        prepare(url, folder, options.pairs)
        voted, given, counted = alone(url, folder, options.votes)
        reports = together(url, folder, options)
        faults = check(url, reports)
    kind = "processes" if options.processes else "threads of one process"
    both = [vote + card for vote, card in zip(voted, given, strict=True)]
    refused = sum((report.refused for report in reports), Counter[str]())
    at_once = [second for report in reports for second in report.seconds]
    rows = [
        ("pairs in the tenant", f"{options.pairs:,}"),
        ("vote, one annotator", spread(voted)),
        ("next card, one annotator", spread(given)),
        ("vote to next card, one annotator", spread(both)),
        ("progress, one annotator", spread(counted)),
        ("annotators at once", f"{options.people} {kind} for {options.seconds:.0f} s"),
        ("vote to next card, at once", spread(at_once)),
        ("what they did", str(dict(sum((one.done for one in reports), Counter[str]())))),
        ("refused", str(dict(refused)) if refused else "nothing"),
        *((what, f"{number}") for what, number in faults),
    ]
    for what, value in rows:
        print(f"{what:<36}{value}")
    return 1 if any(number for _, number in faults) else 0


if __name__ == "__main__":
    sys.exit(main())
