"""Choosing the next token."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.inference.engine.sampling import Sampler, Sampling

LOGITS = torch.tensor([0.0, 3.0, 1.0, 2.0, -5.0])
WARM = Sampling(max_tokens=8, temperature=1.0, seed=1)


def drawn(sampling: Sampling, times: int = 200, prompt: tuple[int, ...] = ()) -> list[int]:
    sampler = Sampler(sampling, prompt)
    return [sampler.draw(LOGITS) for _ in range(times)]


def test_temperature_zero_takes_the_most_likely_token() -> None:
    assert set(drawn(replace(WARM, temperature=0.0, seed=None))) == {1}


@given(st.integers(-(2**63), 2**63 - 1))
def test_equal_seeds_draw_equal_tokens(seed: int) -> None:
    sampling = replace(WARM, seed=seed)
    assert drawn(sampling, 20) == drawn(sampling, 20)


def test_other_seeds_draw_other_tokens() -> None:
    assert len({tuple(drawn(replace(WARM, seed=seed), 20)) for seed in range(5)}) == 5
    assert drawn(replace(WARM, seed=None), 50) != drawn(replace(WARM, seed=None), 50)


def test_draws_follow_the_softmax() -> None:
    often = torch.bincount(torch.tensor(drawn(WARM, 4000)), minlength=5) / 4000
    assert torch.allclose(often, LOGITS.softmax(-1), atol=0.03)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"top_k": 2}, {1, 3}),
        ({"top_k": 1}, {1}),
        ({"top_p": 0.01}, {1}),
        ({"top_p": 0.85}, {1, 3}),
        ({"top_p": 1.0, "top_k": 0}, {0, 1, 2, 3}),
    ],
)
def test_only_the_kept_tokens_are_drawn(change: dict[str, float], kept: set[int]) -> None:
    assert set(drawn(replace(WARM, **change))) - {4} == kept


def test_penalties_turn_away_from_what_was_said() -> None:
    greedy = replace(WARM, temperature=0.0)
    assert drawn(replace(greedy, presence_penalty=2.0), 4) == [1, 3, 1, 1]
    assert drawn(replace(greedy, frequency_penalty=2.0), 4) == [1, 3, 1, 2]
    assert drawn(replace(greedy, repetition_penalty=2.0), 1, prompt=(1,)) == [3]
    assert LOGITS.tolist() == [0.0, 3.0, 1.0, 2.0, -5.0]
