"""Pieces of an answer on their way to the client, who may leave at any time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.errors import ConsoleError
from services.inference.engine.generation import Failure, Piece, Sink
from services.inference.engine.protocol import Ask, Shape

Pieces = AsyncIterator[Piece]


class GenerationFailed(ConsoleError):
    """A pass failed inside the engine; its log says why."""


STATUS_OF = {"digest_mismatch": 400, "missing_model": 404}
"""Where vLLM answers otherwise than `services.errors` would."""

TYPES = {
    400: "BadRequestError",
    404: "NotFoundError",
    413: "BadRequestError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}


def error_body(error: ConsoleError, param: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's shape; its `code` is the HTTP status, as in vLLM."""
    status = STATUS_OF.get(error.code, error.http_status)
    return {
        "error": {
            "message": error.message,
            "type": TYPES.get(status, "BadRequestError"),
            "param": param,
            "code": status,
        }
    }


def inbox() -> tuple[Sink, Pieces]:
    """Where the generation thread puts pieces, and where the event loop takes them.

    Returns:
        The sink; and the pieces, up to the one with a finish reason.

    Raises:
        GenerationFailed: While the pieces are read: the answer could not be finished.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Piece | Failure] = asyncio.Queue()

    def sink(piece: Piece | Failure) -> None:
        with suppress(RuntimeError):  # the loop has ended: nobody is left to be told
            loop.call_soon_threadsafe(arrived.put_nowait, piece)

    async def pieces() -> Pieces:
        while True:
            piece = await arrived.get()
            if isinstance(piece, Failure):
                raise GenerationFailed("the engine could not finish this answer; its log says why")
            yield piece
            if piece.finish_reason is not None:
                return

    return sink, pieces()


async def collect(pieces: Pieces) -> list[Piece]:
    """All pieces, once the answer is finished."""
    return [piece async for piece in pieces]


async def unless_gone(
    request: Request, work: Coroutine[Any, Any, list[Piece]]
) -> list[Piece] | None:
    """What the work brings; None if the client left first."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_departure(request.receive))
    await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if task.done():
        return task.result()
    task.cancel()
    return None


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def events(ask: Ask, shape: Shape, pieces: Pieces) -> AsyncIterator[str]:
    """The chunks of a stream as server-sent events."""
    opening = shape.opening(with_usage=ask.usage_always)
    tokens = 0
    try:
        async for piece in pieces:
            if opening is not None:
                yield _event(opening)
                opening = None
            tokens = piece.tokens
            yield _event(shape.chunk(piece, with_usage=ask.usage_always))
        if ask.usage_at_end:
            yield _event(shape.closing(tokens))
    except GenerationFailed as error:
        yield _event(error_body(error))
    yield "data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n"


class EventStream(Response):
    """Sends events as they come, and notices at once when the client leaves.

    Args:
        events: Text of the events.
        on_end: Called once in the end, however it came.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], on_end: Callable[[], None]) -> None:
        super().__init__(headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._events = events
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        sending = asyncio.ensure_future(self._send(send))
        gone = asyncio.ensure_future(_departure(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            self._on_end()
            sending.cancel()
            gone.cancel()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        async for event in self._events:
            await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
