from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.training.estimate import MARGIN, Pace, Shape, estimate, pace_of, tokens_of
from services.training.models import DpoSpec

SMALL = Shape(134_500_000, 30, 576, 1536, 49_152)
NAMES = {"alias": "a", "dataset_id": "d", "base_model": "b"}


def spec(**changes: object) -> DpoSpec:
    return DpoSpec.from_json({**NAMES, **changes})


def test_steps_are_those_that_the_run_takes() -> None:
    told = estimate(spec(epochs=2.5, batch_size=4), SMALL, [200], 10, pace=None, cores=1)
    assert (told.steps, told.tokens) == (7, 7 * 4 * 200)
    assert estimate(spec(max_steps=12), SMALL, [200], 10, pace=None, cores=1).steps == 12
    single = estimate(spec(loss_type="kto", batch_size=4), SMALL, [200], 10, pace=None, cores=1)
    assert (single.steps, single.tokens) == (5, 5 * 4 * 100)


def test_earlier_runs_decide_the_time() -> None:
    pace = pace_of(
        [{"final": {"tokens_per_s": value}, "peak_rss_mb": 1500} for value in (90, 100, 400)]
        + [{"outcome": "failed"}]
    )
    assert pace == Pace(100, 1500, 3)
    told = estimate(spec(max_steps=10), SMALL, [200], 10, pace=pace, cores=8)
    assert (told.seconds, told.measured_runs) == (pytest.approx(20 + 8000 / 100), 3)
    assert pace_of([{"outcome": "failed"}]) is None


@given(batch=st.integers(1, 64), length=st.integers(50, 1000), rank=st.integers(1, 128))
def test_more_pairs_longer_pairs_and_a_larger_adapter_never_need_less(
    batch: int, length: int, rank: int
) -> None:
    def needs(batch: int, length: int, rank: int, **more: object) -> float:
        asked = spec(batch_size=batch, lora_r=rank, **more)
        return estimate(asked, SMALL, [length], 10, pace=None, cores=1).memory_mb

    here = needs(batch, length, rank)
    assert needs(batch + 1, length, rank) > here
    assert needs(batch, length + 1, rank) > here
    assert needs(batch, length, rank + 1) > here
    assert needs(batch, length, rank, advanced={"micro_batch_size": 1}) <= here
    assert needs(batch, length, rank, quantization="4bit") < here


@pytest.mark.parametrize(
    ("shape", "precision", "measured"),
    [
        (Shape(7_064_960, 4, 128, 384, 49_152), "float32", 563),
        (Shape(48_767_488, 8, 512, 1408, 49_152), "float32", 926),
        (Shape(48_767_488, 8, 512, 1408, 49_152), "bfloat16", 763),
        (SMALL, "float32", 1937),
        (SMALL, "auto", 1325),
        (SMALL, "auto", 1937),
    ],
)
def test_the_memory_is_what_runs_were_measured_to_hold(
    shape: Shape, precision: str, measured: float
) -> None:
    """Four pairs a step of the bundled ones, whose longest is 196 tokens (`bench/memory.py`)."""
    asked = spec(batch_size=4, max_length=256, precision=precision)
    told = estimate(asked, shape, [196], 80, pace=None, cores=1).memory_mb
    assert told == pytest.approx(measured, rel=MARGIN)


def test_a_model_that_says_little_of_itself_is_guessed(tmp_path: Path) -> None:
    assert Shape.of(tmp_path, 100).layers == 24
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 64, "num_hidden_layers": 2}))
    found = Shape.of(tmp_path, 100)
    assert (found.hidden, found.layers, found.inner) == (64, 2, 192)


def test_a_long_answer_counts_no_further_than_it_is_read() -> None:
    assert tokens_of(10, 10**6, 33, 256) == 256 + round(36 + 10 / 3.3 + 10)
