"""Memory of a run: as the form says it before the launch, beside what its process held at most.

    python -m bench.memory [--only NAME …] [--steps N]

Each shape is trained for some steps by what trains every run (`services.training.dpo`), in a
process of its own, on the longest of the bundled pairs, or on these made longer by repeating
them, and its `peak_rss_mb` set beside the estimate. Models other than the installed base are
random ones of the named shape, with its tokenizer. The processes are forked from one that has
loaded the libraries, which saves minutes and counts in each like its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.dpo import DEMO, installed_model
from services.training import dpo
from services.training.estimate import MARGIN, Shape, estimate, tokens_of
from services.training.folder import RunFolder
from services.training.models import DpoSpec
from services.training.rows import read_pairs


@dataclass(frozen=True)
class Case:
    """One shape of a run.

    Attributes:
        model: Layers, hidden size and inner size of a random model; None for the installed one.
        repeats: How often each text of a pair is repeated: longer pairs.
    """

    name: str
    model: tuple[int, int, int] | None = None
    repeats: int = 1
    told: dict[str, Any] = field(default_factory=dict)


BATCH = 4
SMALL, MIDDLE, WIDE = (4, 128, 384), (8, 512, 1408), (6, 1024, 2816)
CASES = [
    Case("small, quick", SMALL),
    Case("middle, quick", MIDDLE),
    Case("middle, bf16", MIDDLE, told={"precision": "bfloat16"}),
    Case("middle, long pairs", MIDDLE, 6, {"max_length": 512, "batch_size": 8}),
    Case("middle, long, TRL's way", MIDDLE, 6,
         {"max_length": 512, "batch_size": 8, "advanced": {"packed": "off"}}),
    Case("middle, long, two at once", MIDDLE, 6,
         {"max_length": 512, "batch_size": 8, "advanced": {"micro_batch_size": 2}}),
    Case("middle, long, checkpointing", MIDDLE, 6,
         {"max_length": 512, "batch_size": 8,
          "advanced": {"gradient_checkpointing": "on", "packed": "off"}}),
    Case("middle, rank 128", MIDDLE, told={"lora_r": 128}),
    Case("middle, kto", MIDDLE, 4, {"loss_type": "kto", "sft_weight": 0.0}),
    Case("wide, quick", WIDE),
    Case("installed, quick", None),
    Case("installed, auto", None, told={"precision": "auto"}),
    Case("installed, bf16, long", None, 4, {"max_length": 512, "precision": "bfloat16"}),
]  # fmt: skip


def main() -> None:
    """Measure and print the table; status 1 where an estimate is further off than promised."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="part of the names of shapes")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="a line a shape, as it is measured")
    options = parser.parse_args()
    import services.training.recipe  # noqa: F401 - loaded once, for all that are forked

    table = Table(title="Memory of a run, MiB")
    for column in ("shape", "estimated", "measured", "estimated / measured"):
        table.add_column(column, justify="left" if column == "shape" else "right")
    worst = 1.0
    for case in CASES:
        if options.only and not any(part in case.name for part in options.only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            told, held = measured(case, Path(folder), options.steps)
        if options.json:
            print(json.dumps([case.name, round(told), held]), flush=True)
        worst = max(worst, told / held, held / told)
        table.add_row(case.name, f"{told:,.0f}", f"{held:,.0f}", f"{told / held:.2f}")
    Console().print(table)
    print(f"furthest off: {worst:.2f} times (promised: {1 + MARGIN:.2f})")
    sys.exit(worst > 1 + MARGIN)


def measured(case: Case, home: Path, steps: int) -> tuple[float, float]:
    """The estimate of a shape and the most that its process held, MiB."""
    base = installed_model() if case.model is None else home / "base"
    if case.model is not None:
        forked(lambda: random_model(case.model, base))
    batch = case.told.get("batch_size", BATCH)
    rows = [longer(row, case.repeats) for row in longest(read_pairs(DEMO), batch)]
    (home / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = DpoSpec.from_preset(
        "quick", alias="bench", dataset_id="d", base_model="b",
        **{"precision": "float32", "max_steps": steps, "batch_size": BATCH, **case.told},
    )  # fmt: skip
    run = RunFolder(home / "run")
    run.path.mkdir()
    run.write(
        "spec.json",
        {
            "spec": spec.as_json(), "base_model": "b", "base_path": str(base), "threads": 0,
            "base_digest": hashlib.sha256(b"").hexdigest(), "dataset_folder": str(home),
        },
    )  # fmt: skip
    dpo.NICENESS = 0
    forked(lambda: dpo.main([str(run.path)]), run.log)
    result = run.read("result.json") or {}
    if result.get("outcome") != "succeeded":
        sys.exit(f"{case.name}: {result.get('error')}")
    tokens = [
        tokens_of(*(chars(row[part]) for part in ("prompt", "chosen", "rejected")), spec.max_length)
        for row in rows
    ]
    told = estimate(
        spec, Shape.of(base, parameters(base)), tokens, len(rows), pace=None, cores=1
    )  # fmt: skip
    return told.memory_mb, float(result["peak_rss_mb"])


def forked(call: Callable[[], object], output: Path = Path(os.devnull)) -> None:
    """Make a call in a process of its own, what it prints in a file."""

    def quietly() -> None:
        with output.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        call()

    process = multiprocessing.get_context("fork").Process(target=quietly)
    process.start()
    process.join()


def longest(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The longest pairs, so that few steps meet the peak."""
    return sorted(rows, key=lambda row: -len(json.dumps(row)))[:count]


def longer(row: dict[str, Any], repeats: int) -> dict[str, Any]:
    """A pair whose texts are repeated."""
    return {
        part: [{**turn, "content": " ".join([turn["content"]] * repeats)} for turn in turns]
        for part, turns in row.items()
    }


def chars(turns: list[dict[str, str]]) -> int:
    """Characters of a dialogue."""
    return sum(len(turn["content"]) for turn in turns)


def random_model(shape: tuple[int, int, int], folder: Path) -> Path:
    """Write a random Llama of some layers, hidden and inner size."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(installed_model())
    layers, hidden, inner = shape
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=inner,
        num_hidden_layers=layers, num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 128), tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def parameters(folder: Path) -> int:
    """Weights of a saved model, from the header of its file."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    total = 0
    for shape in shapes:
        size = 1
        for one in shape:
            size *= one
        total += size
    return total


if __name__ == "__main__":
    main()
