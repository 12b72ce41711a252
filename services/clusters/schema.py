"""A kind's schema as the cluster publishes it, and what is wrong with an object under it.

It answers before anything is sent what a server answers only under strict field validation, and
what no server answers: whether a field would be dropped in silence because this cluster's version
of the kind does not know it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}
_OPEN = ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource")
_WHOLE = ("apiVersion", "kind", "metadata")
"""Parts of every object that the server checks by its own rules."""


class Schema:
    """The structural schema of one kind in one version.

    Args:
        root: Its `openAPIV3Schema`.
    """

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def knows(self, path: str) -> bool:
        """Whether a field has a place of its own, such as `spec.canary`; lists are walked into."""
        return self._at(path) is not None

    def takes_anything(self, path: str) -> bool:
        """Whether whatever is put there is stored unchecked, typing errors included."""
        node = self._at(path)
        return node is not None and any(node.get(mark) for mark in _OPEN)

    def requires(self, path: str, field: str) -> bool:
        """Whether an object at a path must have a field."""
        node = self._at(path)
        return node is not None and field in node.get("required", ())

    def problems(self, thing: Mapping[str, Any]) -> list[str]:
        """One sentence for each thing the server would refuse or drop; empty if there is none."""
        found: list[str] = []
        for name, value in thing.items():
            if name in _WHOLE:
                continue
            inner = self._root.get("properties", {}).get(name)
            if inner is None:
                found.append(_unknown(name))
            else:
                found += _check(value, inner, name)
        return found

    def _at(self, path: str) -> Mapping[str, Any] | None:
        node: Any = self._root
        for name in path.split("."):
            while node is not None and node.get("type") == "array":
                node = node.get("items")
            if node is None:
                return None
            node = node.get("properties", {}).get(name)
        while node is not None and node.get("type") == "array" and "items" in node:
            node = node["items"]
        return node if isinstance(node, Mapping) else None

    def is_list(self, path: str) -> bool:
        """Whether a field holds a list."""
        *parents, last = path.split(".")
        parent = self._at(".".join(parents)) if parents else self._root
        found = (parent or {}).get("properties", {}).get(last, {})
        return bool(found.get("type") == "array")


def _check(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    if value is None:
        if not schema.get("nullable"):
            yield f"{path}: expected a value, found null"
        return
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield f"{path}: expected a whole number or text, found {type(value).__name__}"
        return
    kind = schema.get("type")
    if isinstance(kind, str) and kind in _TYPES and not _is(value, kind):
        yield f"{path}: expected {kind}, found {type(value).__name__}"
        return
    yield from _bounds(value, schema, path)
    if isinstance(value, Mapping):
        yield from _fields(value, schema, path)
    elif isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from _check(item, schema["items"], f"{path}[{number}]")


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _bounds(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: expected one of {', '.join(map(str, schema['enum']))}, found {value!r}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        if not low <= value <= high:
            yield f"{path}: expected {_range(schema)}, found {value}"
    size = len(value) if isinstance(value, str | list) else 0
    word = "Length" if isinstance(value, str) else "Items"
    if size < schema.get(f"min{word}", 0) or size > schema.get(f"max{word}", size):
        yield f"{path}: expected another length, found {size}"
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: expected text like {schema['pattern']}, found {value!r}"


def _range(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"


def _fields(value: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[str]:
    for name in schema.get("required", ()):
        if name not in value and "default" not in schema.get("properties", {}).get(name, {}):
            yield f"{path}.{name}: expected a value, found none"
    known, further = schema.get("properties", {}), schema.get("additionalProperties")
    is_open = further is True or any(schema.get(mark) for mark in _OPEN)
    for name, item in value.items():
        here = f"{path}.{name}"
        if name in known:
            yield from _check(item, known[name], here)
        elif isinstance(further, Mapping):
            yield from _check(item, further, here)
        elif not is_open and not (path.endswith("metadata") and not known):
            yield _unknown(here)


def _unknown(path: str) -> str:
    return f"{path}: this cluster does not know the field and would drop it without a word"
