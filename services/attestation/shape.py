"""The exact form of a receipt's statement: every field, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.attestation.strict import exact_keys
from services.attestation.words import Refused

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://param-console.dev/inference-receipt/v1"


_Check = Callable[[Any], None]


@dataclass(frozen=True)
class _Text:
    """A string that fits a pattern; else `reason` says what was expected."""

    pattern: str
    reason: str
    words: str = ""

    def at(self, where: str) -> _Check:
        fits = re.compile(self.pattern).fullmatch

        def check(value: Any) -> None:
            if not isinstance(value, str) or not fits(value):
                raise Refused(f"form.{self.reason}", f"receipt: {where}", words=self.words)

        return check


@dataclass(frozen=True)
class _Maybe:
    """Null or something else."""

    shape: Any


def _word(*words: str) -> _Text:
    """One of these and nothing else."""
    return _Text("|".join(re.escape(word) for word in words), "word", ", ".join(words))


_NAME = _Text(r"[^\x00-\x1f\x7f]{1,256}", "name")
_REASON = _Text(r"[^\x00-\x1f\x7f]{0,64}", "reason")
_HEX = _Text(r"[0-9a-f]{64}", "hex")
_HEX_OR_NONE = _Text(r"(?:[0-9a-f]{64})?", "hex_or_none")
_NUMBER = _Text(r"0|[1-9][0-9]{0,17}", "number")
_TIME = _Text(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z",
    "time",
)

_STATEMENT: dict[str, Any] = {
    "_type": _word(STATEMENT_TYPE),
    "subject": [{"name": _word("response"), "digest": {"sha256": _HEX}}],
    "predicateType": _word(PREDICATE_TYPE),
    "predicate": {
        "receiptId": _NAME,
        "requestId": _NAME,
        "issuer": _NAME,
        "tenant": _NAME,
        "actor": _NAME,
        "request": {"commitment": _HEX},
        "response": {"commitment": _HEX, "finishReason": _REASON, "stream": bool, "partial": bool},
        "model": {
            "alias": _NAME,
            "served": _NAME,
            "base": {"name": _NAME, "digest": {"sha256": _HEX_OR_NONE}},
            "adapter": _Maybe({"name": _NAME, "digest": {"sha256": _HEX}}),
        },
        "rollout": {
            "id": _Maybe(_NAME),
            "arm": _word("stable", "canary", "pinned", "fallback"),
            "percent": _Text("100|[1-9]?[0-9]", "percent"),
        },
        "usage": {"promptTokens": _NUMBER, "completionTokens": _NUMBER},
        "cost": {
            "micro": _NUMBER,
            "currency": _Text("[A-Z]{3}", "currency"),
            "priceVersion": _NAME,
        },
        "guardrails": {
            "policyVersion": _NUMBER,
            "policyDigest": {"sha256": _HEX},
            "findings": _NUMBER,
        },
        "audit": {"seq": _NUMBER, "leafHash": _HEX},
        "time": {"received": _TIME, "completed": _TIME},
    },
}


def _built(shape: Any, where: str) -> _Check:
    """What checks a value against a shape; built once, since each receipt has fifty fields."""
    if isinstance(shape, _Text):
        return shape.at(where)
    if isinstance(shape, _Maybe):
        inner = _built(shape.shape, where)
        return lambda value: None if value is None else inner(value)
    if isinstance(shape, dict):
        return _object(shape, where)
    return _one(shape[0], where) if isinstance(shape, list) else _true_or_false(where)


def _object(shape: dict[str, Any], where: str) -> _Check:
    keys, name = tuple(shape), f"receipt: {where or 'statement'}"
    known = frozenset(shape)
    fields = [(key, _built(shape[key], f"{where}.{key}" if where else key)) for key in shape]

    def check(value: Any) -> None:
        if not isinstance(value, dict) or value.keys() != known:
            exact_keys(value, keys, name)  # says what is wrong
        for key, inner in fields:
            inner(value[key])

    return check


def _one(shape: Any, where: str) -> _Check:
    inner = _built(shape, f"{where}[0]")

    def check(value: Any) -> None:
        if not isinstance(value, list) or len(value) != 1:
            raise Refused("form.one", f"receipt: {where}")
        inner(value[0])

    return check


def _true_or_false(where: str) -> _Check:
    def check(value: Any) -> None:
        if not isinstance(value, bool):
            raise Refused("form.flag", f"receipt: {where}")

    return check


_check_statement = _built(_STATEMENT, "")


def check_statement(found: Any) -> None:
    """Pass over what is exactly a receipt's statement.

    Raises:
        VerificationFailed: A field is missing, one too many, or of another kind; the message
            names the first.
    """
    _check_statement(found)
