"""Which prompts train and which are held out: never two that are nearly the same apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

TRAIN, EVAL = "train", "eval"


def share(seed: int, prompt_key: str) -> float:
    """Where a prompt falls, from 0 to below 1: below the eval fraction it is held out.

    It depends on nothing but the prompt and the seed, so a prompt stays on its side when others
    come or go.
    """
    digest = hashlib.sha256(f"param.split.v1|{seed}|{prompt_key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True, slots=True)
class PlacedPrompt:
    """A prompt of the set.

    Attributes:
        key: A `text.prompt_key`.
        bound: The part that its file bound it to, if any.
        cluster: The same number for prompts that are nearly the same.
    """

    key: str
    bound: str | None
    cluster: int


def sides(prompts: Sequence[PlacedPrompt], *, eval_fraction: float, seed: int) -> list[str]:
    """The part of each prompt: `train` or `eval`, shape (len(prompts),).

    A cluster falls where its first prompt does, or where one of its prompts is bound. Bound
    prompts stay where they are bound even if that tears a cluster; its free ones then train.
    Where chance left one part without any prompt, the cluster that is nearest to it changes sides.

    Args:
        prompts: In order of arrival.
    """
    bound: dict[int, set[str]] = {}
    places: dict[int, float] = {}
    for prompt in prompts:
        places.setdefault(prompt.cluster, share(seed, prompt.key))
        if prompt.bound:
            bound.setdefault(prompt.cluster, set()).add(prompt.bound)
    part_of = {
        cluster: EVAL if place < eval_fraction else TRAIN for cluster, place in places.items()
    }
    part_of |= {cluster: TRAIN if TRAIN in parts else EVAL for cluster, parts in bound.items()}
    used = {prompt.bound or part_of[prompt.cluster] for prompt in prompts}
    free = sorted((place, cluster) for cluster, place in places.items() if cluster not in bound)
    if len(used) == 1 and len(places) > 1 and free and eval_fraction > 0:
        moved, part = (free[0], EVAL) if used == {TRAIN} else (free[-1], TRAIN)
        part_of[moved[1]] = part
    return [prompt.bound or part_of[prompt.cluster] for prompt in prompts]


def overlapping(prompts: Sequence[PlacedPrompt], parts: Sequence[str]) -> set[int]:
    """Indices of the held-out prompts that are nearly the same as one that trains."""
    trained = {prompt.cluster for prompt, part in zip(prompts, parts, strict=True) if part == TRAIN}
    return {
        index
        for index, (prompt, part) in enumerate(zip(prompts, parts, strict=True))
        if part == EVAL and prompt.cluster in trained
    }
