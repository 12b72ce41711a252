"""Checks what an evaluation is asked for, before anything is queued."""

from __future__ import annotations

import math
from collections.abc import Sequence

from services.errors import InvalidInput
from services.evaluation.models import Messages
from services.registry.models import Adapter

DEFAULT_BETA = 0.1
MAX_PROMPTS = 300
MAX_PROMPT_CHARS = 20_000


def as_messages(prompts: Sequence[str]) -> list[Messages]:
    """Questions as prompts of one user turn each.

    Raises:
        InvalidInput: Too many, or one is empty or too long.
    """
    if len(prompts) > MAX_PROMPTS:
        raise InvalidInput(f"expected at most {MAX_PROMPTS} prompts, found {len(prompts)}")
    for number, prompt in enumerate(prompts, start=1):
        if not 0 < len(prompt.strip()) <= MAX_PROMPT_CHARS:
            raise InvalidInput(
                f"prompt {number}: expected 1 to {MAX_PROMPT_CHARS} characters, "
                f"found {len(prompt.strip())}"
            )
    return [({"role": "user", "content": prompt.strip()},) for prompt in prompts]


def as_references(
    references: Sequence[str | None], prompts: Sequence[Messages] | None
) -> list[str | None]:
    """What good answers say, one for each prompt.

    Raises:
        InvalidInput: Not as many as prompts, or one is empty or too long.
    """
    n_prompts = 0 if prompts is None else len(prompts)
    if len(references) != n_prompts:
        raise InvalidInput(
            f"expected a reference, or none, for each of {n_prompts} prompts, "
            f"found {len(references)}"
        )
    for number, reference in enumerate(references, start=1):
        if reference is not None and not 0 < len(reference.strip()) <= MAX_PROMPT_CHARS:
            raise InvalidInput(
                f"reference {number}: expected 1 to {MAX_PROMPT_CHARS} characters, "
                f"found {len(reference.strip())}"
            )
    return [None if reference is None else reference.strip() for reference in references]


def as_beta(adapter: Adapter, asked: float | None) -> float:
    """The beta of the implicit reward: as asked, else as the adapter was trained.

    Raises:
        InvalidInput: It is no number above 0.
    """
    beta = float(adapter.parameters.get("beta", DEFAULT_BETA)) if asked is None else float(asked)
    if not (math.isfinite(beta) and beta > 0):
        raise InvalidInput(f"beta: expected a number above 0, found {beta}")
    return beta
