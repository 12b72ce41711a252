"""Reading evidence strictly: one meaning for each byte, or a refusal."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, NoReturn

import orjson

from services.errors import VerificationFailed

MAX_BYTES = 256 * 1024


def read_json(data: bytes, what: str, *, most: int = MAX_BYTES) -> Any:
    """The JSON in these bytes, if it can be read in one way only.

    Args:
        what: How the error calls it.
        most: Bytes that are read, 256 KiB unless told.

    Raises:
        VerificationFailed: It is no JSON in UTF-8, is larger than it may be or nested beyond
            reason, names a key twice, holds half a surrogate pair, or a number that is not whole
            or needs more than 53 bits.
    """
    if len(data) > most:
        raise VerificationFailed(f"{what}: expected at most {most} bytes, found {len(data)}")
    try:
        found = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_no_key_twice,
            parse_int=_whole,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
        if b"\\u" in data:
            orjson.loads(data)  # refuses half a surrogate pair, which `json` lets pass
        return found
    except (ValueError, RecursionError) as error:
        raise VerificationFailed(f"{what}: expected strict JSON, found {error}") from error


def exact_keys(value: Any, keys: Sequence[str], what: str) -> dict[str, Any]:
    """The object itself, if it has these keys and no others.

    Raises:
        VerificationFailed: It is no object, lacks a key or has one more.
    """
    if not isinstance(value, dict):
        raise VerificationFailed(f"{what}: expected an object, found {type(value).__name__}")
    if len(value) == len(keys) and all(key in value for key in keys):
        return value
    if missing := sorted(set(keys) - set(value)):
        raise VerificationFailed(f"{what}: expected the field {missing[0]!r}, found none")
    extra = min(str(key)[:40] for key in set(value) - set(keys))
    raise VerificationFailed(f"{what}: expected only {', '.join(keys)}, found {extra!r}")


def from_base64(value: Any, what: str, *, url_safe: bool = False) -> bytes:
    """The bytes, if this is the one way to write them.

    Args:
        url_safe: Base64url without padding instead of standard base64 with it.

    Raises:
        VerificationFailed: It is not base64, or has stray bits or padding.
    """
    if not isinstance(value, str) or not value.isascii():
        raise VerificationFailed(f"{what}: expected base64 text, found {type(value).__name__}")
    try:
        if url_safe:
            data = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
        else:
            data = base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise VerificationFailed(f"{what}: expected base64, found {error}") from error
    if (to_base64url(data) if url_safe else base64.b64encode(data).decode()) != value:
        raise VerificationFailed(f"{what}: expected base64 in its one form, found stray bits")
    return data


def to_base64url(data: bytes) -> str:
    """Base64url without padding, as JWK writes it."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _value in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:40]!r} twice")
    return found


def _whole(text: str) -> int:
    if len(text) > 17 or text == "-0" or abs(int(text)) >= 2**53:
        raise ValueError(f"the number {text[:40]}, which not every reader reads alike")
    return int(text)


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"the number {text[:40]}, which is not whole")
