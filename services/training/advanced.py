"""The settings of a run that no form shows: an editable YAML, kept with the run whole.

One table holds each key with its default, its range and its sentence; the YAML that people edit
is written from it and read back by it, and a key that is not in it is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import yaml

from services.errors import InvalidInput

MAX_YAML_CHARS = 20_000


def _number(default: float, low: float, high: float, says: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "says": says})


def _choice(default: str, allowed: tuple[str, ...], says: str) -> Any:
    return field(default=default, metadata={"allowed": allowed, "says": says})


def _switch(says: str) -> Any:
    return _choice("auto", ("auto", "on", "off"), says)


@dataclass(frozen=True)
class Advanced:
    """What `DpoSpec.advanced` says, checked and complete; each field says what it does."""

    lr_scheduler: str = _choice(
        "linear", ("linear", "cosine", "constant_with_warmup"), "how the learning rate ends"
    )
    warmup_ratio: float = _number(0.1, 0, 1, "share of the steps in which it rises")
    weight_decay: float = _number(0.0, 0, 1, "of AdamW")
    adam_beta1: float = _number(0.9, 0, 0.9999, "of AdamW")
    adam_beta2: float = _number(0.999, 0, 0.999999, "of AdamW")
    adam_epsilon: float = _number(1e-8, 1e-12, 1e-2, "of AdamW")
    max_grad_norm: float = _number(1.0, 0, 1000, "longer gradients are cut to it; 0 cuts none")
    lora_dropout: float = _number(0.0, 0, 0.9, "share of the adapter's inputs left out at random")
    micro_batch_size: int = _number(
        0, 0, 512, "pairs in memory at once, a divisor of batch_size; 0 takes all of them"
    )
    gradient_checkpointing: str = _switch("less memory, slower; auto: large models on a GPU")
    precompute_reference: str = _switch("the base model once per pair; auto: over 1.5 passes")
    packed: str = _choice(
        "auto", ("auto", "off"), "read each prompt once for both answers; off is TRL's own way"
    )
    checkpoints: int = _number(8, 1, 1000, "how many states are saved over the run")
    desirable_weight: float = _number(1.0, 0, 100, "kto: weight of the good answers")
    undesirable_weight: float = _number(1.0, 0, 100, "kto: weight of the bad answers")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Advanced:
        """Settings by name, the others at their defaults.

        Raises:
            InvalidInput: A key is unknown, or a value of the wrong kind or out of range.
        """
        if not isinstance(values, Mapping):
            raise InvalidInput(f"advanced: expected settings by name, found {values!r}")
        known = {one.name: one for one in fields(cls)}
        if unknown := [str(name) for name in values if name not in known]:
            raise InvalidInput(
                f"advanced: unknown key {sorted(unknown)[0]!r}; known keys are "
                f"{', '.join(sorted(known))}"
            ).because("unknown_setting", found=sorted(unknown)[0], allowed=sorted(known))
        return cls(**{name: _checked(known[name], value) for name, value in values.items()})

    @classmethod
    def from_yaml(cls, text: str) -> Advanced:
        """Settings from what a person wrote; nothing at all means the defaults.

        Raises:
            InvalidInput: It is no YAML, says a key twice, or `from_json` refuses it.
        """
        if len(text) > MAX_YAML_CHARS:
            raise InvalidInput(
                f"advanced: expected at most {MAX_YAML_CHARS} characters, found {len(text)}"
            ).because("too_long", field="advanced", most=MAX_YAML_CHARS, found=len(text))
        try:
            found = yaml.load(text, _Loader)  # noqa: S506 - the loader is a safe one
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"line {mark.line + 1}: " if mark else ""
            what = getattr(error, "problem", None) or "something else"
            raise InvalidInput(f"advanced, {where}expected YAML, found {what}") from error
        if found is None:
            return cls()
        if not isinstance(found, dict):
            raise InvalidInput(
                f"advanced: expected lines of the form key: value, found {found!r}"
            ).because("key_value_lines")
        return cls.from_json(found)

    def as_json(self) -> dict[str, Any]:
        """Every setting by name."""
        return asdict(self)

    def changes(self) -> dict[str, Any]:
        """The settings that are not at their defaults."""
        plain = Advanced().as_json()
        return {name: value for name, value in self.as_json().items() if value != plain[name]}

    def as_yaml(self) -> str:
        """The YAML that people edit: every key with what it does; `from_yaml` reads it back."""
        lines = []
        for one in fields(self):
            allowed = one.metadata.get("allowed")
            choice = f" ({', '.join(allowed)})" if allowed else ""
            lines.append(f"{one.name}: {getattr(self, one.name)}  # {one.metadata['says']}{choice}")
        return "\n".join(lines) + "\n"


class _Loader(yaml.SafeLoader):
    """Refuses a key that is said twice, which YAML would let the last one win."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=deep)
            if name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {name!r} twice", problem_mark=key.start_mark
                )
            seen.add(name)
        return dict(super().construct_mapping(node, deep))


def _checked(one: Any, value: Any) -> Any:
    allowed = one.metadata.get("allowed")
    if allowed is not None:
        word = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
        if word not in allowed:
            raise InvalidInput(
                f"{one.name}: expected one of {', '.join(allowed)}, found {value!r}"
            ).because("one_of", field=one.name, allowed=list(allowed), found=value)
        return word
    whole = isinstance(one.default, int)
    if isinstance(value, str):  # YAML 1.1 reads 1e-8 as text
        value = _parsed(value)
    low, high = one.metadata["low"], one.metadata["high"]
    fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not fits or not math.isfinite(value) or not low <= value <= high:
        what = "a whole number" if whole else "a number"
        raise InvalidInput(
            f"{one.name}: expected {what} from {low} to {high}, found {value!r}"
        ).because("range", field=one.name, low=low, high=high, found=value)
    return value if whole else float(value)


def _parsed(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text
