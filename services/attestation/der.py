"""As much of an RFC 3161 response as can be told without certificates: its digest and its time.

The static page reads the same, line for line (`static/source/log.js`): evidence without roots must
be judged alike by every verifier, and libraries differ in what they let pass in the parts that
nobody looks at without a root.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from services.attestation.jwks import parse_time
from services.attestation.words import Refused
from services.errors import VerificationFailed

MOST_DEPTH = 32
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_TST_INFO = bytes.fromhex("2a864886f70d0109100104")
_SHA256 = bytes.fromhex("608648016503040201")
_TIME = re.compile(
    rb"([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})(?:\.([0-9]*[1-9]))?Z"
)
_SEQUENCE, _SET, _INTEGER, _OCTETS, _NAME, _MOMENT, _FIRST = (
    0x30,
    0x31,
    0x02,
    0x04,
    0x06,
    0x18,
    0xA0,
)


@dataclass(frozen=True)
class Element:
    """One element of DER.

    Attributes:
        end: Where it ends in the bytes it was read from.
        parts: What is in it, where it is constructed.
    """

    tag: int
    body: bytes
    end: int
    parts: list[Element] = field(default_factory=list)

    def part(self, place: int, tag: int) -> Element:
        """One of its parts, if it has this tag."""
        if not -len(self.parts) <= place < len(self.parts) or self.parts[place].tag != tag:
            raise _none()
        return self.parts[place]

    def expect(self, body: bytes) -> None:
        """Pass over exactly this content."""
        if self.body != body:
            raise _none()


def read(data: bytes, at: int = 0, end: int | None = None, depth: int = 0) -> Element:
    """The element that begins here, in its one form, and everything in it.

    Raises:
        VerificationFailed: There is none.
    """
    end = len(data) if end is None else end
    if end - at < 2 or data[at] & 0x1F == 0x1F or depth > MOST_DEPTH:
        raise _none()
    length, begin = _length(data, at + 1, end)
    if begin + length > end:
        raise _none()
    parts: list[Element] = []
    if data[at] & 0x20:
        place = begin
        while place < begin + length:
            parts.append(read(data, place, begin + length, depth + 1))
            place = parts[-1].end
    return Element(data[at], data[begin : begin + length], begin + length, parts)


def stamped_at(response: bytes, imprint: bytes) -> datetime:
    """The time that a response gives a digest; nothing of its signature is looked at.

    Args:
        response: TimeStampResp in DER.
        imprint: The SHA-256 that was stamped.

    Raises:
        VerificationFailed: It is no such response, was not granted, or is about something else.
    """
    whole = read(response)
    if whole.tag != _SEQUENCE or whole.end != len(response) or len(whole.parts) > 2:
        raise _none()
    is_granted = whole.part(0, _SEQUENCE).part(0, _INTEGER).body == b"\0"
    if len(whole.parts) == 1:
        raise _none() if is_granted else _refusal()
    info = _info(whole.part(1, _SEQUENCE))
    digest = info.part(2, _SEQUENCE)
    algorithm = digest.part(0, _SEQUENCE).part(0, _NAME)
    said_at = _time(info.part(4, _MOMENT).body)
    if not is_granted:
        raise _refusal()
    if algorithm.body != _SHA256 or digest.part(1, _OCTETS).body != imprint:
        raise Refused("stamp.other", "time stamp")
    return said_at


def _info(token: Element) -> Element:
    """What was stamped, out of the signed message around it."""
    token.part(0, _NAME).expect(_SIGNED_DATA)
    signed = token.part(1, _FIRST).part(0, _SEQUENCE)
    content = signed.part(2, _SEQUENCE)
    signed.part(0, _INTEGER)
    signed.part(1, _SET)
    signed.part(-1, _SET)
    content.part(0, _NAME).expect(_TST_INFO)
    info = read(content.part(1, _FIRST).part(0, _OCTETS).body)
    if info.tag != _SEQUENCE:
        raise _none()
    info.part(0, _INTEGER).expect(b"\x01")
    info.part(1, _NAME)
    info.part(3, _INTEGER)
    return info


def _length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """How long an element's content is, and where it begins."""
    first = data[at]
    if not first & 0x80:
        return first, at + 1
    count = first & 0x7F
    if not 1 <= count <= 3 or at + 1 + count > end or data[at + 1] == 0:
        raise _none()
    length = int.from_bytes(data[at + 1 : at + 1 + count], "big")
    if length < 0x80:
        raise _none()
    return length, at + 1 + count


def _time(text: bytes) -> datetime:
    found = _TIME.fullmatch(text)
    if found is None:
        raise _none()
    year, month, day, hour, minute, second = (found[place].decode() for place in range(1, 7))
    micro = (found[7] or b"").decode().ljust(6, "0")[:6]
    try:
        return parse_time(f"{year}-{month}-{day}T{hour}:{minute}:{second}.{micro}Z", "")
    except VerificationFailed as error:
        raise _none() from error


def _none() -> Refused:
    return Refused("stamp.der", "time stamp")


def _refusal() -> Refused:
    return Refused("stamp.refusal", "time stamp")
