"""LoRA adapters: computed as PEFT computes them, row by row; refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from services.errors import InvalidInput, MissingModel
from services.inference.engine.lora import Adapter, load_adapter
from services.inference.engine.model import LanguageModel
from services.inference.engine.rows import Row
from services.inference.models import BaseModel
from tests.models import make_adapter

IDS = [5, 9, 30, 200, 77, 310, 42]
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture
def model(tiny_language_model: LanguageModel) -> LanguageModel:
    return tiny_language_model


def logits_of(model: LanguageModel, adapters: list[Adapter | None]) -> Tensor:
    return model.run([IDS] * len(adapters), [Row() for _ in adapters], adapters)


def peft_logits(base: Path, adapter: Path) -> Tensor:
    from peft import PeftModel

    with torch.inference_mode():
        plain: Any = AutoModelForCausalLM.from_pretrained(base)
        found: Any = PeftModel.from_pretrained(plain, adapter).eval()(torch.tensor([IDS])).logits
    return torch.as_tensor(found)[0, -1]


# PEFT 0.21 asks transformers 5.23 for a property under its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"rank": 1},
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 1, "layers.1.mlp.*": 32}},
    ],
)
def test_an_adapter_answers_as_in_peft(
    model: LanguageModel, tiny_model: BaseModel, tmp_path: Path, config: dict[str, Any]
) -> None:
    folder = make_adapter(tiny_model.path, tmp_path / "adapter", seed=3, **config)
    got = logits_of(model, [load_adapter(folder, model.layers)])[0]
    assert torch.allclose(got, peft_logits(tiny_model.path, folder), **CLOSE)
    assert not torch.allclose(got, logits_of(model, [None])[0], atol=0.1)


def test_each_row_of_a_batch_takes_its_own_adapter(
    model: LanguageModel, tiny_model: BaseModel, tmp_path: Path
) -> None:
    one, two = (
        load_adapter(make_adapter(tiny_model.path, tmp_path / str(seed), seed=seed), model.layers)
        for seed in (1, 2)
    )
    mixed = logits_of(model, [one, None, two, two, one])
    for row, adapter in enumerate([one, None, two, two, one]):
        assert torch.allclose(mixed[row], logits_of(model, [adapter])[0], **CLOSE)


def test_the_size_of_an_adapter_is_that_of_its_weights(
    model: LanguageModel, tiny_model: BaseModel, tmp_path: Path
) -> None:
    folder = make_adapter(tiny_model.path, tmp_path / "adapter")
    stored = load_file(folder / "adapter_model.safetensors").values()
    expected = sum(tensor.nbytes for tensor in stored)
    assert load_adapter(folder, model.layers).size_bytes == expected


def test_a_folder_without_an_adapter_is_refused(model: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match=r"expected adapter_config\.json, found none"):
        load_adapter(tmp_path, model.layers)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias='all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"peft_type": "PROMPT_TUNING"}, "another kind of adapter"),
        ({"r": 0}, "the rank 0"),
        ({"lora_alpha": "much"}, "could not convert"),
    ],
)
def test_an_adapter_that_only_one_engine_could_serve_is_refused(
    model: LanguageModel,
    tiny_model: BaseModel,
    tmp_path: Path,
    config: dict[str, Any],
    reason: str,
) -> None:
    folder = make_adapter(tiny_model.path, tmp_path / "adapter")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    with pytest.raises(InvalidInput, match=reason):
        load_adapter(folder, model.layers)


def broken(change: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    first = next(name for name in weights if name.endswith("lora_A.weight"))
    if change == "half":
        return {name: tensor for name, tensor in weights.items() if name != first}
    if change == "shape":
        return {**weights, first: weights[first][:, :-1].contiguous()}
    if change == "nan":
        return {**weights, first: weights[first] * float("nan")}
    if change == "stranger":
        return {**weights, "base_model.model.lm_head.lora_A.weight": weights[first].clone()}
    return {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("half", "both halves"),
        ("shape", "made for another base model"),
        ("nan", "finite weights"),
        ("stranger", "lm_head"),
        ("nothing", "found none"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    model: LanguageModel, tiny_model: BaseModel, tmp_path: Path, change: str, reason: str
) -> None:
    folder = make_adapter(tiny_model.path, tmp_path / "adapter")
    file = folder / "adapter_model.safetensors"
    save_file(broken(change, load_file(file)), file)
    with pytest.raises(InvalidInput, match=reason):
        load_adapter(folder, model.layers)


def test_a_broken_file_is_refused(
    model: LanguageModel, tiny_model: BaseModel, tmp_path: Path
) -> None:
    folder = make_adapter(tiny_model.path, tmp_path / "adapter")
    (folder / "adapter_model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(InvalidInput, match="expected safetensors"):
        load_adapter(folder, model.layers)
