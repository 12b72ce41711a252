"""What somebody chooses when a data set is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from services.errors import InvalidInput
from services.preferences.exports import Form, Shape
from services.preferences.gates.models import Rules, rules_from


@dataclass(frozen=True)
class Choices:
    """What goes into a data set, how it is split, and how it is written.

    Attributes:
        include_unreviewed: Take pairs that nobody decided on, with the preference that they were
            imported with; the manifest names them.
        eval_fraction: Share of the prompts that is held out, from 0 up to but not including 1.
        seed: Another seed holds other prompts out.
    """

    include_unreviewed: bool = False
    eval_fraction: float = 0.1
    seed: int = 0
    rules: Rules = field(default_factory=Rules)
    form: Form = field(default_factory=Form)

    def __post_init__(self) -> None:
        """Refuse a fraction that leaves nothing to train on.

        Raises:
            InvalidInput: The fraction is out of range.
        """
        if not 0 <= self.eval_fraction < 1:
            raise InvalidInput(
                f"eval_fraction: expected from 0 to below 1, found {self.eval_fraction}"
            ).because("fraction", field="eval_fraction", found=self.eval_fraction)


def choices_as_json(choices: Choices) -> dict[str, Any]:
    """As a job's payload holds the choices; `choices_from` reads them back."""
    return {
        "include_unreviewed": choices.include_unreviewed,
        "eval_fraction": choices.eval_fraction,
        "seed": choices.seed,
        "rules": choices.rules.as_json(),
        "shape": choices.form.shape.value,
        "also": list(choices.form.also),
    }


def choices_from(content: dict[str, Any]) -> Choices:
    """The choices that `choices_as_json` wrote."""
    return Choices(
        include_unreviewed=content["include_unreviewed"],
        eval_fraction=content["eval_fraction"],
        seed=content["seed"],
        rules=rules_from(content["rules"]),
        form=Form(Shape(content["shape"]), tuple(content["also"])),
    )
