"""What a DPO run is told, and what it tells back."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal

from services.errors import InvalidInput
from services.jobs.models import Job, JobStatus
from services.training.advanced import Advanced

LOSS_TYPES = ("sigmoid", "hinge", "ipo", "robust", "apo_zero", "kto")
PRECISIONS = ("auto", "float32", "bfloat16")
QUANTIZATIONS = ("none", "4bit")
TARGETS: Mapping[str, str | tuple[str, ...]] = {
    "all-linear": "all-linear",
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "query-value": ("q_proj", "v_proj"),
}
"""Which layers get an adapter, by the names that Llama, Mistral, Qwen and Gemma give them."""
ALIAS_RULE = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")


@dataclass(frozen=True)
class DpoSpec:
    """Everything that decides what a DPO run computes; equal ones give equal curves.

    Attributes:
        alias: What the adapter is called before its digest; `[a-z0-9-]{1,48}`.
        dataset_id: The frozen dataset that is learned from.
        base_model: Name of a pulled base model, which is also the reference model.
        preset: The preset that the numbers began from, or `custom`; changes nothing.
        beta: Pull towards the reference model, > 0, no unit.
        loss_type: One of `LOSS_TYPES`, as TRL names them.
        sft_weight: Weight of the negative log-likelihood of the chosen answer that is added to
            the preference loss (its mean over tokens); 0 for pure DPO. It keeps answers fluent.
        lora_r: Rank of the adapter.
        lora_alpha: Its scale is `lora_alpha / lora_r`.
        learning_rate: Of AdamW, at its highest.
        epochs: Passes over the pairs; ignored where `max_steps` is set.
        max_steps: Optimizer steps, or None.
        max_length: Longest prompt with answer, tokens; longer pairs are left out and counted.
        batch_size: Pairs in one optimizer step.
        seed: Of the adapter's first weights and of the order of the pairs.
        precision: `auto` takes what is fastest where it runs.
        label_smoothing: Share of the pairs whose label is taken to be wrong, below 0.5; only
            `robust` has it.
        target_modules: A key of `TARGETS`.
        quantization: `4bit` keeps the base model in four bits (QLoRA); only on a GPU.
        advanced: Everything else, as the YAML beside the run says it; see `Advanced`.
    """

    alias: str
    dataset_id: str
    base_model: str
    preset: str = "custom"
    beta: float = 0.1
    loss_type: str = "sigmoid"
    sft_weight: float = 0.0
    lora_r: int = 16
    lora_alpha: int = 32
    learning_rate: float = 1e-4
    epochs: float = 1.0
    max_steps: int | None = None
    max_length: int = 512
    batch_size: int = 4
    seed: int = 42
    precision: str = "auto"
    label_smoothing: float = 0.0
    target_modules: str = "all-linear"
    quantization: str = "none"
    advanced: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_preset(
        cls, name: str, *, alias: str, dataset_id: str, base_model: str, **changes: Any
    ) -> DpoSpec:
        """A preset with some numbers changed, checked.

        Raises:
            InvalidInput: There is no such preset, or a field is unknown or out of range.
        """
        if name not in PRESETS:
            raise InvalidInput(
                f"preset: expected one of {', '.join(PRESETS)}, found {name!r}"
            ).because("one_of", field="preset", allowed=list(PRESETS), found=name)
        values = {**PRESETS[name], **changes, "preset": name}
        return cls.from_json(
            {"alias": alias, "dataset_id": dataset_id, "base_model": base_model, **values}
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DpoSpec:
        """A specification from its exported form, checked.

        Raises:
            InvalidInput: A field is unknown, missing, of the wrong kind or out of range. No
                field is ever dropped in silence.
        """
        known = {one.name for one in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InvalidInput(
                f"unknown field {unknown[0]!r}; known fields are {', '.join(sorted(known))}"
            )
        for name in ("alias", "dataset_id", "base_model"):
            if name not in values:
                raise InvalidInput(f"{name}: expected a value, found none")
        return validate(cls(**values))

    def as_json(self) -> dict[str, Any]:
        """The exported form; `from_json` reads it back."""
        return asdict(self)

    @property
    def more(self) -> Advanced:
        """The settings of the YAML, complete."""
        return Advanced.from_json(self.advanced)

    @property
    def sha256(self) -> str:
        """Digest of what decides the numbers.

        Fields that came later count only where they differ from what every run before did, so
        that a run that was stopped under an older version goes on.
        """
        values = {**self.as_json(), "advanced": self.more.changes()}
        for name, before in _CAME_LATER.items():
            if values[name] == before:
                del values[name]
        text = json.dumps(values, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


_CAME_LATER: Mapping[str, Any] = {
    "label_smoothing": 0.0, "target_modules": "all-linear", "quantization": "none", "advanced": {},
}  # fmt: skip


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # A demonstration in minutes on two cores: the bundled pairs turn "Istanbul" into "Ankara".
    "quick": {
        "beta": 0.1,
        "sft_weight": 0.5,
        "lora_r": 16,
        "lora_alpha": 32,
        "learning_rate": 4e-4,
        "max_steps": 32,
        "max_length": 256,
        "batch_size": 4,
    },
    "standard": {
        "beta": 0.1,
        "sft_weight": 0.5,
        "lora_r": 16,
        "lora_alpha": 32,
        "learning_rate": 2e-4,
        "epochs": 3.0,
        "max_length": 512,
        "batch_size": 8,
    },
}
"""Numbers to begin from. Pure DPO (`sft_weight` 0) made the small base model repeat itself within
24 steps; with the likelihood term its answers stay whole sentences."""

_RANGES: Mapping[str, tuple[type, float, float, str]] = {
    "beta": (float, 0.001, 10.0, "no unit"),
    "sft_weight": (float, 0.0, 10.0, "no unit"),
    "lora_r": (int, 1, 256, "rank"),
    "lora_alpha": (int, 1, 1024, "no unit"),
    "learning_rate": (float, 1e-8, 1e-2, "per step"),
    "epochs": (float, 0.01, 100.0, "passes"),
    "max_steps": (int, 1, 1_000_000, "steps"),
    "max_length": (int, 16, 32_768, "tokens"),
    "batch_size": (int, 1, 512, "pairs"),
    "label_smoothing": (float, 0.0, 0.49, "share of wrong labels"),
    "seed": (int, 0, 2**31 - 1, "no unit"),
}


def validate(spec: DpoSpec) -> DpoSpec:
    """The specification with whole numbers made floats where floats belong, if all is in range.

    Raises:
        InvalidInput: A field is of the wrong kind or out of range.
    """
    numbers = {name: _number(name, getattr(spec, name)) for name in _RANGES}
    if not isinstance(spec.alias, str) or not ALIAS_RULE.fullmatch(spec.alias):
        raise InvalidInput(
            f"alias: expected 1 to 48 of a-z, 0-9 and -, not beginning with -, found {spec.alias!r}"
        ).because("run_alias_form", found=spec.alias)
    for name, allowed in _CHOICES.items():
        if getattr(spec, name) not in allowed:
            raise InvalidInput(
                f"{name}: expected one of {', '.join(allowed)}, found {getattr(spec, name)!r}"
            ).because("one_of", field=name, allowed=list(allowed), found=getattr(spec, name))
    for name in ("dataset_id", "base_model", "preset"):
        if not isinstance(getattr(spec, name), str) or not getattr(spec, name):
            raise InvalidInput(f"{name}: expected text, found {getattr(spec, name)!r}")
    more = Advanced.from_json(spec.advanced)
    _fitting(spec, more)
    return replace(spec, **numbers, advanced=more.as_json())


_CHOICES: Mapping[str, Sequence[str]] = {
    "loss_type": LOSS_TYPES,
    "precision": PRECISIONS,
    "target_modules": tuple(TARGETS),
    "quantization": QUANTIZATIONS,
}


def _fitting(spec: DpoSpec, more: Advanced) -> None:
    """Refuse settings that are fine alone and not together."""
    if spec.label_smoothing and spec.loss_type != "robust":
        raise InvalidInput(
            f"label_smoothing: expected 0 with the loss {spec.loss_type} (only robust knows wrong "
            f"labels), found {spec.label_smoothing}"
        ).because("smoothing_without_robust", loss=spec.loss_type)
    if spec.loss_type == "kto" and spec.sft_weight:
        raise InvalidInput(
            f"sft_weight: expected 0 with the loss kto, found {spec.sft_weight}"
        ).because("kto_without_sft")
    if more.micro_batch_size and spec.batch_size % more.micro_batch_size:
        raise InvalidInput(
            f"micro_batch_size: expected a divisor of batch_size ({spec.batch_size}), "
            f"found {more.micro_batch_size}"
        ).because("batch_divisor", batch=spec.batch_size, found=more.micro_batch_size)


def _number(name: str, value: Any) -> Any:
    kind, low, high, unit = _RANGES[name]
    if value is None and name == "max_steps":
        return None
    fits = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
    if not fits or not math.isfinite(value) or not low <= value <= high:
        what = "a number" if kind is float else "a whole number"
        raise InvalidInput(
            f"{name}: expected {what} from {low} to {high} ({unit}), found {value!r}"
        ).because("range", field=name, low=low, high=high, found=value)
    return float(value) if kind is float else value


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        job: Where it stands; the job's row is the one truth about that.
        adapter: Immutable name of what came out, None until then.
        mlflow_run_id: None until MLflow was reached.
        result: What the child process reported at its end: seconds, peak memory, final numbers.
        created_by: Name of the actor who launched it.
        backend: Where its process lives; see `backends`.
        parent_id: The run that its settings were taken over from, None where there is none.
    """

    id: str
    tenant_id: str
    job: Job
    spec: DpoSpec
    dataset_sha256: str
    base_digest: str
    adapter: str | None
    mlflow_run_id: str | None
    result: Mapping[str, Any]
    created_at: datetime
    created_by: str
    backend: str = "local"
    parent_id: str | None = None


