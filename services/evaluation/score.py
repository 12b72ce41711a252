"""The process that scores: `python -m services.evaluation.score RUN_DIR [--lock-fd N]`.

It holds the folder's lock from its first line to its end, may be killed and started again at
any time, ends at once on SIGTERM (what is scored is kept), and writes `result.json` last in any
case but a kill. Exit status 0 whenever `result.json` was written, 75 where another process
holds the lock. torch is imported only after the lock is held.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.errors import DigestMismatch
from services.evaluation import harness, neutral
from services.evaluation.asked import DEFAULT_PROMPTS
from services.evaluation.folder import EvaluationFolder
from services.evaluation.heldout import (
    HeldOutPair,
    distinct_prompts,
    prompt_key,
    read_held_out,
)
from services.evaluation.models import Messages
from services.evaluation.neutral import NeutralText
from services.registry.digest import adapter_digest
from services.training.dpo import StopAsked, StopSwitch, explain, peak_rss_mb
from services.training.folder import ALREADY_RUNNING, held

if TYPE_CHECKING:
    from services.evaluation.scoring import Subject


def main(arguments: list[str] | None = None) -> int:
    """Score one evaluation; see the module."""
    parser = argparse.ArgumentParser(prog="python -m services.evaluation.score")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--lock-fd", type=int, help="descriptor that holds the folder's lock")
    options = parser.parse_args(arguments)
    folder = EvaluationFolder(options.run_dir)
    lock = held(folder, options.lock_fd)
    if lock is None:
        print("another process scores this evaluation", file=sys.stderr)
        return ALREADY_RUNNING
    with lock:
        _run(folder)
    return 0


def _run(folder: EvaluationFolder) -> None:
    started = time.monotonic()
    try:
        StopSwitch()
        folder.write("child.json", {"pid": os.getpid()})
        result = {"outcome": "succeeded", **score(folder)}
    except StopAsked:
        result = {"outcome": "stopped"}
    except BaseException as error:
        traceback.print_exc()
        result = {"outcome": "failed", "error": explain(error)}
    earlier = (folder.read("seconds.json") or {}).get("seconds", 0.0)
    seconds = round(earlier + time.monotonic() - started, 1)
    folder.write("seconds.json", {"seconds": seconds})
    folder.write("result.json", {**result, "seconds": seconds, "peak_rss_mb": round(peak_rss_mb())})


def score(folder: EvaluationFolder) -> dict[str, Any]:
    """Do everything that was ordered and is not done yet.

    Returns:
        `seen` and `too_long`: how many pairs were left out, and why; `parts`: seconds of each;
        `versions`.

    Raises:
        DigestMismatch: The adapter's bytes are not those that its name promises.
        InvalidInput: The pairs or the models cannot be used.
        MissingModel: A model is not there.
    """
    order = folder.read("spec.json")
    assert order is not None, "the worker writes spec.json before it starts this process"
    folder.mend("pairs", "answers", "texts", "tasks")
    folder.write("stage.json", {"stage": "loading the models", "fraction": 0.0})
    adapter = Path(order["adapter_path"])
    if (found := adapter_digest(adapter)) != order["adapter_digest"]:
        raise DigestMismatch(
            f"adapter {adapter.name}: expected digest {order['adapter_digest']}, found {found}"
        )
    pairs, seen = read_held_out(
        Path(order["eval_file"]), [Path(file) for file in order["learned_files"]]
    )
    questions = _questions(order, pairs)
    from services.evaluation import scoring  # torch comes in here, under the lock

    parts: dict[str, dict[str, float]] = {}
    with _timed(parts, "loading"):
        subject = scoring.load(Path(order["base_path"]), adapter, threads=order["threads"])
    texts = _texts(order["checks"])
    names = harness.task_names() if order["checks"]["tasks"] else []
    work = _Work(folder, subject, len(pairs) + len(questions) + len(texts) + len(names))
    with _timed(parts, "pairs"):
        too_long = _score_pairs(work, pairs)
    work.done += len(pairs)
    with _timed(parts, "answers"):
        _answer_questions(work, questions, order["max_new_tokens"])
    work.done += len(questions)
    with _timed(parts, "texts"):
        _read_texts(work, texts)
    work.done += len(texts)
    with _timed(parts, "tasks"):
        _do_tasks(work, names)
    return {
        "seen": len(seen),
        "too_long": too_long,
        "parts": parts,
        "versions": scoring.versions(),
    }


def _texts(checks: dict[str, Any]) -> list[NeutralText]:
    if not checks["texts"]:
        return []
    return neutral.chosen(neutral.read_texts(), checks.get("text_count", neutral.USUAL_COUNT))


@contextmanager
def _timed(parts: dict[str, dict[str, float]], name: str) -> Iterator[None]:
    """Note how many seconds a part took, by the clock and of the processor."""
    began, used = time.monotonic(), time.process_time()
    yield
    parts[name] = {
        "seconds": round(time.monotonic() - began, 1),
        "processor_seconds": round(time.process_time() - used, 1),
    }


@dataclass
class _Work:
    """What is to be done, and how much of it is.

    Attributes:
        total: Pairs, questions, texts and tasks together.
        done: Those of the parts that have ended.
    """

    folder: EvaluationFolder
    subject: Subject
    total: int
    done: int = 0

    def show(self, stage: str, number: int) -> None:
        """Say what is being done."""
        fraction = (self.done + number) / self.total
        self.folder.write("stage.json", {"stage": stage, "fraction": fraction})


def _score_pairs(work: _Work, pairs: list[HeldOutPair]) -> int:
    from services.evaluation import scoring

    done = {score.pair_id for score in work.folder.scores()}
    too_long = 0
    for number, pair in enumerate(pairs):
        if pair.pair_id in done:
            continue
        work.show(f"scoring pair {number + 1} of {len(pairs)}", number)
        scored = scoring.score_pair(work.subject, pair)
        if scored is None:
            too_long += 1
        else:
            work.folder.add_score(scored)
    return too_long


def _answer_questions(work: _Work, questions: list[_Question], max_new_tokens: int) -> None:
    from services.evaluation import scoring

    size = scoring.ANSWERS_AT_ONCE
    for first in range(len(work.folder.answers()), len(questions), size):
        work.show(f"answering prompt {first + 1} of {len(questions)}", first)
        some = questions[first : first + size]
        work.folder.add_answers(
            scoring.answer(
                work.subject,
                [one.prompt for one in some],
                first=first,
                max_new_tokens=max_new_tokens,
                references=[one.reference for one in some],
            )
        )


def _read_texts(work: _Work, texts: list[NeutralText]) -> None:
    done = {score.text_id for score in work.folder.texts()}
    left = [text for text in texts if text.id not in done]
    for number, some in enumerate(neutral.batches(left)):
        first = len(done) + number * neutral.AT_ONCE
        work.show(f"reading text {first + 1} of {len(texts)}", first)
        work.folder.add_texts(neutral.read_by_both(work.subject, some))


def _do_tasks(work: _Work, names: list[str]) -> None:
    done: dict[str, int] = {}
    for score in work.folder.tasks():
        done[score.task] = done.get(score.task, 0) + 1
    for number, name in enumerate(names):
        if done.get(name, 0) == harness.count_documents(name):
            continue
        work.show(f"doing task {number + 1} of {len(names)}", number)
        work.folder.add_tasks(harness.done_by_both(work.subject, name))


@dataclass(frozen=True)
class _Question:
    """A prompt, and what a good answer to it says, where anybody knows."""

    prompt: Messages
    reference: str | None


def _questions(order: dict[str, Any], pairs: list[HeldOutPair]) -> list[_Question]:
    """The named prompts, else those of held-out pairs and then the demo's."""
    if order["prompts"] is not None:
        expected = order["references"] or [None] * len(order["prompts"])
        return [
            _Question(tuple(prompt), reference)
            for prompt, reference in zip(order["prompts"], expected, strict=True)
        ]
    chosen = {pair.prompt_key: pair.chosen[-1]["content"] for pair in reversed(pairs)}
    own = [
        _Question(prompt, chosen[prompt_key(prompt)])
        for prompt in distinct_prompts(pairs, DEFAULT_PROMPTS)
    ]
    more = [_Question(tuple(prompt), None) for prompt in order["more_prompts"]]
    return (own + more)[:DEFAULT_PROMPTS]


if __name__ == "__main__":
    sys.exit(main())
