"""The engine as the gateway reaches it: one pooled HTTP session, OpenAI's protocol."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from services.errors import EngineUnavailable
from services.gateway.answers import Refused

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 3.0
SILENCE_TIMEOUT_S = 600.0
"""How long an engine may say nothing: a long answer without streaming comes in one piece."""

LARGE_BODY = 1 << 18

CONTROL_TIMEOUT_S = 60.0

_HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}
_LOST = (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError)


class UnknownToEngine(Exception):
    """The engine does not know the model; it may have been restarted."""


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
    """An answer that the engine has begun to give."""

    __slots__ = ("_response",)

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    def close(self) -> None:
        """Let go of it.

        Read to its end, its connection goes back to the pool; otherwise it is closed, which is
        how an engine learns that nobody listens any more.
        """
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()

    async def read(self) -> bytes:
        """All of it.

        Raises:
            EngineUnavailable: The engine broke off.
        """
        try:
            return await self._response.read()
        except _LOST as error:
            raise EngineUnavailable("the engine broke off while it answered") from error

    async def drain(self, seconds: float) -> None:
        """Wait a moment for the end of what is complete, so that its connection can be kept."""
        try:
            async with asyncio.timeout(seconds):
                await self._response.read()
        except _LOST:
            log.debug("an engine did not close a stream that it had declared done")

    async def pieces(self) -> AsyncIterator[bytes]:
        """What arrives, as it arrives.

        Raises:
            EngineUnavailable: The engine broke off.
        """
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except _LOST as error:
            raise EngineUnavailable("the engine broke off while it answered") from error


class Engine:
    """An HTTP client of one engine; lives in one event loop.

    Args:
        url: The engine's address, without `/v1`.
    """

    def __init__(self, url: str) -> None:
        self._chat_url = f"{url}/v1/chat/completions"
        self._models_url = f"{url}/v1/models"
        self._load_url = f"{url}/v1/load_lora_adapter"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            auto_decompress=False,
        )
        self._control = aiohttp.ClientTimeout(
            total=CONTROL_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S
        )

    async def close(self) -> None:
        """Give all connections back."""
        await self._session.close()

    async def chat(self, body: bytes) -> Answer:
        """Ask for a chat completion; the answer has begun, and must be closed.

        Raises:
            UnknownToEngine: It does not know the model.
            Refused: It found the request wrong.
            EngineUnavailable: It does not answer, or failed.
        """
        response = await self._ask(body)
        if response.status != 200:
            try:
                await _refuse(response)
            except _LOST as error:
                raise EngineUnavailable("the engine broke off while it answered") from error
            finally:
                response.close()
        return Answer(response)

    async def _ask(self, body: bytes) -> aiohttp.ClientResponse:
        try:
            try:
                return await self._session.post(self._chat_url, data=_sendable(body))
            except aiohttp.ServerDisconnectedError:
                # A kept connection that the engine closed meanwhile: nothing was answered yet.
                return await self._session.post(self._chat_url, data=_sendable(body))
        except _LOST as error:
            raise EngineUnavailable("the engine does not answer") from error

    async def served(self) -> Served:
        """What the engine serves now.

        Raises:
            EngineUnavailable: It does not answer, or with something else than a model list.
        """
        try:
            async with self._session.get(self._models_url, timeout=self._control) as response:
                found = orjson.loads(await response.read())
            return _served(found["data"])
        except _LOST as error:
            raise EngineUnavailable("the engine does not answer") from error
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise EngineUnavailable("the engine answered without a model list") from error

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


def _sendable(body: bytes) -> bytes | io.BytesIO:
    """A large body in a form that is sent piece by piece, so that it does not hold up others."""
    return body if len(body) < LARGE_BODY else io.BytesIO(body)


def _served(models: list[dict[str, Any]]) -> Served:
    bases = [model for model in models if not model.get("parent")]
    adapters = frozenset(str(model["id"]) for model in models if model.get("parent"))
    lengths = [int(model["max_model_len"]) for model in bases if model.get("max_model_len")]
    return Served(
        base=str(bases[0]["id"]) if bases else None,
        adapters=adapters,
        context=min(lengths) if lengths else None,
    )


async def _refuse(response: aiohttp.ClientResponse) -> None:
    body = await response.content.read(64 * 1024)
    if response.status == 404:
        raise UnknownToEngine
    if response.status >= 500 or response.status < 400 or response.status in {401, 403, 408, 429}:
        # A key or rate limit between gateway and engine is ours to mend, not the client's.
        raise EngineUnavailable(f"the engine failed with status {response.status}")
    message, code, param = _reason(body)
    raise Refused(message, status=response.status, code=code, param=param)


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
