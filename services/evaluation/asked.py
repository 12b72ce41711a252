"""Checks what an evaluation is asked for, before anything is queued."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from services.errors import InvalidInput
from services.evaluation.heldout import distinct_prompts, read_held_out
from services.evaluation.models import Messages
from services.evaluation.prompts import demo_questions
from services.registry.models import Adapter

DEFAULT_BETA = 0.1
MAX_PROMPTS = 300
DEFAULT_PROMPTS = 10
"""How many prompts are answered where none were named."""
MAX_NEW_TOKENS = 64
"""Longest answer, tokens: long enough to see a loop."""
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


def sizes_of(prompts: Iterable[Messages]) -> list[int]:
    """The size of each prompt, bytes."""
    return [sum(len(turn["content"].encode()) for turn in prompt) for prompt in prompts]


def prompt_sizes(eval_file: Path) -> list[int]:
    """The sizes of the prompts that are asked where none are named, bytes.

    Raises:
        InvalidInput: The file is not one of held-out pairs.
    """
    pairs, _seen = read_held_out(eval_file, [])
    own = distinct_prompts(pairs, DEFAULT_PROMPTS)
    return sizes_of([*own, *demo_questions()][:DEFAULT_PROMPTS])


def refuse_unless_amount(cap_micro: int) -> None:
    """Refuse a cap on the judge's cost that is no amount of money.

    Raises:
        InvalidInput: It is none.
    """
    if isinstance(cap_micro, bool) or not 0 < cap_micro <= 10**12:
        raise InvalidInput(
            f"judge's cap: expected more than 0 and at most 1000000 USD, found {cap_micro / 1e6:g}"
        )


def as_beta(adapter: Adapter, asked: float | None) -> float:
    """The beta of the implicit reward: as asked, else as the adapter was trained.

    Raises:
        InvalidInput: It is no number above 0.
    """
    beta = float(adapter.parameters.get("beta", DEFAULT_BETA)) if asked is None else float(asked)
    if not (math.isfinite(beta) and beta > 0):
        raise InvalidInput(f"beta: expected a number above 0, found {beta}")
    return beta
