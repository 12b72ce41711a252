"""The command line of real vLLM, for a GPU or for the CPU build."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from services.errors import MissingModel
from services.inference.models import BaseModel
from services.settings import Settings

ENVIRONMENT = ".venv-vllm"
CPU_MAX_MODEL_LEN = 2048
GPU_DRAFT_TOKENS = 4


@dataclass(frozen=True)
class VllmOptions:
    """What vLLM is asked for beyond the settings.

    Attributes:
        has_gpu: Build the command for an NVIDIA GPU; otherwise for the CPU build.
        max_loras: Adapters in one batch (five tenants at a time).
        max_lora_rank: Largest rank; one of 1, 8, 16, 32, 64, 128, 256, 320, 512.
        max_model_len: Longest context, tokens; None leaves it to the model (on a GPU).
        draft_model: A small model with the same vocabulary that guesses ahead; None guesses from
            what the prompt and the answer already said (n-grams), which needs no second model.
        draft_tokens: Tokens guessed at a time; 0 turns speculative decoding off. None: 4 on a
            GPU, off on the CPU.
        fp8_cache: Keep the key-value cache in 8 bits: half the memory. None: on a GPU only.
        cpu_cache_gb: Memory of the key-value cache of the CPU build, GiB.
        adapters: Name -> folder of adapters that are loaded at the start.
    """

    has_gpu: bool
    max_loras: int = 5
    max_lora_rank: int = 64
    max_model_len: int | None = None
    draft_model: str | None = None
    draft_tokens: int | None = None
    fp8_cache: bool | None = None
    cpu_cache_gb: int = 1
    adapters: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class VllmCommand:
    """How to start vLLM.

    Attributes:
        argv: The command; begins with `env`, which sets the variables that vLLM reads.
        left_out: What a GPU would have had by default, one sentence each, for people.
    """

    argv: tuple[str, ...]
    left_out: tuple[str, ...]


def find_python(root: Path, named: str | None = None) -> Path:
    """The interpreter of the environment that holds vLLM.

    Args:
        root: Folder in which `make vllm` made it.
        named: Another interpreter.

    Raises:
        MissingModel: It is not there.
    """
    python = Path(named) if named else root / ENVIRONMENT / "bin" / "python"
    if not python.is_file():
        raise MissingModel(f"expected vLLM's Python at {python}, found none; run: make vllm")
    return python


def has_nvidia_gpu() -> bool:
    """Whether this machine has NVIDIA's driver tools."""
    return shutil.which("nvidia-smi") is not None


def command(settings: Settings, base: BaseModel, python: Path, options: VllmOptions) -> VllmCommand:
    """The command that serves a base model and any adapters by vLLM.

    Adapters can be loaded and unloaded while it runs. The gateway stands before it: it listens
    where the settings say, on loopback unless told otherwise.
    """
    variables = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
    }
    flags = {
        "--model": str(base.path),
        "--served-model-name": base.name,
        "--host": settings.host,
        "--port": str(settings.engine_port),
        "--max-loras": str(options.max_loras),
        "--max-lora-rank": str(options.max_lora_rank),
    }
    switches = ["--enable-lora"]
    if options.max_model_len is not None:
        flags["--max-model-len"] = str(options.max_model_len)
    if options.has_gpu:
        speed_up = replace(
            options,
            draft_tokens=GPU_DRAFT_TOKENS if options.draft_tokens is None else options.draft_tokens,
            fp8_cache=options.fp8_cache is not False,
        )
    else:
        speed_up = options
        variables["VLLM_CPU_KVCACHE_SPACE"] = str(options.cpu_cache_gb)
        flags.setdefault("--max-model-len", str(CPU_MAX_MODEL_LEN))
        flags["--dtype"] = "float32"
        switches.append("--enforce-eager")
    if speed_up.draft_tokens:
        flags["--speculative-config"] = json.dumps(_speculation(speed_up))
    if speed_up.fp8_cache:
        flags["--kv-cache-dtype"] = "fp8"
    argv = ["env", *(f"{name}={value}" for name, value in variables.items())]
    argv += [str(python), "-m", "vllm.entrypoints.openai.api_server", *switches]
    argv += [part for flag in flags.items() for part in flag]
    if options.adapters:
        argv += ["--lora-modules", *(f"{name}={path}" for name, path in options.adapters.items())]
    return VllmCommand(tuple(argv), _left_out(options))


def _speculation(options: VllmOptions) -> dict[str, Any]:
    if options.draft_model is None:
        return {
            "method": "ngram",
            "num_speculative_tokens": options.draft_tokens,
            "prompt_lookup_max": 4,
        }
    return {
        "method": "draft_model",
        "model": options.draft_model,
        "num_speculative_tokens": options.draft_tokens,
    }


def _left_out(options: VllmOptions) -> tuple[str, ...]:
    if options.has_gpu:
        return ()
    left_out = ["no CUDA graphs on the CPU: --enforce-eager"]
    if options.draft_tokens is None:
        left_out.append(
            "speculative decoding is off on the CPU, where guessing costs what it saves: "
            "vLLM itself warns of a loss without Intel's OpenMP"
        )
    if options.fp8_cache is None:
        left_out.append(
            "the fp8 key-value cache is off on the CPU: it changed answers there, and main memory "
            "is not scarce"
        )
    return tuple(left_out)
