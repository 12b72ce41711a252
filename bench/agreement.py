"""Agreement, meters and the queue of disagreements over many votes.

    python bench/agreement.py [--pairs 100000] [--votes 100000] [--annotators 20] [--database URL]

Prints one table. The database is a fresh SQLite file in a temporary folder unless a URL names an
empty one. Half of the pairs have two votes, a tenth of the votes are revised after the AI's
verdict, every pair has a judgment in both orders.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Table, insert

from labeling.adjudication import Adjudication
from labeling.agreement import Agreements
from labeling.meters import Meters
from labeling.votes import Basis
from services.db import Base, Database, new_id
from services.db.revise import declared_tables
from services.preferences.models import FLAGS, PairStatus
from services.preferences.service import Preferences
from services.preferences.store import JudgmentRow, PairRow, PromptRow, ResponseRow, ReviewRow
from services.tenants.models import Actor, Role

TENANT = "acme"
LEAD = Actor("user", "lead", "lead", {TENANT: frozenset({Role.ENGINEER})})
START = datetime(2026, 11, 1, 8, tzinfo=UTC)
CHUNK = 5_000
T = TypeVar("T")


def fill(db: Database, *, pairs: int, votes: int, annotators: int) -> None:
    """Write synthetic pairs and votes."""
    random.seed(11)
    people = [f"user-{number:03}" for number in range(annotators)]
    numbers = dict.fromkeys(people, 0)
    rows: dict[type[Base], list[dict[str, Any]]] = {
        one: [] for one in (PromptRow, PairRow, ResponseRow, JudgmentRow, ReviewRow)
    }
    left = votes
    for position in range(pairs):
        made = _pair(position, is_double=position % 2 == 0)
        rows[PromptRow].append(made["prompt"])
        rows[PairRow].append(made["pair"])
        rows[ResponseRow] += made["responses"]
        rows[JudgmentRow] += made["judgments"]
        wanted = min(left, 2 if position % 2 == 0 else 0) if votes <= pairs else min(left, 2)
        for who in random.sample(people, wanted):
            voted = list(_votes(made, who, numbers))
            rows[ReviewRow] += voted
        left -= wanted
        if position % CHUNK == CHUNK - 1 or position == pairs - 1:
            _write(db, rows)


def _pair(position: int, *, is_double: bool) -> dict[str, Any]:
    pair_id, prompt_id = new_id(), new_id()
    first, second = new_id(), new_id()
    better = random.randint(-3, 3)
    is_disputed = is_double and position % 10 == 0
    at = START
    shared = {"tenant_id": TENANT, "pair_id": pair_id}
    return {
        "better": better,
        "prompt": {
            "id": prompt_id, "tenant_id": TENANT, "key": prompt_id, "language": "en",
            "turns": [{"role": "user", "content": f"Question {position}: why is that so?"}],
            "folded": f"question {position}", "split": None, "is_evaluation": False,
            "created_at": at,
        },
        "pair": {
            "id": pair_id, "tenant_id": TENANT, "position": position, "prompt_id": prompt_id,
            "key": pair_id, "import_id": None, "source": f"file-{position % 5}.jsonl",
            "source_line": position, "language": ("en", "tr")[position % 3 == 0],
            "imported_preference": first, "extra": None, "created_at": at,
            "status": (PairStatus.DISPUTED if is_disputed else PairStatus.UNREVIEWED).value,
            "mark": "", "decisions": 0, "overlap": 2, "taken": 2, "priority": position % 4,
            "lottery": position, "is_stale": False,
            "gold_response_id": first if position % 50 == 0 else None,
        },
        "responses": [
            {
                "id": one, "root_id": one, "parent_id": None, "version": 1, **shared,
                "text": "word " * random.randint(20, 120), "extra": {"score": 5.0 + better * sign},
                "author_id": None, "created_at": at,
            }
            for one, sign in ((first, -1), (second, 1))
        ],
        "judgments": [
            {
                "id": new_id(), **shared, "first_response_id": one, "second_response_id": two,
                "preferred_response_id": None if not better else first if better < 0 else second,
                "scores": {first: {"helpfulness": 5 - better}, second: {"helpfulness": 5 + better}},
                "reason": "It is better.", "judge": "judge", "revision": "r1", "created_at": at,
            }
            for one, two in ((first, second), (second, first))
        ],
    }  # fmt: skip


def _votes(made: dict[str, Any], who: str, numbers: dict[str, int]) -> Iterator[dict[str, Any]]:
    first, second = (response["id"] for response in made["responses"])
    value = max(-3, min(3, made["better"] + random.randint(-2, 2)))
    sides = (first, second) if random.random() < 0.5 else (second, first)
    vote = {
        "id": new_id(), "tenant_id": TENANT, "pair_id": made["pair"]["id"], "annotator_id": who,
        "kind": "vote", "left_response_id": sides[0], "right_response_id": sides[1],
        "preferred_response_id": None if not value else first if value < 0 else second,
        "strength": abs(value), "note": "", "active_ms": random.randint(900, 60_000),
        "response_id": None, "undoes_id": None, "reason": "",
        "flags": [FLAGS[0]] if random.random() < 0.01 else None,
        "ratings": {first: {"accuracy": 1 + abs(value)}} if random.random() < 0.3 else None,
        "revises_id": None, "is_revealed": False, "is_random": random.random() < 0.1,
        "is_gold": made["pair"]["gold_response_id"] is not None, "origin": "desk",
    }  # fmt: skip
    for one in (vote, *([_revision(vote)] if random.random() < 0.1 else [])):
        numbers[who] += 1
        at = START + timedelta(seconds=60 * numbers[who])
        yield {**one, "number": numbers[who], "created_at": at}


def _revision(vote: dict[str, Any]) -> dict[str, Any]:
    changed = {"preferred_response_id": vote["left_response_id"], "strength": 1}
    return {**vote, **changed, "id": new_id(), "revises_id": vote["id"], "is_revealed": True}


def _write(db: Database, rows: dict[type[Base], list[dict[str, Any]]]) -> None:
    with db.write() as session:
        for mapped, waiting in rows.items():
            table = mapped.__table__
            assert isinstance(table, Table)
            remaining = iter(waiting)
            while chunk := list(islice(remaining, CHUNK)):
                session.execute(insert(table), chunk)
            waiting.clear()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--votes", type=int, default=100_000)
    parser.add_argument("--annotators", type=int, default=20)
    parser.add_argument("--database", default="")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        db = Database(asked.database or f"sqlite:///{Path(folder) / 'bench.db'}")
        declared_tables().create_all(db.engine)
        fill(db, pairs=asked.pairs, votes=asked.votes, annotators=asked.annotators)
        measure(db, Path(folder))
        db.close()


def measure(db: Database, folder: Path) -> None:
    """Measure and print."""
    agreements, meters = Agreements(db), Meters(db)
    adjudication = Adjudication(db, Preferences(db, datasets_dir=folder))
    annotator = Actor("user", "user-003", "Ali", {TENANT: frozenset({Role.ANNOTATOR})})
    first = adjudication.disputes(LEAD, TENANT, limit=1)[0].pair_id
    _line("", "wall", "of it CPU")
    for basis in Basis:
        report = partial(agreements.report, LEAD, TENANT, basis=basis)
        found = _timed(f"agreement, {basis} votes", report)
        alpha = found.overall.people
        print(
            f"    {found.votes:,} votes, {alpha.n:,} pairs with two, alpha {alpha.value:.3f} "
            f"({alpha.low:.3f} to {alpha.high:.3f}), {len(found.couples)} couples"
        )
    _timed("meters of everybody", lambda: meters.everyone(LEAD, TENANT))
    _timed("meters of one annotator", lambda: meters.mine(annotator, TENANT))
    disputes = adjudication.count(LEAD, TENANT)
    _timed(f"first 50 of {disputes:,} disagreements", lambda: adjudication.disputes(LEAD, TENANT))
    _timed("one case", lambda: adjudication.case(LEAD, TENANT, first))


def _timed(name: str, what: Callable[[], T]) -> T:
    """Run something five times, print the median, give the last result."""
    taken: list[tuple[float, float]] = []
    for _ in range(5):
        started, busy = time.perf_counter(), time.process_time()
        result = what()
        taken.append((time.perf_counter() - started, time.process_time() - busy))
    wall, cpu = sorted(taken)[2]
    _line(name, f"{wall * 1e3:,.0f} ms", f"{cpu * 1e3:,.0f} ms")
    return result


def _line(*cells: str) -> None:
    name, *figures = cells
    print(f"{name:<40}" + "".join(f"{cell:>14}" for cell in figures))


if __name__ == "__main__":
    main()
