"""The small forms that a proof bundle is made of, each read strictly."""

from __future__ import annotations

import re
from typing import Any

from services.attestation.strict import exact_keys, from_base64, read_json
from services.attestation.words import Refused

ENTRY_FIELDS = (
    "action", "actor_id", "actor_name", "at", "details", "seq", "subject", "tenant_id",
)  # fmt: skip
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")


def read_entry(data: bytes, what: str) -> dict[str, Any]:
    """The fields of a log entry.

    Raises:
        VerificationFailed: It is none.
    """
    return exact_keys(read_json(data, what), ENTRY_FIELDS, what)


def number(value: Any, what: str) -> int:
    """A whole number as bundles write it: a decimal string.

    Raises:
        VerificationFailed: It is something else.
    """
    if not isinstance(value, str) or not _NUMBER.fullmatch(value) or int(value) >= 2**53:
        raise Refused("number", f"proof bundle: {what}")
    return int(value)


def path_of(value: Any) -> list[bytes]:
    """The hashes of a proof, each 32 bytes in base64.

    Raises:
        VerificationFailed: It is something else.
    """
    if not isinstance(value, list) or len(value) > 64:
        raise Refused("list", "proof bundle: path", least=0, most=64)
    path = [from_base64(node, "proof bundle: path") for node in value]
    if any(len(node) != 32 for node in path):
        raise Refused("hash", "proof bundle: path")
    return path


def short_text(value: Any, what: str) -> str:
    """A text that is no longer than anything here needs to be.

    Raises:
        VerificationFailed: It is something else.
    """
    if not isinstance(value, str) or len(value) > 16384:
        raise Refused("text", f"proof bundle: {what}")
    return value
