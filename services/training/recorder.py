"""What a run tells while it trains: a line a step, whole checkpoints, obedience. Imports torch."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import transformers

from services.errors import InvalidInput
from services.training import together
from services.training.folder import STOP, WHOLE, RunFolder
from services.training.models import Point

if TYPE_CHECKING:
    from services.training.group import Switch


class Recorder(transformers.TrainerCallback):  # type: ignore[misc]  # the library has no types
    """Writes one metric line a step, marks whole checkpoints, and obeys the switch."""

    def __init__(self, folder: RunFolder, switch: Switch) -> None:
        self._folder = folder
        self._switch = switch
        self._process = psutil.Process()
        self._began: tuple[float, int] | None = None
        self._seen: tuple[float, float] = (time.monotonic(), 0.0)

    def forget_after(self, checkpoint: Path | None) -> None:
        """Drop the metric lines of steps that will be done again, and a torn last line."""
        done = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
        kept = [asdict(point) for point in self._folder.points() if point.step <= done]
        half = self._folder.metrics_file.with_suffix(".half")
        half.write_text("".join(json.dumps(point) + "\n" for point in kept), encoding="utf-8")
        half.replace(self._folder.metrics_file)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note when this attempt's first step began."""
        if self._began is None:
            self._began = (time.monotonic(), state.global_step)
            self._seen = (self._began[0], 0.0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and leave if a stop was asked for."""
        if self.is_asked_to_stop():
            control.should_save = True
            control.should_training_stop = True

    def is_asked_to_stop(self) -> bool:
        """Whether a stop was asked for: by signal, or from another machine by file.

        The processes that train together say the same, or some would wait for ever for others.
        """
        return together.anyone(self._switch.asked or (self._folder.path / STOP).exists())

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint as whole: a kill in mid-save leaves one without the mark."""
        together.wait_for_all()  # each of them saves the state of its own randomness
        if not state.is_world_process_zero:
            return
        (self._folder.path / f"checkpoint-{state.global_step}" / WHOLE).touch()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Write the line of a step.

        Raises:
            InvalidInput: The loss is no number any more.
        """
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(float(logs["loss"])):
            raise InvalidInput(
                f"step {state.global_step}: expected a finite loss, found {logs['loss']}; "
                "lower learning_rate"
            )
        point = self._point(state, logs)
        if not state.is_world_process_zero:
            return
        line = json.dumps(asdict(point))
        with self._folder.metrics_file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _point(self, state: Any, logs: dict[str, Any]) -> Point:
        now, tokens = time.monotonic(), float(logs.get("num_tokens", 0.0))
        before, tokens_before = self._seen
        self._seen = (now, tokens)
        began, first = self._began or (before, state.global_step - 1)
        pace = (now - began) / max(1, state.global_step - first)
        return Point(
            step=state.global_step,
            max_steps=state.max_steps,
            loss=float(logs["loss"]),
            margin=float(logs.get("rewards/margins", 0.0)),
            accuracy=float(logs.get("rewards/accuracies", 0.0)),
            chosen_reward=float(logs.get("rewards/chosen", 0.0)),
            rejected_reward=float(logs.get("rewards/rejected", 0.0)),
            learning_rate=float(logs.get("learning_rate", 0.0)),
            grad_norm=float(logs.get("grad_norm", 0.0)),
            tokens_per_s=round(max(tokens - tokens_before, 0.0) / max(now - before, 1e-6), 1),
            rss_mb=round(together.total(self._process.memory_info().rss / 2**20), 1),
            eta_s=round(pace * (state.max_steps - state.global_step), 1),
            at=round(time.time(), 3),
            gpu_mb=together.gpu_mb(),
        )
