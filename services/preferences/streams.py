"""Files as they arrive: unpacked, counted, limited, and cut into rows with their line numbers."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn, Protocol

from services.errors import InvalidInput, TooLarge

MAX_LINE_BYTES = 4 << 20
HEAD_BYTES = MAX_LINE_BYTES + (64 << 10)
_CHUNK = 256 << 10
_SPACE = " \t\r\n"


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Limited(io.RawIOBase):
    """Passes bytes on, counts and digests them, and refuses more than a limit."""

    def __init__(self, inner: _Readable, max_bytes: int, what: str) -> None:
        self._inner, self._max, self._what = inner, max_bytes, what
        self._digest = hashlib.sha256()
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._inner.read(len(buffer))
        self.count += len(data)
        if self.count > self._max:
            raise too_large(self._what, self._max, f"more than {self._max:,}")
        self._digest.update(data)
        buffer[: len(data)] = data
        return len(data)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def too_large(what: str, limit: int, found: str) -> TooLarge:
    """The error for too many bytes, with both numbers."""
    return TooLarge(
        f"{what}: expected at most {limit:,} bytes, found {found}; nothing was imported"
    )


class Upload:
    """One file that is read once, from its start to its end.

    Args:
        stream: Bytes, gzip-packed or not (told by their first two).
        max_bytes: Limit, as sent and once more unpacked, bytes.

    Raises:
        TooLarge: At once where the size can be known, else while reading.
    """

    def __init__(self, stream: BinaryIO, *, max_bytes: int) -> None:
        _refuse_size(stream, max_bytes)
        self._sent = _Limited(stream, max_bytes, "file")
        self._body = io.BufferedReader(self._sent, _CHUNK)
        if self._body.peek(2)[:2] == b"\x1f\x8b":
            unpacked = _Limited(_Gunzip(self._body), max_bytes, "unpacked file")
            self._body = io.BufferedReader(unpacked, _CHUNK)
        self.head = self._body.read(HEAD_BYTES)
        if self.head.startswith(b"\xef\xbb\xbf"):
            self.head = self.head[3:]

    @property
    def sha256(self) -> str:
        """Digest of what was sent and has been read so far, 64 hex characters."""
        return self._sent.sha256

    def chunks(self) -> Iterator[bytes]:
        """The whole content, unpacked, from its start; once."""
        yield self.head
        while chunk := self._body.read(_CHUNK):
            yield chunk

    def lines(self) -> Iterator[tuple[int, bytes | None]]:
        """Each line with its number from 1; None in place of one over `MAX_LINE_BYTES`."""
        number, rest, skipping = 1, b"", False
        for chunk in self.chunks():
            pieces = (rest + chunk).split(b"\n")
            rest = pieces.pop()
            for piece in pieces:
                yield number, None if skipping or len(piece) > MAX_LINE_BYTES else piece
                number, skipping = number + 1, False
            if len(rest) > MAX_LINE_BYTES:
                rest, skipping = b"", True
        if rest or skipping:
            yield number, None if skipping or len(rest) > MAX_LINE_BYTES else rest

    def elements(self) -> Iterator[tuple[int, Any]]:
        """The elements of a JSON list, each with the line on which it begins.

        Raises:
            InvalidInput: It is no list, it breaks off or breaks, or an element is too long. The
                rest of a broken list cannot be trusted, so nothing of it is.
        """
        return _Elements(self.chunks()).read()


class _Gunzip:
    """`gzip.GzipFile` whose errors are ours."""

    def __init__(self, packed: BinaryIO) -> None:
        self._inner = gzip.GzipFile(fileobj=packed)

    def read(self, size: int, /) -> bytes:
        try:
            return self._inner.read(size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InvalidInput(
                f"file: expected a whole gzip file, found a broken one ({error})"
            ).because("broken_gzip") from error


class _Elements:
    """Cuts a JSON list into elements without holding more than one of them."""

    _decoder = json.JSONDecoder(parse_constant=lambda name: _refuse_constant(name))

    def __init__(self, chunks: Iterator[bytes]) -> None:
        # Bytes that are no UTF-8 become lone surrogates, which the row that holds them reports.
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._chunks = (decoder.decode(chunk) for chunk in chunks)
        self._text, self._at, self._line, self._ended = "", 0, 1, False

    def read(self) -> Iterator[tuple[int, Any]]:
        if self._next() != "[":
            self._broken("a JSON list")
        self._at += 1
        if self._next() == "]":
            return
        while True:
            self._next()
            line = self._line
            yield line, self._element()
            follows = self._next()
            if follows not in {",", "]"}:
                self._broken("a comma or the end of the list")
            self._at += 1
            if follows == "]":
                break
        if self._next():
            self._broken("nothing after the end of the list")

    def _element(self) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                # An error far from the end of what was read is no matter of missing text.
                if len(self._text) - self._at > MAX_LINE_BYTES or not self._more():
                    self._broken(f"a JSON object of at most {MAX_LINE_BYTES:,} bytes", error)
                continue
            # A number at the very end may go on in the next chunk.
            if end == len(self._text) and self._more():
                continue
            self._line += self._text.count("\n", self._at, end)
            self._at = end
            return value

    def _next(self) -> str:
        """The next character that is no space, at which the position then stands."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._line += self._text[self._at] == "\n"
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        self._text, self._at = self._text[self._at :] + chunk, 0
        return True

    def _broken(self, expected: str, error: Exception | None = None) -> NoReturn:
        if isinstance(error, json.JSONDecodeError):
            line = self._line + error.doc.count("\n", self._at, error.pos)
            found = error.msg
        else:
            line = self._line
            found = (
                repr(self._text[self._at : self._at + 1]) if self._text[self._at :] else "the end"
            )
        raise InvalidInput(
            f"line {line}: expected {expected}, found {found}; nothing was imported"
        ).because("no_json_at", line=line) from error


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name}, which is no JSON", "", 0)


def _refuse_size(stream: BinaryIO, max_bytes: int) -> None:
    if not stream.seekable():
        return
    here = stream.tell()
    size = stream.seek(0, io.SEEK_END) - here
    stream.seek(here)
    if size > max_bytes:
        raise too_large("file", max_bytes, f"{size:,}")
