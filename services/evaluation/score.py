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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.errors import DigestMismatch
from services.evaluation.folder import EvaluationFolder
from services.evaluation.heldout import HeldOutPair, distinct_prompts, read_held_out
from services.evaluation.models import Messages
from services.registry.digest import adapter_digest
from services.training.dpo import ALREADY_RUNNING, StopAsked, StopSwitch, explain, peak_rss_mb

if TYPE_CHECKING:
    from services.evaluation.scoring import Subject

DEFAULT_PROMPTS = 10
"""How many prompts are answered where none were named."""


def main(arguments: list[str] | None = None) -> int:
    """Score one evaluation; see the module."""
    parser = argparse.ArgumentParser(prog="python -m services.evaluation.score")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--lock-fd", type=int, help="descriptor that holds the folder's lock")
    options = parser.parse_args(arguments)
    folder = EvaluationFolder(options.run_dir)
    lock = (
        folder.lock()
        if options.lock_fd is None
        else os.fdopen(options.lock_fd, "a", encoding="utf-8")
    )
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
    """Score every held-out pair and answer every prompt that is not done yet.

    Returns:
        `seen` and `too_long`: how many pairs were left out, and why; `versions`.

    Raises:
        DigestMismatch: The adapter's bytes are not those that its name promises.
        InvalidInput: The pairs or the models cannot be used.
        MissingModel: A model is not there.
    """
    order = folder.read("spec.json")
    assert order is not None, "the worker writes spec.json before it starts this process"
    folder.mend()
    folder.write("stage.json", {"stage": "loading the models", "fraction": 0.0})
    adapter = Path(order["adapter_path"])
    if (found := adapter_digest(adapter)) != order["adapter_digest"]:
        raise DigestMismatch(
            f"adapter {adapter.name}: expected digest {order['adapter_digest']}, found {found}"
        )
    pairs, seen = read_held_out(
        Path(order["eval_file"]), [Path(file) for file in order["learned_files"]]
    )
    prompts = _prompts(order, pairs)
    from services.evaluation import scoring  # torch comes in here, under the lock

    subject = scoring.load(Path(order["base_path"]), adapter, threads=order["threads"])
    total = len(pairs) + len(prompts)
    too_long = _score_pairs(folder, subject, pairs, total)
    _answer_prompts(folder, subject, prompts, order["max_new_tokens"], total)
    return {"seen": len(seen), "too_long": too_long, "versions": scoring.versions()}


def _score_pairs(
    folder: EvaluationFolder, subject: Subject, pairs: list[HeldOutPair], total: int
) -> int:
    from services.evaluation import scoring

    done = {score.pair_id for score in folder.scores()}
    too_long = 0
    for number, pair in enumerate(pairs):
        if pair.pair_id in done:
            continue
        stage = f"scoring pair {number + 1} of {len(pairs)}"
        folder.write("stage.json", {"stage": stage, "fraction": number / total})
        scored = scoring.score_pair(subject, pair)
        if scored is None:
            too_long += 1
        else:
            folder.add_score(scored)
    return too_long


def _answer_prompts(
    folder: EvaluationFolder,
    subject: Subject,
    prompts: list[Messages],
    max_new_tokens: int,
    total: int,
) -> None:
    from services.evaluation import scoring

    size = scoring.ANSWERS_AT_ONCE
    for first in range(len(folder.answers()), len(prompts), size):
        stage = f"answering prompt {first + 1} of {len(prompts)}"
        fraction = (total - len(prompts) + first) / total
        folder.write("stage.json", {"stage": stage, "fraction": fraction})
        some = prompts[first : first + size]
        folder.add_answers(
            scoring.answer(subject, some, first=first, max_new_tokens=max_new_tokens)
        )


def _prompts(order: dict[str, Any], pairs: list[HeldOutPair]) -> list[Messages]:
    """The named prompts, else those of held-out pairs and then the demo's."""
    if order["prompts"] is not None:
        return [tuple(prompt) for prompt in order["prompts"]]
    own = distinct_prompts(pairs, DEFAULT_PROMPTS)
    return (own + [tuple(prompt) for prompt in order["more_prompts"]])[:DEFAULT_PROMPTS]


if __name__ == "__main__":
    sys.exit(main())
