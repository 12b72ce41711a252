"""Prices as a JSON file says them, which is how `param cost prices --json` prints them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from services.errors import InvalidInput
from services.metering.models import Price

_AMOUNTS = tuple(field.name for field in fields(Price))


def read_prices(raw: bytes) -> dict[str, Price]:
    """The prices of a file, by pattern; `Metering.add_prices` looks at patterns and numbers.

    Either the prices alone or a whole table that holds them under `prices`:

        {"*": {"prompt_micro_per_mtok": 100000, "completion_micro_per_mtok": 400000}}

    Raises:
        InvalidInput: It is no JSON, names a pattern twice, or a price lacks an amount or has
            another one.
    """
    try:
        document = json.loads(raw, object_pairs_hook=_once)
    except ValueError as error:
        raise InvalidInput(f"prices: expected JSON, found {error}") from error
    found = _object("prices", document)
    if "*" not in found and "prices" in found:
        found = _object("prices", found["prices"])
    return {pattern: _price(pattern, price) for pattern, price in found.items()}


def _price(pattern: str, given: Any) -> Price:
    what = f"price of {pattern[:80]!r}"
    amounts = _object(what, given)
    if set(amounts) != set(_AMOUNTS):
        raise InvalidInput(
            f"{what}: expected {' and '.join(_AMOUNTS)}, found {', '.join(amounts)[:200] or 'none'}"
        )
    return Price(**amounts)


def _object(what: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise InvalidInput(f"{what}: expected an object, found {type(given).__name__}")
    return given


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _value in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"prices: expected each name once, found {twice[:80]!r} again")
    return found
