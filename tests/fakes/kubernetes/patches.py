"""JSON Patch (RFC 6902) and merge patch (RFC 7386), as an API server applies them."""

from __future__ import annotations

import copy
from typing import Any


class PatchRefused(Exception):
    """The patch is well-formed but does not fit the object."""


class PatchBroken(Exception):
    """The patch is not one."""


def merge_patch(target: Any, patch: Any) -> Any:
    """A new document; lists are replaced whole, null removes."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def json_patch(target: Any, operations: Any) -> Any:
    """A new document with all operations applied, or none."""
    if not isinstance(operations, list):
        raise PatchBroken("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    document = {"": copy.deepcopy(target)}
    for operation in operations:
        _apply(document, operation)
    return document[""]


def _apply(document: dict[str, Any], operation: dict[str, Any]) -> None:
    match operation:
        case {"op": "test", "path": path, "value": value}:
            parent, key = _walk(document, path, "test")
            if _get(parent, key, path) != value:
                raise PatchRefused(f"testing value {path} failed: test failed")
        case {"op": "add", "path": path, "value": value}:
            parent, key = _walk(document, path, "add")
            _add(parent, key, copy.deepcopy(value), path)
        case {"op": "replace", "path": path, "value": value}:
            parent, key = _walk(document, path, "replace")
            _get(parent, key, path)
            parent[_index(parent, key, path)] = copy.deepcopy(value)
        case {"op": "remove", "path": path}:
            parent, key = _walk(document, path, "remove")
            _get(parent, key, path)
            del parent[_index(parent, key, path)]
        case _:
            raise PatchBroken(f"Unexpected kind: {operation.get('op')!r}")


def _walk(document: dict[str, Any], path: str, what: str) -> tuple[Any, str]:
    if path and not path.startswith("/"):
        raise PatchBroken(f"path {path!r} does not begin with /")
    parts = [one.replace("~1", "/").replace("~0", "~") for one in path.split("/")]
    parent: Any = document
    for part in parts[:-1]:
        try:
            parent = parent[_index(parent, part, path)]
        except (KeyError, IndexError, TypeError) as error:
            raise PatchRefused(
                f"{what} operation does not apply: doc is missing path: {path!r}: missing value"
            ) from error
    return parent, parts[-1]


def _index(parent: Any, key: str, path: str) -> Any:
    if not isinstance(parent, list):
        return key
    if not key.isdigit():
        raise PatchRefused(f"operation does not apply: {path!r}: invalid index {key!r}")
    return int(key)


def _get(parent: Any, key: str, path: str) -> Any:
    try:
        return parent[_index(parent, key, path)]
    except (KeyError, IndexError, TypeError) as error:
        raise PatchRefused(
            f"operation does not apply: doc is missing key: {path}: missing value"
        ) from error


def _add(parent: Any, key: str, value: Any, path: str) -> None:
    if isinstance(parent, dict):
        parent[key] = value
    elif isinstance(parent, list):
        at = len(parent) if key == "-" else _index(parent, key, path)
        if at > len(parent):
            raise PatchRefused(f"operation does not apply: {path!r}: invalid index {key!r}")
        parent.insert(at, value)
    else:
        raise PatchRefused(f"add operation does not apply: doc is missing path: {path!r}")
