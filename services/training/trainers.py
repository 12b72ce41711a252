"""Which trainer a run gets, and how it is set. Imports torch; the child's only.

On a CPU pairs are read packed (`packed`), in float32 or in bf16 where the hardware multiplies it.
On a GPU, and where several processes train together, TRL's own trainer runs; on a GPU in bf16, with the base model in four bits where that was asked for
(QLoRA: Dettmers et al. 2023, arXiv:2305.14314). KTO (arXiv:2402.01306) is TRL's everywhere.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
from typing import Any

import accelerate
import datasets
import peft
import torch
import transformers
import trl

from services.errors import InvalidInput
from services.training import packed, together
from services.training.folder import RunFolder
from services.training.models import TARGETS, DpoSpec
from services.training.rows import Row

SHARED_ROWS = "shared-rows"
"""In the run's folder, while several processes train: the rows and their reference."""
LARGE_MODEL = 1_000_000_000
"""Parameters from which a GPU run trades time for memory by gradient checkpointing."""


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


def load_base(path: str, precision: str, quantization: str = "none") -> Any:
    """The base model in the run's precision; the adapter's own weights are float32 always.

    Raises:
        InvalidInput: Four bits were asked for and cannot be had here.
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    if quantization == "none":
        return transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, local_files_only=True
        )
    if not torch.cuda.is_available():
        raise InvalidInput(f"quantization: expected none without a GPU, found {quantization!r}")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InvalidInput(
            f"quantization: {quantization!r} needs the package bitsandbytes, found none installed"
        )
    return transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=dtype, local_files_only=True,
        device_map={"": accelerate.PartialState().local_process_index},
        quantization_config=four_bits(dtype),
    )  # fmt: skip


def four_bits(dtype: torch.dtype) -> Any:
    """QLoRA's setting: NormalFloat 4, the constants quantized too, sums in the run's precision."""
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def arguments(folder: RunFolder, spec: DpoSpec, n_rows: int, **where: Any) -> dict[str, Any]:
    """What both of TRL's trainers are told.

    Args:
        where: `on_gpu`, `precision`, `large` (whether the model is), `processes` (that train
            together; 1 unless it is said).
    """
    more, on_gpu = spec.more, bool(where["on_gpu"])
    steps = spec.max_steps or math.ceil(n_rows / spec.batch_size * spec.epochs)
    share = _share(spec, int(where.get("processes", 1)))
    micro = math.gcd(more.micro_batch_size or share, share)
    saves_memory = _asked(more.gradient_checkpointing, on_gpu and bool(where["large"]))
    return {
        "output_dir": str(folder.path),
        "beta": spec.beta,
        "learning_rate": spec.learning_rate,
        "lr_scheduler_type": more.lr_scheduler,
        "warmup_steps": max(1, int(steps * more.warmup_ratio)),
        "weight_decay": more.weight_decay,
        "adam_beta1": more.adam_beta1,
        "adam_beta2": more.adam_beta2,
        "adam_epsilon": more.adam_epsilon,
        "max_grad_norm": more.max_grad_norm,
        "max_steps": steps,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": share // micro,
        "ddp_find_unused_parameters": False,  # each step uses every weight of the adapter
        "train_sampling_strategy": "sequential",
        # Lengths were filtered before: TRL's filter would defeat its own cache of the reference.
        "max_length": None,
        # The reference is computed once for all epochs; below 1.5 passes that saves nothing.
        "precompute_ref_log_probs": _asked(
            more.precompute_reference, steps * spec.batch_size >= 1.5 * n_rows
        ),
        "precompute_ref_batch_size": micro,  # larger is no faster on a CPU, and takes memory
        "bf16": where["precision"] == "bfloat16",
        "use_cpu": not on_gpu,
        "activation_checkpointing": saves_memory,
        "logging_steps": 1,
        "save_steps": max(1, math.ceil(steps / more.checkpoints)),
        "save_total_limit": 2,
        "seed": spec.seed,
        "data_seed": spec.seed,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": on_gpu,
        "disable_tqdm": True,
        "report_to": "none",
    }


def _share(spec: DpoSpec, processes: int) -> int:
    """The pairs of a step that each process takes."""
    if spec.batch_size % processes:
        raise InvalidInput(
            f"batch_size: expected a multiple of {processes}, since the run trains on as many "
            f"devices, found {spec.batch_size}"
        )
    return spec.batch_size // processes


def _asked(switch: str, by_itself: bool) -> bool:
    return by_itself if switch == "auto" else switch == "on"


def lora(spec: DpoSpec) -> Any:
    """The adapter's shape."""
    targets = TARGETS[spec.target_modules]
    return peft.LoraConfig(
        r=spec.lora_r,
        lora_alpha=spec.lora_alpha,
        lora_dropout=spec.more.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )


