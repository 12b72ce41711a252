"""How DPO is done here: TRL with settings that were measured. Imports torch; the child's only.

bf16 where the hardware has it, float32 elsewhere; the adapter itself in float32 always. No
gradient checkpointing but for large models on a GPU. Pairs filtered by our own token count and
put into batches of like length; the reference's log-probabilities computed once where the pairs
are seen more than once.

Source: Rafailov et al. 2023, arXiv:2305.18290; `docs/decisions/0002-durable-jobs.md` for resuming.
"""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import peft
import psutil
import torch
import transformers
import trl

from services.errors import Conflict, InvalidInput
from services.training.folder import WHOLE, RunFolder, file_sha256
from services.training.models import DpoSpec, Point

if TYPE_CHECKING:
    from services.training.dpo import StopSwitch

CHECKPOINTS_A_RUN = 8
LARGE_MODEL = 1_000_000_000
"""Parameters from which a GPU run trades time for memory by gradient checkpointing."""

Row = dict[str, Any]


def train(folder: RunFolder, switch: StopSwitch) -> dict[str, Any]:
    """Train the run in the folder from its last whole checkpoint, or from the start.

    Returns:
        The content of `result.json` but for time and memory.

    Raises:
        InvalidInput: No pair is short enough.
        Conflict: Specification or data differ from what an earlier attempt saw.
    """
    order = folder.read("spec.json")
    assert order is not None, "the worker writes spec.json before it starts this process"
    spec = DpoSpec.from_json(order["spec"])
    data = Path(order["dataset_folder"]) / "train.jsonl"
    check_inputs(folder, spec, data, order["base_digest"])
    if order["threads"]:
        torch.set_num_threads(order["threads"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(order["base_path"])
    rows, dropped = arranged(tokenizer, read_pairs(data), spec)
    precision = chosen_precision(spec.precision)
    folder.write("stage.json", {"stage": "preparing the pairs"})
    trainer = build_trainer(
        folder, spec, rows, tokenizer=tokenizer, model=load_base(order["base_path"], precision),
        precision=precision,
    )  # fmt: skip
    recorder = Recorder(folder, switch)
    trainer.add_callback(recorder)
    checkpoint = folder.last_checkpoint()
    recorder.forget_after(checkpoint)
    folder.write("stage.json", {"stage": "training"})
    switch.in_training = True
    if switch.asked:
        return {"outcome": "stopped"}
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    step, max_steps = trainer.state.global_step, trainer.state.max_steps
    facts = {
        "step": step, "max_steps": max_steps, "pairs": len(rows), "dropped_long": dropped,
        "precision": precision, "device": str(trainer.args.device),
        "precomputed_reference": trainer.args.precompute_ref_log_probs,
        "versions": versions(), "final": summary(folder),
    }  # fmt: skip
    if step < max_steps:
        return {"outcome": "stopped", **facts}
    folder.write("stage.json", {"stage": "saving the adapter"})
    save_adapter(trainer.model, folder.adapter, order["base_model"])
    return {"outcome": "succeeded", **facts}


def check_inputs(folder: RunFolder, spec: DpoSpec, data: Path, base_digest: str) -> None:
    """Note what this run computes from, or refuse to go on if it is no longer the same.

    Raises:
        Conflict: An earlier attempt of the run saw something else.
    """
    found = {"spec": spec.sha256, "data": file_sha256(data), "base": base_digest}
    first = folder.read("inputs.json")
    if first is None:
        folder.write("inputs.json", found)
    elif first != found:
        what = ", ".join(name for name in found if first.get(name) != found[name])
        raise Conflict(
            f"run {folder.path.name}: expected the {what} of its first attempt, found another; "
            "launch a new run instead"
        )


def read_pairs(path: Path) -> list[Row]:
    """The pairs of a `train.jsonl`: prompt, chosen, rejected, each a list of messages."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    return [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows]


def arranged(tokenizer: Any, rows: list[Row], spec: DpoSpec) -> tuple[list[Row], int]:
    """Pairs that are short enough, in batches of like length, the batches in seeded order.

    Batches of like length hold little padding. The order is part of the data set (the sampler
    is sequential), so it does not depend on any library's random generator.

    Returns:
        The rows in order, and how many were too long.

    Raises:
        InvalidInput: None was short enough.
    """
    lengths = [pair_length(tokenizer, row) for row in rows]
    short = [i for i, length in enumerate(lengths) if length <= spec.max_length]
    if not short:
        raise InvalidInput(
            f"expected a pair of at most {spec.max_length} tokens (max_length), "
            f"found {len(rows)} pairs, the shortest of {min(lengths, default=0)} tokens"
        )
    randomness = random.Random(spec.seed)
    randomness.shuffle(short)
    short.sort(key=lambda i: lengths[i])
    size = spec.batch_size
    batches = [short[i : i + size] for i in range(0, len(short), size)]
    # A batch that is not full has to stay last, or it would shift all that follow.
    rest = [batches.pop()] if len(batches[-1]) < size else []
    randomness.shuffle(batches)
    return [rows[i] for batch in batches + rest for i in batch], len(rows) - len(short)


def pair_length(tokenizer: Any, row: Row) -> int:
    """Tokens of the longer of both dialogues, as the chat template writes them."""
    return max(
        len(tokenizer.apply_chat_template(row["prompt"] + row[side], return_dict=False))
        for side in ("chosen", "rejected")
    )


def chosen_precision(asked: str) -> str:
    """`bfloat16` or `float32`; `auto` is bf16 exactly where the hardware multiplies it.

    A CPU with AVX-512 BF16 or AMX ran a step in 0.4 of float32's time, one without them took
    several times as long (`bench/dpo.py` measures it).
    """
    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    able = torch.cpu.get_capabilities()
    return "bfloat16" if able.get("avx512_bf16") or able.get("amx_bf16") else "float32"


def load_base(path: str, precision: str) -> Any:
    """The base model in the run's precision; the adapter's own weights are float32 always."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    return transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=dtype, local_files_only=True
    )


def build_trainer(
    folder: RunFolder, spec: DpoSpec, rows: list[Row], *, tokenizer: Any, model: Any, precision: str
) -> Any:
    """The TRL trainer of a run, with a fresh adapter on the base model."""
    steps = spec.max_steps or math.ceil(len(rows) / spec.batch_size * spec.epochs)
    on_gpu = torch.cuda.is_available()
    with_sft = spec.sft_weight > 0
    arguments = trl.DPOConfig(
        output_dir=str(folder.path),
        beta=spec.beta,
        loss_type=[spec.loss_type, "sft"] if with_sft else [spec.loss_type],
        loss_weights=[1.0, spec.sft_weight] if with_sft else None,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=max(1, steps // 10),
        max_steps=steps,
        per_device_train_batch_size=spec.batch_size,
        train_sampling_strategy="sequential",
        # Lengths were filtered before: TRL's filter would defeat its own cache of the reference.
        max_length=None,
        # The reference is computed once for all epochs; below 1.5 passes that saves nothing.
        precompute_ref_log_probs=steps * spec.batch_size >= 1.5 * len(rows),
        precompute_ref_batch_size=spec.batch_size,  # larger is no faster on a CPU, and takes memory
        bf16=precision == "bfloat16",
        use_cpu=not on_gpu,
        activation_checkpointing=on_gpu and model.num_parameters() >= LARGE_MODEL,
        logging_steps=1,
        save_steps=max(1, math.ceil(steps / CHECKPOINTS_A_RUN)),
        save_total_limit=2,
        seed=spec.seed,
        data_seed=spec.seed,
        dataloader_num_workers=0,
        dataloader_pin_memory=on_gpu,
        disable_tqdm=True,
        report_to="none",
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # one run, one device, however many there are
    transformers.set_seed(spec.seed)
    return trl.DPOTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=peft.LoraConfig(
            r=spec.lora_r,
            lora_alpha=spec.lora_alpha,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )


class Recorder(transformers.TrainerCallback):  # type: ignore[misc]  # the library has no types
    """Writes one metric line a step, marks whole checkpoints, and obeys the switch."""

    def __init__(self, folder: RunFolder, switch: StopSwitch) -> None:
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
        if self._switch.asked:
            control.should_save = True
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint as whole: a kill in mid-save leaves one without the mark."""
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
        line = json.dumps(asdict(self._point(state, logs)))
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
            rss_mb=round(self._process.memory_info().rss / 2**20, 1),
            eta_s=round(pace * (state.max_steps - state.global_step), 1),
            at=round(time.time(), 3),
        )


def summary(folder: RunFolder) -> dict[str, float]:
    """Means of the last tenth of the curve (at least three steps), by name."""
    points = folder.points()
    last = points[-max(3, len(points) // 10) :]
    if not last:
        return {}
    return {
        name: sum(getattr(point, name) for point in last) / len(last)
        for name in ("loss", "margin", "accuracy", "tokens_per_s")
    }


def save_adapter(model: Any, target: Path, base_model: str) -> None:
    """Write the adapter in one rename: its weights, and a config that is the same everywhere.

    PEFT writes the base model's folder on this machine, a set in random order and a model card;
    none of it may get into a digest, and engines need the base model's name.
    """
    half = target.with_name("adapter.half")
    model.save_pretrained(str(half), safe_serialization=True, save_embedding_layers=False)
    config_file = half / "adapter_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base_model
    config["target_modules"] = sorted(config["target_modules"])
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for path in half.iterdir():
        if path.name not in {"adapter_config.json", "adapter_model.safetensors"}:
            path.unlink()
    if target.exists():
        for path in target.iterdir():
            path.unlink()
        target.rmdir()
    half.rename(target)


def versions() -> dict[str, str]:
    """What the numbers depend on."""
    libraries = (torch, transformers, trl, peft, datasets)
    return {library.__name__: library.__version__ for library in libraries}
