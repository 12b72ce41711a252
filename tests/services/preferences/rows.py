"""Rows, files and people for tests of pairs."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any, BinaryIO

from services.tenants.models import Actor, Role


def person(name: str, role: Role, tenant_id: str = "acme") -> Actor:
    return Actor(kind="user", id=f"user-{name}", name=name, grants={tenant_id: frozenset({role})})


ENGINEER = person("Ece", Role.ENGINEER)
ANNOTATOR = person("Ali", Role.ANNOTATOR)
MANAGER = person("Mia", Role.MANAGER)
STRANGER = person("Sam", Role.ENGINEER, "globex")


def trl(number: int, **changes: Any) -> dict[str, Any]:
    row = {"prompt": f"What is {number} + 1?", "chosen": f"{number + 1}.", "rejected": "Blue."}
    return {**row, **changes}


def jsonl(*rows: Any) -> BinaryIO:
    return io.BytesIO(b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def pairs_file(count: int) -> BinaryIO:
    return jsonl(*(trl(number) for number in range(count)))


def lines(path: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def unpacked(messages: Iterable[dict[str, str]]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages]
