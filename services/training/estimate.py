"""How long a run will take and what memory it needs, said before it is launched.

Time comes from the pace of earlier runs of the same base model, else from its size and a cautious
guess at this machine; memory from the model's own numbers. Imports no torch.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.training.models import DpoSpec

CHARS_A_TOKEN = 3.3
"""Of mixed English and Turkish under the tokenizers of small models; more text, fewer tokens."""
TEMPLATE_TOKENS = 36
"""Of a chat template, with its own system message."""
FLOPS_A_S = 60e9
"""Of one CPU core in float32, as a first guess where no run was measured."""
PROCESS_MB = 500.0
"""What torch and its libraries take before any weight, MiB."""
KEPT_BYTES_OF_TRL = 3.0
"""Of each number that the backward pass needs, where TRL's own trainer runs, in any precision."""
BEGIN_S = 20.0
"""From the start of the process to its first step, seconds."""
ADAPTER_BYTES = 16
"""A float32 weight of the adapter: itself, its gradient, and Adam's two means."""

MARGIN = 0.25
"""How far the memory may be off, as a share; `bench/memory.py` measures it."""

_BYTES = {"bfloat16": 2.0, "auto": 2.8, "float32": 4.0}
"""Of a weight; `auto` is told only where the run trains, and lies between the two until then."""
_KEPT_BYTES = {"bfloat16": 1.5, "auto": 1.65, "float32": 2.0}
"""Of each number that the backward pass needs, where pairs are packed: less than a number's own,
since a packed pair holds its prompt once."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a base model, as its `config.json` says them."""

    parameters: int
    layers: int
    hidden: int
    inner: int
    vocabulary: int

    @classmethod
    def of(cls, folder: Path, parameters: int) -> Shape:
        """Read a model's folder; what it does not say is guessed from the number of weights."""
        try:
            found: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        hidden = int(found.get("hidden_size") or max(64, round((parameters / 400) ** 0.5)))
        return cls(
            parameters=parameters,
            layers=int(found.get("num_hidden_layers") or 24),
            hidden=hidden,
            inner=int(found.get("intermediate_size") or 3 * hidden),
            vocabulary=int(found.get("vocab_size") or 50_000),
        )


@dataclass(frozen=True)
class Pace:
    """What earlier runs of the same base model measured.

    Attributes:
        tokens_per_s: Median over the runs.
        peak_mb: The most memory that one of them held, MiB.
        runs: How many.
    """

    tokens_per_s: float
    peak_mb: float
    runs: int


@dataclass(frozen=True)
class Estimate:
    """What a run will probably need.

    Attributes:
        steps: Optimizer steps.
        tokens: Over the whole run, both answers counted with their prompt.
        seconds: From the start of the process to the adapter.
        memory_mb: Of the process at its highest, MiB.
        measured_runs: On how many earlier runs the time rests; 0 for a guess.
    """

    steps: int
    tokens: int
    seconds: float
    memory_mb: float
    measured_runs: int


def tokens_of(prompt_chars: int, chosen_chars: int, rejected_chars: int, max_length: int) -> int:
    """Roughly the tokens of a pair as they are counted: both answers, each with its prompt."""
    prompt = TEMPLATE_TOKENS + prompt_chars / CHARS_A_TOKEN
    return sum(
        min(max_length, round(prompt + chars / CHARS_A_TOKEN))
        for chars in (chosen_chars, rejected_chars)
    )


def estimate(
    spec: DpoSpec,
    shape: Shape,
    pair_tokens: Sequence[int],
    n_pairs: int,
    *,
    pace: Pace | None,
    cores: int,
) -> Estimate:
    """What a run will need.

    Args:
        pair_tokens: `tokens_of` a sample of the pairs.
        n_pairs: That it learns from.
        pace: What earlier runs of this base model measured, if there were any.
        cores: That it computes on.
    """
    rows = n_pairs * (2 if spec.loss_type == "kto" else 1)
    steps = spec.max_steps or max(1, math.ceil(rows / spec.batch_size * spec.epochs))
    mean = statistics.fmean(pair_tokens) if pair_tokens else 2.0 * spec.max_length / 3
    a_row = mean / 2 if spec.loss_type == "kto" else mean
    tokens = round(steps * spec.batch_size * a_row)
    # Forward, backward through frozen weights, and the reference's forward: two operations each.
    guess = FLOPS_A_S * max(1, cores) / (6 * shape.parameters)
    per_s = pace.tokens_per_s if pace else guess
    longest = max(pair_tokens, default=round(mean))
    return Estimate(
        steps=steps,
        tokens=tokens,
        seconds=BEGIN_S + tokens / max(per_s, 1e-6),
        memory_mb=PROCESS_MB + _memory_mb(spec, shape, longest),
        measured_runs=pace.runs if pace else 0,
    )


def _memory_mb(spec: DpoSpec, shape: Shape, longest: int) -> float:
    """Weights, adapter with its optimizer, and what the backward pass needs of each token."""
    packed = spec.more.packed != "off" and spec.loss_type != "kto"
    stored = 0.6 if spec.quantization == "4bit" else _BYTES[spec.precision]
    adapter = spec.lora_r * shape.layers * (10 * shape.hidden + 3 * shape.inner)
    batch = spec.more.micro_batch_size or spec.batch_size
    # Kept for each token and layer: the inputs of norms, projections and gates, and the adapters'.
    numbers = shape.layers * (14 * shape.hidden + 6 * shape.inner)
    kept = numbers * (_KEPT_BYTES[spec.precision] if packed else KEPT_BYTES_OF_TRL)
    if spec.more.gradient_checkpointing == "on":
        kept /= 6
    answers = batch * longest / 2
    logits = min(answers, 64 if packed else 256) * shape.vocabulary * 8
    total = shape.parameters * stored + adapter * ADAPTER_BYTES + batch * longest * kept + logits
    return total / 2**20


def pace_of(results: Sequence[dict[str, Any]]) -> Pace | None:
    """The pace of earlier runs, from what their processes reported; None without any."""
    paces = [
        float(result["final"]["tokens_per_s"])
        for result in results
        if result.get("final", {}).get("tokens_per_s")
    ]
    if not paces:
        return None
    peak = max(float(result.get("peak_rss_mb", 0.0)) for result in results)
    return Pace(statistics.median(paces), peak, len(paces))
