from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidInput
from services.training.models import PRESETS, DpoSpec, validate

NAMES = {"alias": "legal", "dataset_id": "d1", "base_model": "smollm2-135m-instruct"}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid_and_survives_export(preset: str) -> None:
    spec = DpoSpec.from_preset(preset, **NAMES, seed=7)
    assert spec.preset == preset
    assert spec.seed == 7
    assert DpoSpec.from_json(spec.as_json()) == spec
    assert DpoSpec.from_json(spec.as_json()).sha256 == spec.sha256


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"beta": 0}, "beta: expected a number from 0.001 to 10.0 (no unit), found 0"),
        ({"beta": "0.1"}, "beta: expected a number from 0.001 to 10.0 (no unit), found '0.1'"),
        ({"beta": float("nan")}, "beta: expected a number from 0.001 to 10.0 (no unit), found nan"),
        ({"lora_r": 0}, "lora_r: expected a whole number from 1 to 256 (rank), found 0"),
        ({"lora_r": 8.5}, "lora_r: expected a whole number from 1 to 256 (rank), found 8.5"),
        ({"lora_r": True}, "lora_r: expected a whole number from 1 to 256 (rank), found True"),
        ({"learning_rate": 1}, "learning_rate: expected a number from 1e-08 to 0.01 (per step), found 1"),
        ({"epochs": 0}, "epochs: expected a number from 0.01 to 100.0 (passes), found 0"),
        ({"max_steps": 0}, "max_steps: expected a whole number from 1 to 1000000 (steps), found 0"),
        ({"max_length": 8}, "max_length: expected a whole number from 16 to 32768 (tokens), found 8"),
        ({"batch_size": -1}, "batch_size: expected a whole number from 1 to 512 (pairs), found -1"),
        ({"seed": 2**31}, "seed: expected a whole number from 0 to 2147483647 (no unit), found 2147483648"),
        ({"sft_weight": -0.1}, "sft_weight: expected a number from 0.0 to 10.0 (no unit), found -0.1"),
        ({"lora_alpha": None}, "lora_alpha: expected a whole number from 1 to 1024 (no unit), found None"),
        ({"loss_type": "orpo"}, "loss_type: expected one of sigmoid, hinge, ipo, robust, apo_zero, kto, found 'orpo'"),
        ({"precision": "fp8"}, "precision: expected one of auto, float32, bfloat16, found 'fp8'"),
        ({"alias": "Legal AI"}, "alias: expected 1 to 48 of a-z, 0-9 and -, not beginning with -, found 'Legal AI'"),
        ({"alias": "../x"}, "alias: expected 1 to 48 of a-z, 0-9 and -, not beginning with -, found '../x'"),
        ({"dataset_id": ""}, "dataset_id: expected text, found ''"),
    ],
)  # fmt: skip
def test_each_field_out_of_range_is_refused_in_one_sentence(
    changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        DpoSpec.from_json({**NAMES, **changes})
    assert str(refused.value) == sentence


def test_an_unknown_field_is_never_dropped_in_silence() -> None:
    with pytest.raises(InvalidInput, match="unknown field 'precompute_ref_log_probs'; known"):
        DpoSpec.from_json({**NAMES, "precompute_ref_log_probs": True})
    with pytest.raises(InvalidInput, match="dataset_id: expected a value, found none"):
        DpoSpec.from_json({"alias": "a", "base_model": "b"})
    with pytest.raises(InvalidInput, match="preset: expected one of quick, standard, found 'fast'"):
        DpoSpec.from_preset("fast", **NAMES)


@given(
    beta=st.floats(0.001, 10),
    steps=st.none() | st.integers(1, 1_000_000),
    seed=st.integers(0, 2**31 - 1),
)
def test_whatever_is_in_range_is_kept_as_it_is(beta: float, steps: int | None, seed: int) -> None:
    spec = validate(DpoSpec(**NAMES, beta=beta, max_steps=steps, seed=seed))
    assert (spec.beta, spec.max_steps, spec.seed) == (beta, steps, seed)