@dataclass(frozen=True)
class RunLine:
    """What a list shows of a run; the same names mean the same as in `Run` and its job.

    Attributes:
        progress: Of its job, 0 to 1.
    """

    id: str
    status: JobStatus
    progress: float
    alias: str
    preset: str
    adapter: str | None
    created_at: datetime
    created_by: str


def differences(first: Run, second: Run) -> list[tuple[str, Any, Any]]:
    """What two runs were told differently: name, of the first, of the second; in fixed order."""

    def told(run: Run) -> dict[str, Any]:
        values = run.spec.as_json()
        del values["advanced"], values["preset"]
        return values | run.spec.more.as_json() | {
            "dataset_sha256": run.dataset_sha256, "base_digest": run.base_digest,
            "backend": run.backend,
        }  # fmt: skip

    one, other = told(first), told(second)
    return [(name, one[name], other[name]) for name in one if one[name] != other[name]]


@dataclass(frozen=True)
class Point:
    """One optimizer step, as measured on its own batch: a training signal, not a verdict.

    Attributes:
        loss: Mean over the batch, nats.
        margin: Mean of beta-scaled reward of chosen minus rejected, nats.
        accuracy: Share of the batch's pairs whose chosen reward is strictly higher, 0 to 1.
        grad_norm: Before clipping.
        tokens_per_s: Both answers counted, padding not.
        rss_mb: Memory of the process, MiB; of all of them where several train together.
        eta_s: Seconds that the remaining steps should take.
        gpu_mb: The most GPU memory held so far, MiB, likewise; 0 without a GPU.
    """

    step: int
    max_steps: int
    loss: float
    margin: float
    accuracy: float
    chosen_reward: float
    rejected_reward: float
    learning_rate: float
    grad_norm: float
    tokens_per_s: float
    rss_mb: float
    eta_s: float
    at: float
    gpu_mb: float = 0.0

    @property
    def curves(self) -> dict[str, float]:
        """What is drawn over the steps, by name; MLflow knows them under the same names."""
        names: tuple[Literal["loss"] | str, ...] = (
            "loss", "margin", "accuracy", "chosen_reward", "rejected_reward",
            "learning_rate", "grad_norm", "tokens_per_s", "rss_mb",
        )  # fmt: skip
        on_gpu = ("gpu_mb",) if self.gpu_mb else ()
        return {name: getattr(self, name) for name in (*names, *on_gpu)}
