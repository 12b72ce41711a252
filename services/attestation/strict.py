"""Reading evidence strictly: one meaning for each byte, or a refusal."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import orjson

from services.attestation.words import Refused, shown

MAX_BYTES = 256 * 1024
MOST_DEPTH = 64
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)


def read_json(data: bytes, what: str, *, most: int = MAX_BYTES) -> Any:
    """The JSON in these bytes, if it can be read in one way only.

    Args:
        what: How the error calls it.
        most: Bytes that are read, 256 KiB unless told.

    Raises:
        VerificationFailed: It is no JSON in UTF-8, is larger or nested deeper than it may be,
            names a key twice, holds half a surrogate pair, or a number that is not whole or needs
            more than 53 bits.
    """
    if len(data) > most:
        raise Refused("json.size", what, most=most, found=len(data))
    try:
        text = data.decode("utf-8")
        _refuse_deep(data)
        found = json.loads(
            text,
            object_pairs_hook=_no_key_twice,
            parse_int=_whole,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except Refused as error:
        raise error.within(what) from error
    except UnicodeDecodeError as error:
        raise Refused("json.utf8", what) from error
    except ValueError as error:
        raise Refused("json.syntax", what) from error
    if b"\\u" in data:
        _refuse_half_pairs(data, what)
    return found


def exact_keys(value: Any, keys: Sequence[str], what: str) -> dict[str, Any]:
    """The object itself, if it has these keys and no others.

    Raises:
        VerificationFailed: It is no object, lacks a key or has one more.
    """
    if not isinstance(value, dict):
        raise Refused("object", what)
    if len(value) == len(keys) and all(key in value for key in keys):
        return value
    if missing := sorted(set(keys) - set(value)):
        raise Refused("field.missing", what, field=missing[0])
    extra = min(shown(key) for key in set(value) - set(keys))
    raise Refused("field.extra", what, field=extra)


def from_base64(value: Any, what: str, *, url_safe: bool = False) -> bytes:
    """The bytes, if this is the one way to write them.

    Args:
        url_safe: Base64url without padding instead of standard base64 with it.

    Raises:
        VerificationFailed: It is not base64, or has stray bits or padding.
    """
    if not isinstance(value, str) or not value.isascii():
        raise Refused("base64", what)
    try:
        if url_safe:
            data = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
        else:
            data = base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise Refused("base64", what) from error
    if (to_base64url(data) if url_safe else base64.b64encode(data).decode()) != value:
        raise Refused("base64", what)
    return data


def to_base64url(data: bytes) -> str:
    """Base64url without padding, as JWK writes it."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _refuse_deep(data: bytes) -> None:
    """Look at the brackets alone: how deep a parser itself can go differs by what called it."""
    if data.count(b"[") + data.count(b"{") <= MOST_DEPTH:
        return
    depth = 0
    for bracket in re.findall(rb"[\[\]{}]", _STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MOST_DEPTH:
            raise Refused("json.deep", most=MOST_DEPTH)


def _refuse_half_pairs(data: bytes, what: str) -> None:
    try:
        orjson.loads(data)  # refuses half a surrogate pair, which `json` lets pass
    except orjson.JSONDecodeError as error:
        raise Refused("json.surrogate", what) from error


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _value in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused("json.twice", key=shown(twice))
    return found


def _whole(text: str) -> int:
    if len(text) > 17 or text == "-0" or abs(int(text)) >= 2**53:
        _refuse_number(text)
    return int(text)


def _refuse_number(text: str) -> NoReturn:
    raise Refused("json.number", found=shown(text))
