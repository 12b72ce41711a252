"""What the gateway says over HTTP: headers, JSON bodies, errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import orjson

from services.errors import ConsoleError, InvalidInput, LimitExceeded, TooLarge, Unavailable

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

MAX_BODY = 10 * 1024 * 1024
"""Bytes of a request body; a longer one is refused with 413."""

BODY_PAUSE_S = 60.0
"""How long nothing of a request body may come."""

BODY_BYTES_PER_S = 1024
"""How fast a body has to come on the whole, once the first `BODY_PAUSE_S` are over."""

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    409: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


class ClientGone(Exception):
    """The client closed its connection before it had its answer."""


class Refused(ConsoleError):
    """An error that is answered as it is, such as one that the engine gave."""

    def __init__(
        self, message: str, *, status: int, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.http_status = status
        self.code = code or "invalid_request"
        self.param = param


def model_not_found(model: str) -> Refused:
    """One answer for a model that does not exist and for one of another tenant."""
    return Refused(
        f"The model {model[:200]!r} does not exist or you do not have access to it.",
        status=404,
        code="model_not_found",
        param="model",
    )


def wrong_method(method: str, path: str) -> Refused:
    """The path is right, the method is not."""
    return Refused(
        f"{method} {path}: this path takes another method",
        status=405,
        code="method_not_allowed",
    )


def error_body(error: ConsoleError) -> bytes:
    """The error in OpenAI's shape: message, type, code, param."""
    return orjson.dumps(
        {
            "error": {
                "message": error.message,
                "type": _TYPES.get(error.http_status, "server_error"),
                "code": error.code,
                "param": getattr(error, "param", None),
            }
        },
        default=str,
    )


def error_headers(error: ConsoleError) -> list[tuple[bytes, bytes]]:
    """Headers that an error brings beside its body."""
    if isinstance(error, LimitExceeded | Unavailable) and error.retry_after_s is not None:
        return [(b"retry-after", str(max(1, math.ceil(error.retry_after_s))).encode())]
    if error.http_status == 401:
        return [(b"www-authenticate", b"Bearer")]
    if error.http_status == 408:
        # The rest of the body may still come; it must not be taken for the next request.
        return [(b"connection", b"close")]
    return []


async def send_json(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Answer with one JSON body."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: ConsoleError, request_id: str, more: Headers = ()) -> None:
    """Answer with an error."""
    headers = [(b"x-request-id", request_id.encode()), *error_headers(error), *more]
    await send_json(send, error.http_status, error_body(error), headers)


async def read_body(
    headers: Mapping[bytes, bytes], receive: Receive, *, pause_s: float = BODY_PAUSE_S
) -> bytes:
    """The whole request body.

    Args:
        pause_s: How long nothing of it may come.

    Raises:
        TooLarge: It is, or is declared, longer than `MAX_BODY` bytes.
        Refused: It comes too slowly, 408.
        InvalidInput: Its declared length is no number.
        ClientGone: The client went away before it had sent all of it.
    """
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit():
        raise InvalidInput("content-length: expected a number of bytes")
    if int(declared) > MAX_BODY:
        raise _too_large(int(declared))
    arrival = _Arrival(receive, pause_s)
    message = await arrival.next(0)
    body: bytes = message.get("body", b"")
    pieces = [body]
    size = len(body)
    while message["type"] == "http.request" and message.get("more_body", False):
        message = await arrival.next(size)
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > MAX_BODY:
            raise _too_large(size)
    if message["type"] != "http.request":
        raise ClientGone
    return body if len(pieces) == 1 else b"".join(pieces)


class _Arrival:
    """The pieces of a body, as long as they come fast enough."""

    __slots__ = ("_began", "_loop", "_pause_s", "_receive")

    def __init__(self, receive: Receive, pause_s: float) -> None:
        self._receive, self._pause_s = receive, pause_s
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    async def next(self, size: int) -> Message:
        """The next piece, of a body of which so many bytes are here."""
        # Drops that come just in time for ever are no progress either.
        latest = self._began + self._pause_s + size / BODY_BYTES_PER_S
        try:
            async with asyncio.timeout_at(min(self._loop.time() + self._pause_s, latest)):
                return await self._receive()
        except TimeoutError as error:
            raise Refused(
                f"body: expected a byte within {self._pause_s:g} s and {BODY_BYTES_PER_S} bytes a "
                f"second on the whole, found {size} bytes and no end",
                status=408,
                code="request_timeout",
            ) from error


def _too_large(size: int) -> TooLarge:
    return TooLarge(f"body: expected at most {MAX_BODY} bytes, found {size} or more")
