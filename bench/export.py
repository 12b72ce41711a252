"""Export of many pairs with all gates, in every form.

    python bench/export.py [--pairs 100000] [--model FOLDER] [--database URL]

Prints one table. The pairs are synthetic dialogues of one to three questions in varied words, about
1.2 KB each; one in a hundred is nearly a copy of another. The tokenizer is that of the folder, such
as `var/models/smollm2-135m-instruct`, else a small one that is trained on the spot.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from services.db import Database
from services.db.revise import declared_tables
from services.preferences.exports import EXTRAS, Form
from services.preferences.gates.truncation import TrainingTokenizer
from services.preferences.models import Manifest
from services.preferences.service import Preferences
from services.tenants.models import Actor

ACTOR = Actor.system("bench")
TARGET_S = 60
SYLLABLES = (
    "ka",
    "ra",
    "len",
    "dis",
    "mo",
    "ter",
    "yıl",
    "gün",
    "su",
    "pro",
    "vek",
    "as",
    "in",
    "ol",
)


def vocabulary(size: int = 8_000) -> list[str]:
    """Made-up words of one to four syllables."""
    return ["".join(random.choices(SYLLABLES, k=random.randint(1, 4))) for _ in range(size)]


def rows(count: int) -> Iterator[dict[str, Any]]:
    """Dialogues with two answers."""
    words = vocabulary()

    def say(low: int, high: int, end: str) -> str:
        return " ".join(random.choices(words, k=random.randint(low, high))) + end

    question = say(8, 40, "?")
    for number in range(count):
        turns = []
        for _ in range(random.choice((0, 1, 1, 2))):
            turns.append({"role": "user", "content": say(8, 40, "?")})
            turns.append({"role": "assistant", "content": say(8, 60, ".")})
        if number % 100:
            question = say(8, 40, "?")
        turns.append({"role": "user", "content": f"{question} {number}"})
        sides = [[{"role": "assistant", "content": say(5, 90, ".")}] for _ in range(2)]
        yield {"prompt": turns, "chosen": sides[0], "rejected": sides[1]}


def fill(preferences: Preferences, count: int) -> int:
    """Import and approve; the bytes of the file."""
    random.seed(7)
    lines = io.BytesIO()
    for row in rows(count):
        lines.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    size = lines.tell()
    lines.seek(0)
    preferences.import_pairs(ACTOR, "bench", lines, source="bench")
    preferences.approve_imported(ACTOR, "bench", mark="bench")
    evaluation = [{"prompt": f"What is measured by number {number}, and why is it kept out of all training?",
                   "chosen": "This.", "rejected": "That."} for number in range(250)]  # fmt: skip
    kept_out = "\n".join(json.dumps(row) for row in evaluation).encode()
    preferences.import_pairs(
        ACTOR, "bench", io.BytesIO(kept_out), source="eval", purpose="evaluation"
    )
    return size


def small_tokenizer(folder: Path) -> TrainingTokenizer:
    """A byte-level tokenizer of 4,000 tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = (turn["content"] for row in rows(2_000) for turn in row["prompt"])
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=4_000, show_progress=False))
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return TrainingTokenizer(folder)


def peak_mib() -> float:
    """Peak resident memory of this process so far, MiB (Linux counts KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--model", type=Path, help="folder of a base model")
    parser.add_argument("--database", help="URL of an empty database; SQLite by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = measure(Path(folder), options)
    width = max(len(name) for name, _ in table)
    for name, value in table:
        print(f"{name:<{width}}  {value}")


def measure(home: Path, options: argparse.Namespace) -> list[tuple[str, str]]:
    """All measurements, as rows of the table."""
    db = Database(options.database or f"sqlite:///{home / 'bench.db'}")
    declared_tables().create_all(db.engine)
    tokenizer = (
        TrainingTokenizer(options.model) if options.model else small_tokenizer(home / "tiny")
    )
    preferences = Preferences(
        db, datasets_dir=home / "datasets", max_bytes=1 << 30, tokenizer=lambda: tokenizer
    )
    size = fill(preferences, options.pairs)
    table = [
        ("pairs", f"{options.pairs:,}, {size / 2**20:.0f} MiB as a file"),
        ("peak memory of the import", f"{peak_mib():.0f} MiB"),
    ]
    digests = set()
    for name, form in (("JSON Lines", Form()), ("every form", Form(also=EXTRAS))):
        first, words, manifest = timed(preferences, home / f"{name}-1", form)
        _, again, second = timed(preferences, home / f"{name}-2", form)
        digests |= {manifest.sha256 == second.sha256}
        table.append((f"export with all gates, {name}", words))
        table.append((f"the same again, {name}", again))
        if name == "JSON Lines":
            verdict = "held" if first <= TARGET_S else "MISSED"
            table.append((f"at most {TARGET_S} s", verdict))
    counts = manifest.content["counts"]
    table += [
        ("train, held out, dropped", ", ".join(f"{count:,}" for count in counts.values())),
        ("byte-identical", "yes" if digests == {True} else "NO"),
        ("peak memory at the end", f"{peak_mib():.0f} MiB"),
    ]
    db.close()
    return table


def timed(preferences: Preferences, out: Path, form: Form) -> tuple[float, str, Manifest]:
    """Seconds of one export, the same in words, and what it wrote."""
    started, busy = time.perf_counter(), time.process_time()
    manifest = preferences.export(ACTOR, "bench", out, form=form)
    seconds = time.perf_counter() - started
    return seconds, f"{seconds:.1f} s ({time.process_time() - busy:.1f} s of CPU)", manifest


if __name__ == "__main__":
    main()