def build_trainer(
    folder: RunFolder, spec: DpoSpec, rows: list[Row], *, tokenizer: Any, model: Any, precision: str
) -> Any:
    """The trainer of a run, with a fresh adapter on the base model."""
    on_gpu, processes = torch.cuda.is_available(), accelerate.PartialState().num_processes
    told = arguments(
        folder, spec, len(rows), on_gpu=on_gpu, precision=precision,
        large=model.num_parameters() >= LARGE_MODEL, processes=processes,
    )  # fmt: skip
    common = {
        "model": model,
        "train_dataset": _data(folder, rows, processes),
        "processing_class": tokenizer,
        "peft_config": lora(spec),
    }
    if spec.loss_type == "kto":
        return _kto(spec, told, common)
    with_sft = spec.sft_weight > 0
    arguments_ = _on_one_device(
        trl.DPOConfig(
            **told,
            loss_type=[spec.loss_type, "sft"] if with_sft else [spec.loss_type],
            loss_weights=[1.0, spec.sft_weight] if with_sft else None,
            label_smoothing=spec.label_smoothing,
        )
    )
    transformers.set_seed(spec.seed)
    plain = on_gpu or processes > 1 or spec.more.packed == "off"
    if plain or not packed.agrees_with_trl(model, tokenizer, rows):
        return trl.DPOTrainer(**common, args=arguments_)
    packed.prepare(model, common["peft_config"])
    return packed.PackedDpoTrainer(**common, args=arguments_, data_collator=packed.PairPacker())


def _data(folder: RunFolder, rows: list[Row], processes: int) -> Any:
    """The rows as TRL takes them; in a file where several processes read them.

    TRL's first process leaves what it found of the reference beside the data, for the others.
    """
    found = datasets.Dataset.from_list(rows)
    if processes == 1:
        return found
    shared = folder.path / SHARED_ROWS
    if accelerate.PartialState().is_main_process:
        shutil.rmtree(shared, ignore_errors=True)
        found.save_to_disk(str(shared))
    together.wait_for_all()
    return datasets.load_from_disk(str(shared))


def forget_shared(folder: RunFolder) -> None:
    """Remove what only processes that train together need."""
    together.wait_for_all()
    if accelerate.PartialState().is_main_process:
        shutil.rmtree(folder.path / SHARED_ROWS, ignore_errors=True)


def _kto(spec: DpoSpec, told: dict[str, Any], common: dict[str, Any]) -> Any:
    if len(common["train_dataset"]) < 2 or told["per_device_train_batch_size"] < 2:
        raise InvalidInput(
            "batch_size: expected at least 2 answers a step with the loss kto, which compares "
            f"neighbours, found {told['per_device_train_batch_size']}"
        )
    more = spec.more
    arguments_ = trl.KTOConfig(
        **told, desirable_weight=more.desirable_weight, undesirable_weight=more.undesirable_weight
    )
    transformers.set_seed(spec.seed)
    return trl.KTOTrainer(**common, args=_on_one_device(arguments_))


def _on_one_device(arguments_: Any) -> Any:
    """One process, one device, however many it sees."""
    arguments_._n_gpu = min(1, arguments_.n_gpu)
    return arguments_
