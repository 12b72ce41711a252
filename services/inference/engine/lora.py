"""LoRA adapters in PEFT's format, several at once over one base model.

A loaded adapter is a bag of tensors that each request holds for as long as it runs: publishing
a new one, or dropping one, is a change of a reference and cannot disturb what is running. The
computation is PEFT's, checked against PEFT in the tests; which features are refused is taken
from vLLM, so that an adapter that one engine serves is served by the other too.

Source: Hu et al. 2021, arXiv:2106.09685, section 4.1; rsLoRA: arXiv:2312.03732.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import linear

from services.errors import InvalidInput, MissingModel
from services.inference.engine.packed import projection

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
KEY = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
UNSERVED = (
    "use_dora", "lora_bias", "layer_replication", "modules_to_save", "use_qalora", "use_bdlora",
    "alora_invocation_tokens", "trainable_token_indices", "target_parameters",
)  # fmt: skip


@dataclass(frozen=True)
class Adapter:
    """The weights of one loaded adapter.

    Attributes:
        pairs: Module name -> (A, shape (rank, inputs); scaled B, shape (outputs, rank)).
        size_bytes: What they take in memory.
    """

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    size_bytes: int


Span = tuple[Adapter, int, int]
"""An adapter, and the rows of the batch that it applies to: first, one past the last."""


class Plan:
    """Which rows of the batch that is being computed take which adapter."""

    def __init__(self) -> None:
        self.spans: tuple[Span, ...] = ()


class MultiLoraLinear(nn.Module):
    """A linear layer that adds each row's own adapter to the shared base weights.

    Args:
        base: The layer it stands for.
        name: Its name within the model, as adapters call it.
        plan: Shared by all layers; set before each forward pass.

    Attributes:
        outputs: Size of what it gives; likewise the inputs.
    """

    def __init__(self, base: nn.Linear, name: str, plan: Plan) -> None:
        super().__init__()
        self.outputs, self.inputs = base.out_features, base.in_features
        self._project = projection(base.weight, base.bias)
        self._name = name
        self._plan = plan

    def forward(self, x: Tensor) -> Tensor:
        """Project (rows, tokens, inputs) to (rows, tokens, outputs)."""
        y = self._project(x)
        for adapter, first, end in self._plan.spans:
            pair = adapter.pairs.get(self._name)
            if pair is not None:
                y[first:end] += linear(linear(x[first:end], pair[0]), pair[1])
        return y


def wrap_linears(
    model: nn.Module, plan: Plan, *, output: nn.Module | None
) -> dict[str, MultiLoraLinear]:
    """Put a `MultiLoraLinear` in the place of every linear layer.

    Args:
        output: The layer that gives the logits, which no adapter may change.

    Returns:
        The layers that adapters may change, by name.
    """
    layers: dict[str, MultiLoraLinear] = {}
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for name in names:  # one at a time: each old layer's memory is free before the next is made
        module = model.get_submodule(name)
        assert isinstance(module, nn.Linear)
        parent, _, child = name.rpartition(".")
        wrapped = MultiLoraLinear(module, name, plan)
        setattr(model.get_submodule(parent), child, wrapped)
        if module is not output:
            layers[name] = wrapped
    return layers


def load_adapter(folder: Path, layers: Mapping[str, MultiLoraLinear]) -> Adapter:
    """Read and check an adapter.

    Args:
        folder: Holds `adapter_config.json` and `adapter_model.safetensors`.
        layers: The layers that adapters may change, by name.

    Raises:
        MissingModel: The folder holds no adapter.
        InvalidInput: It is broken, made for another base model, or has a feature that neither
            engine serves.
    """
    config = _read_config(folder)
    try:
        state = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise InvalidInput(f"{folder.name}/{WEIGHTS}: expected safetensors, {error}") from error
    halves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        found = KEY.fullmatch(key)
        if found is None or found["module"] not in layers:
            raise InvalidInput(
                f"{folder.name}: expected LoRA weights of linear layers of this base model, "
                f"found {key!r}"
            )
        halves.setdefault(found["module"], {})[found["half"]] = tensor
    pairs = {
        name: _pair(folder.name, name, both, layers[name], _scaling(config, name, both))
        for name, both in halves.items()
    }
    if not pairs:
        raise InvalidInput(f"{folder.name}/{WEIGHTS}: expected LoRA weights, found none")
    return Adapter(pairs, sum(a.nbytes + b.nbytes for a, b in pairs.values()))


def _read_config(folder: Path) -> dict[str, Any]:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise MissingModel(f"No adapter found for {folder}: expected {name}, found none")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict) or config.get("peft_type") != "LORA":
            raise ValueError("another kind of adapter than LORA")
        if not (isinstance(config["r"], int) and config["r"] > 0):
            raise ValueError(f"the rank {config['r']!r}")
        float(config["lora_alpha"])
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInput(f"{folder.name}/{CONFIG}: expected a LoRA, found {error}") from error
    for problem in _unserved(config):
        raise InvalidInput(
            f"{folder.name}/{CONFIG}: expected what this engine and vLLM both serve, found {problem}"
        )
    return config


def _unserved(config: Mapping[str, Any]) -> Iterator[str]:
    yield from (name for name in UNSERVED if config.get(name))
    if config.get("bias", "none") != "none":
        yield f"bias={config['bias']!r}"
    if config.get("init_lora_weights", True) not in PLAIN_STARTS:
        yield f"init_lora_weights={config['init_lora_weights']!r} (it changes the base weights)"


def _scaling(config: Mapping[str, Any], module: str, both: Mapping[str, Tensor]) -> float:
    """Factor of B·A: alpha over the rank, or over its square root for rsLoRA."""
    alpha = config["lora_alpha"]
    for pattern, other in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = other
            break
    rank = both["A"].shape[0] if "A" in both else int(config["r"])
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _pair(
    folder: str, module: str, both: Mapping[str, Tensor], layer: MultiLoraLinear, scaling: float
) -> tuple[Tensor, Tensor]:
    outputs, inputs = layer.outputs, layer.inputs
    a, b = both.get("A"), both.get("B")
    if a is None or b is None:
        raise InvalidInput(f"{folder}: expected both halves of {module}, found one")
    if a.shape[1:] != (inputs,) or b.shape != (outputs, a.shape[0]):
        raise InvalidInput(
            f"{folder}: expected {module} to map {inputs} to {outputs}, found A {tuple(a.shape)} "
            f"and B {tuple(b.shape)}: the adapter was made for another base model"
        )
    a, b = a.to(torch.float32), b.to(torch.float32) * scaling
    if not (bool(a.isfinite().all()) and bool(b.isfinite().all())):
        raise InvalidInput(f"{folder}: expected finite weights in {module}, found NaN or infinity")
    return a.contiguous(), b.contiguous()
