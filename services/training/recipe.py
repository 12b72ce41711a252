"""One run from its order to its adapter. Imports torch; the child's only.

Pairs are filtered by our own token count and put into batches of like length (`rows`); how they
are learned from is `trainers`'; what is told meanwhile is `recorder`'s.

Source: Rafailov et al. 2023, arXiv:2305.18290; `docs/decisions/0002-durable-jobs.md` for resuming.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import peft
import torch
import transformers
import trl

from services.errors import Conflict
from services.training import together
from services.training.folder import RunFolder, file_sha256
from services.training.models import DpoSpec
from services.training.packed import PackedDpoTrainer
from services.training.recorder import Recorder
from services.training.rows import arranged, read, source
from services.training.trainers import build_trainer, chosen_precision, forget_shared, load_base

if TYPE_CHECKING:
    from services.training.group import Switch


def train(folder: RunFolder, switch: Switch) -> dict[str, Any]:
    """Train the run in the folder from its last whole checkpoint, or from the start.

    Several processes that train it together all call this; the first of them writes.

    Returns:
        The content of `result.json` but for time and memory.

    Raises:
        InvalidInput: No pair is short enough.
        Conflict: Specification or data differ from what an earlier attempt saw.
    """
    order = folder.read("spec.json")
    assert order is not None, "the worker writes spec.json before it starts this process"
    spec = DpoSpec.from_json(order["spec"])
    data = source(Path(order["dataset_folder"]), spec)
    check_inputs(folder, spec, data, order["base_digest"])
    if order["threads"]:
        torch.set_num_threads(order["threads"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(order["base_path"])
    rows, dropped = arranged(tokenizer, read(data, spec), spec)
    precision = chosen_precision(spec.precision)
    folder.write("stage.json", {"stage": "preparing the pairs"})
    base = load_base(order["base_path"], precision, spec.quantization)
    trainer = build_trainer(
        folder, spec, rows, tokenizer=tokenizer, model=base, precision=precision
    )
    recorder = Recorder(folder, switch)
    trainer.add_callback(recorder)
    checkpoint = together.the_firsts(folder.last_checkpoint())
    if trainer.is_world_process_zero():
        recorder.forget_after(checkpoint)
    folder.write("stage.json", {"stage": "training"})
    switch.in_training = True
    if recorder.is_asked_to_stop():
        return {"outcome": "stopped"}
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    forget_shared(folder)
    step, max_steps = trainer.state.global_step, trainer.state.max_steps
    facts = {
        "step": step, "max_steps": max_steps, "pairs": len(rows), "dropped_long": dropped,
        "precision": precision, "packed": isinstance(trainer, PackedDpoTrainer), "device": str(trainer.args.device),
        "precomputed_reference": trainer.args.precompute_ref_log_probs,
        "versions": versions(), "final": summary(folder), "peak_gpu_mb": together.gpu_mb(),
    }  # fmt: skip
    if step < max_steps:
        return {"outcome": "stopped", **facts}
    folder.write("stage.json", {"stage": "saving the adapter"})
    if trainer.is_world_process_zero():
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
