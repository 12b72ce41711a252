"""An engine as the gateway reaches it, in OpenAI's protocol, behind a breaker.

Chats go over kept connections of the gateway's own (`services.gateway.wire`), everything else over a
general HTTP client.

Four patiences: for a connection, for the first piece of a stream, between two pieces of it, and
for a whole answer. A request is asked a second time only where nothing of it was sent, that is
where no connection came about: an engine that ends with a request in its hands may have died of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from services.errors import EngineUnavailable
from services.gateway.answers import Refused
from services.gateway.breaker import Breaker, Ticket, UpstreamFailed
from services.gateway.wire import Lost, Response, Wire
from services.settings import Settings

log = logging.getLogger(__name__)

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of a whole answer; an engine that sends more is broken."""

CONTROL_TIMEOUT_S = 60.0

RETRY_PAUSE_S = 0.1
"""Before the second attempt at a connection that was refused."""

KEPT_S = 4.0
"""How long an idle connection is kept: less than the 5 s after which uvicorn, and vLLM with it,
closes one, so that no request is sent into a connection that is just being closed."""

_CHAT = "/v1/chat/completions"
_HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}
_LOST = (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError)


class UnknownToEngine(Exception):
    """The engine does not know the model; it may have been restarted."""


@dataclass(frozen=True)
class Patience:
    """How long an engine is waited for, seconds.

    Attributes:
        connect: For a connection.
        first_byte: For the first piece of a stream, from the beginning of the request.
        between_bytes: For each further piece.
        answer: For a whole answer.
    """

    connect: float = 3.0
    first_byte: float = 120.0
    between_bytes: float = 60.0
    answer: float = 600.0

    @classmethod
    def of(cls, settings: Settings) -> Patience:
        """As the installation is configured."""
        return cls(
            settings.engine_connect_s,
            settings.engine_first_byte_s,
            settings.engine_between_bytes_s,
            settings.engine_answer_s,
        )


@dataclass(frozen=True)
class Served:
    """What the engine serves at one moment.

    Attributes:
        base: Name under which it serves the base model; None if it names none.
        adapters: Names of the loaded adapters.
        context: Tokens that prompt and answer can have together; None if it does not say.
    """

    base: str | None
    adapters: frozenset[str]
    context: int | None


class Answer:
    """An answer that the engine has begun to give: a stream's first piece, or all of the other."""

    __slots__ = ("_begun", "_response", "_ticket")

    def __init__(self, response: Response, begun: bytes, ticket: Ticket) -> None:
        self._response = response
        self._begun = begun
        self._ticket = ticket

    def close(self) -> None:
        """Let go of it.

        Read to its end, its connection goes back to the pool; otherwise it is closed, which is
        how an engine learns that nobody listens any more.
        """
        if self._response.is_read:
            self._ticket.ended()
        else:
            self._ticket.abandoned()
        self._response.close()

    async def read(self) -> bytes:
        """All of an answer that was not asked for as a stream."""
        return self._begun

    async def drain(self, seconds: float) -> None:
        """Wait a moment for the end of what is complete, so that its connection can be kept."""
        try:
            async with asyncio.timeout(seconds):
                await self._response.read()
        except (Lost, TimeoutError):
            log.debug("an engine did not close a stream that it had declared done")
        self._ticket.ended()

    async def pieces(self) -> AsyncIterator[bytes]:
        """What arrives, as it arrives.

        Raises:
            UpstreamFailed: The engine broke off, or said nothing for too long.
        """
        if self._begun:
            yield self._begun
        try:
            async for piece in self._response.pieces():
                yield piece
        except Lost as error:
            self._ticket.failed()
            raise _failed("silence" if error.is_silent else "broke_off") from error


