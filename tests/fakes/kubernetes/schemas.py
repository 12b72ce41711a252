"""What an API server does with a structural schema: prune, default, validate.

Validation is the `jsonschema` library's; the product has a checker of its own, so the two hold
each other.
"""

from __future__ import annotations

import copy
from typing import Any

from jsonschema import Draft202012Validator

OPEN = ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource")


def prune(value: Any, schema: dict[str, Any], path: str = "") -> tuple[Any, list[str]]:
    """The value without what the schema does not know, and the paths of what was dropped."""
    if isinstance(value, list) and "items" in schema:
        kept, dropped = [], []
        for number, item in enumerate(value):
            one, gone = prune(item, schema["items"], f"{path}[{number}]")
            kept.append(one)
            dropped += gone
        return kept, dropped
    if not isinstance(value, dict):
        return value, []
    properties, further = schema.get("properties", {}), schema.get("additionalProperties")
    kept_object: dict[str, Any] = {}
    dropped = []
    for name, item in value.items():
        here = f"{path}.{name}" if path else name
        if not path and name in {"metadata", "apiVersion", "kind"}:
            kept_object[name] = item
        elif name in properties:
            kept_object[name], gone = prune(item, properties[name], here)
            dropped += gone
        elif isinstance(further, dict):
            kept_object[name], gone = prune(item, further, here)
            dropped += gone
        elif further is True or any(schema.get(mark) for mark in OPEN):
            kept_object[name] = item
        else:
            dropped.append(here)
    return kept_object, dropped


def with_defaults(value: Any, schema: dict[str, Any]) -> Any:
    """The value with the schema's defaults filled in."""
    if isinstance(value, list) and "items" in schema:
        return [with_defaults(item, schema["items"]) for item in value]
    if not isinstance(value, dict):
        return value
    result = dict(value)
    for name, inner in schema.get("properties", {}).items():
        if name not in result and "default" in inner:
            result[name] = copy.deepcopy(inner["default"])
        if name in result:
            result[name] = with_defaults(result[name], inner)
    if isinstance(further := schema.get("additionalProperties"), dict):
        for name in set(result) - set(schema.get("properties", {})):
            result[name] = with_defaults(result[name], further)
    return result


def problems(value: Any, schema: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What is wrong with a pruned value: path, reason, message, as a `Status` names them."""
    found = []
    for error in Draft202012Validator(schema).iter_errors(value):
        if _is_null_of_nullable(error):
            continue
        path = _path(error.absolute_path)
        if error.validator == "required":
            missing = next(name for name in error.validator_value if name not in error.instance)
            path = f"{path}.{missing}".lstrip(".")
            found.append((path, "FieldValueRequired", f"{path}: Required value"))
            continue
        shown = f"{path}: Invalid value: {error.instance!r}: {path} in body {_words(error)}"
        found.append((path, "FieldValueInvalid", shown))
    return sorted(found)


def _is_null_of_nullable(error: Any) -> bool:
    return error.instance is None and error.schema.get("nullable", False)


def _words(error: Any) -> str:
    match error.validator:
        case "maximum":
            return f"should be less than or equal to {error.validator_value}"
        case "minimum":
            return f"should be greater than or equal to {error.validator_value}"
        case "type":
            return f"must be of type {error.validator_value}"
        case "pattern":
            return f"should match '{error.validator_value}'"
        case _:
            return str(error.message)


def _path(parts: Any) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")