class Engine:
    """An HTTP client of one engine; lives in one event loop.

    Args:
        url: The engine's address, without `/v1`.
        breaker: Decides whether it is asked at all.
        key: What it wants to see as a bearer token; nothing is shown where empty.
    """

    def __init__(
        self,
        url: str,
        *,
        patience: Patience | None = None,
        breaker: Breaker | None = None,
        key: str = "",
    ) -> None:
        self.url = url
        self.patience = patience or Patience()
        self.breaker = breaker or Breaker("engine", failures=5, open_s=10)
        self._is_away = False
        self._models_url = f"{url}/v1/models"
        self._load_url = f"{url}/v1/load_lora_adapter"
        connect = self.patience.connect
        headers = _HEADERS | ({"authorization": f"Bearer {key}"} if key else {})
        self._wire = Wire(
            url,
            connect_s=connect,
            kept_s=KEPT_S,
            headers=headers,
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            auto_decompress=False,
        )
        self._control = aiohttp.ClientTimeout(total=CONTROL_TIMEOUT_S, sock_connect=connect)

    async def close(self) -> None:
        """Give all connections back."""
        self._wire.close()
        await self._session.close()

    async def chat(self, body: bytes, *, stream: bool) -> Answer:
        """Ask for a chat completion; the answer has begun, and must be closed.

        Raises:
            UnknownToEngine: It does not know the model.
            Refused: It found the request wrong.
            UpstreamFailed: It does not answer, failed, or is left alone for now.
        """
        ticket = self.breaker.enter()
        try:
            answer = await self._begin(body, stream, ticket)
        except UpstreamFailed as error:
            # A look that finds it there again (`served`) is then a sign that it is back.
            self._is_away = self._is_away or error.reason == "connect"
            if error.counts:
                ticket.failed()
            else:
                ticket.abandoned()
            raise
        except (UnknownToEngine, Refused):
            ticket.ended()
            raise
        except BaseException:
            ticket.abandoned()
            raise
        ticket.begun()
        return answer

    async def _begin(self, body: bytes, stream: bool, ticket: Ticket) -> Answer:
        patience = self.patience
        try:
            async with asyncio.timeout(patience.first_byte if stream else patience.answer):
                response = await self._ask(body, patience.between_bytes if stream else None)
                try:
                    if response.status != 200:
                        _refuse(response.status, await response.read(64 * 1024))
                    begun = await (response.first() if stream else _whole(response))
                except BaseException:
                    response.close()
                    raise
        except Lost as error:
            raise _failed("connect" if error.is_unsent else "broke_off") from error
        except TimeoutError as error:
            raise _failed("no_answer") from error
        return Answer(response, begun, ticket)

    async def _ask(self, body: bytes, silence_s: float | None) -> Response:
        try:
            return await self._wire.post(_CHAT, body, silence_s=silence_s)
        except Lost as error:
            if not error.is_unsent:
                raise
        await asyncio.sleep(RETRY_PAUSE_S)
        return await self._wire.post(_CHAT, body, silence_s=silence_s)

    async def served(self) -> Served:
        """What the engine serves now.

        Raises:
            EngineUnavailable: It does not answer, or with something else than a model list.
        """
        try:
            async with self._session.get(self._models_url, timeout=self._control) as response:
                found = orjson.loads(await response.read())
            served = _served(found["data"])
        except _LOST as error:
            self._is_away = True
            raise EngineUnavailable("the engine does not answer") from error
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            self._is_away = True
            raise EngineUnavailable("the engine answered without a model list") from error
        if self._is_away:
            self._is_away = False
            self.breaker.try_soon()
        return served

    async def load(self, name: str, path: str) -> None:
        """Have an adapter loaded.

        Raises:
            EngineUnavailable: It does not answer, or refuses.
        """
        body = orjson.dumps({"lora_name": name, "lora_path": path})
        try:
            async with self._session.post(
                self._load_url, data=body, timeout=self._control
            ) as response:
                text = await response.read()
                # Engines answer 400 where the adapter is loaded already: that is what is wanted.
                if response.status == 200 or b"already" in text:
                    return
                raise EngineUnavailable(
                    f"the engine refuses to load adapter {name}: status {response.status}"
                )
        except _LOST as error:
            raise EngineUnavailable("the engine does not answer") from error


async def _whole(response: Response) -> bytes:
    """A whole body.

    Raises:
        UpstreamFailed: It is longer than `MAX_ANSWER`.
    """
    body = await response.read(MAX_ANSWER)
    if len(body) > MAX_ANSWER:
        raise UpstreamFailed(f"the engine answered with more than {MAX_ANSWER} bytes", "broke_off")
    return body


def _failed(reason: str) -> UpstreamFailed:
    """A connection that was lost, in the gateway's words."""
    messages = {
        "connect": "the engine does not answer",
        "no_answer": "the engine did not answer in time",
        "silence": "the engine broke off while it answered: it said nothing for too long",
        "broke_off": "the engine broke off while it answered",
    }
    return UpstreamFailed(messages[reason], reason)


def _served(models: list[dict[str, Any]]) -> Served:
    bases = [model for model in models if not model.get("parent")]
    adapters = frozenset(str(model["id"]) for model in models if model.get("parent"))
    lengths = [int(model["max_model_len"]) for model in bases if model.get("max_model_len")]
    return Served(
        base=str(bases[0]["id"]) if bases else None,
        adapters=adapters,
        context=min(lengths) if lengths else None,
    )


def _refuse(status: int, body: bytes) -> None:
    if status == 404:
        raise UnknownToEngine
    if status == 429:
        raise UpstreamFailed("the engine is too busy (status 429)", "busy")
    if status >= 500 or status < 400 or status in {401, 403, 408}:
        # A key between gateway and engine is ours to mend, not the client's.
        raise UpstreamFailed(f"the engine failed with status {status}", f"status_{status}")
    message, code, param = _reason(body)
    raise Refused(message, status=status, code=code, param=param)


def _reason(body: bytes) -> tuple[str, str | None, str | None]:
    """What an engine's error says, in either of the shapes that engines use."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = {}
    error = found.get("error", found) if isinstance(found, dict) else {}
    if not isinstance(error, dict):
        error = {"message": error}
    message = error.get("message") or error.get("detail") or "the engine refused the request"
    code, param = error.get("code"), error.get("param")
    return (
        str(message)[:2000],
        str(code) if isinstance(code, str) else None,
        str(param) if isinstance(param, str) else None,
    )
