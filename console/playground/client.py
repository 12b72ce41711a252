"""What the playground asks the gateway, and what comes back."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx

from services.errors import (
    ConsoleError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    NotPermitted,
    NotSignedIn,
    Unavailable,
)

TIMEOUT = httpx.Timeout(30.0, read=300.0, connect=5.0)
RECEIPT_MARK = b": receipt "
DEFAULT_WAIT_S = 1.0


@dataclass(frozen=True)
class Account:
    """Whose key it is.

    Attributes:
        aliases: What may be asked for, the tenant's default first.
    """

    tenant_id: str
    tenant_name: str
    aliases: tuple[str, ...]


@dataclass
class Answer:
    """One answer as it grows, and what is known of it at its end.

    Attributes:
        model: The adapter or base that answered, by its immutable name.
        arm: `stable`, `canary` or `pinned`.
        cost_micro: Millionths of the currency unit; None until the receipt was read.
        first_token_ms: From sending the request to the first text; None while there is none.
        total_ms: From sending the request to the last byte.
        request: The exact bytes that were sent: what the receipt commits to.
        response: The exact bytes that came before the receipt's line, likewise.
        is_stopped: The person stopped it.
        thumb: What the person thought of it, `up` or `down`; empty for nothing said.
    """

    text: str = ""
    model: str = ""
    arm: str = ""
    request_id: str = ""
    receipt_id: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_micro: int | None = None
    finish_reason: str = ""
    first_token_ms: float | None = None
    total_ms: float = 0.0
    request: bytes = field(default=b"", repr=False)
    response: bytes = field(default=b"", repr=False)
    is_stopped: bool = False
    thumb: str = ""


class Gateway:
    """The gateway as one customer sees it.

    Args:
        url: Its address, without `/v1`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        # An outside proxy must not see a tenant's key on its way to this machine.
        self._http = httpx.AsyncClient(base_url=url, timeout=TIMEOUT, trust_env=False)

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def account(self, key: str) -> Account:
        """Whose key this is.

        Raises:
            NotSignedIn: It is nobody's.
            ConsoleError: The gateway refused or does not answer.
        """
        found = await self._json("GET", "/v1/whoami", key)
        tenant = found.get("tenant") or {}
        default = str(found.get("default_alias") or tenant.get("id", ""))
        others = {str(alias["alias"]) for alias in found.get("aliases") or ()} - {default}
        return Account(
            tenant_id=str(tenant.get("id", "")),
            tenant_name=str(tenant.get("name", "")),
            aliases=(default, *sorted(others)),
        )

    async def chat(
        self, key: str, body: Mapping[str, Any], *, conversation: str, stop: asyncio.Event
    ) -> AsyncIterator[Answer]:
        """Stream one answer; the same object is yielded whenever it has grown, and at its end.

        Args:
            body: An OpenAI chat request; streaming and usage are asked for here.
            conversation: Keeps a conversation on one arm of a rollout.
            stop: Once it is set the connection is closed, which ends the generation.

        Raises:
            ConsoleError: The gateway refused, does not answer, or broke off.
        """
        sent = json.dumps(
            {**body, "stream": True, "stream_options": {"include_usage": True}},
            ensure_ascii=False,
        ).encode()
        answer = Answer(request=sent)
        began = time.monotonic()
        request = self._http.build_request(
            "POST",
            "/v1/chat/completions",
            content=sent,
            headers={
                "authorization": f"Bearer {key}",
                "content-type": "application/json",
                "accept-encoding": "identity",
                "x-param-conversation": conversation,
            },
        )
        response = await self._send(request)
        try:
            _take_headers(answer, response.headers)
            if response.status_code != 200:
                await response.aread()
                raise refusal(response)
            async with aclosing(_frames(response, answer, stop)) as frames:
                async for grown in frames:
                    if grown and answer.first_token_ms is None:
                        answer.first_token_ms = (time.monotonic() - began) * 1000
                    answer.total_ms = (time.monotonic() - began) * 1000
                    if grown:
                        yield answer
        finally:
            await response.aclose()
        answer.total_ms = (time.monotonic() - began) * 1000
        yield answer

    async def receipt(self, key: str, receipt_id: str) -> dict[str, Any]:
        """The receipt of one answer, as the gateway gives it."""
        return await self._json("GET", f"/v1/receipts/{receipt_id}", key)

    async def verify(self, document: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
        """What the gateway finds when it compares a receipt with the bytes that went and came."""
        texts = {"request": answer.request, "response": answer.response}
        body = {name: base64.b64encode(text).decode() for name, text in texts.items() if text}
        return await self._json("POST", "/v1/verify", json={"receipt": document, **body})

    async def feedback(self, key: str, receipt_id: str, thumb: str) -> None:
        """Say what one thinks of an answer: `up`, `down`, or `none` to take it back."""
        body = {"request_id": receipt_id, "thumb": thumb}
        await self._json("POST", "/v1/feedback", key, json=body)

    async def _json(
        self, method: str, path: str, key: str | None = None, **more: Any
    ) -> dict[str, Any]:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        response = await self._send(self._http.build_request(method, path, headers=headers, **more))
        try:
            await response.aread()
        finally:
            await response.aclose()
        if response.status_code != 200:
            raise refusal(response)
        found = response.json()
        if not isinstance(found, dict):
            raise Unavailable(f"{path}: expected an object, found {type(found).__name__}")
        return found

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise Unavailable(f"the gateway at {self.url} does not answer") from error


async def _frames(
    response: httpx.Response, answer: Answer, stop: asyncio.Event
) -> AsyncGenerator[bool]:
    """Read server-sent events into the answer; yields whether the text has grown.

    Works on bytes, since the receipt commits to exactly those before its own line.
    """
    pieces = response.aiter_bytes()
    stopped = asyncio.ensure_future(stop.wait())
    passed, rest = bytearray(), b""
    try:
        while (piece := await _unless(stopped, pieces)) is not None:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line == b"data: [DONE]":
                    return
                if line.startswith(RECEIPT_MARK):
                    answer.receipt_id = line.removeprefix(RECEIPT_MARK).decode().strip()
                    answer.response = bytes(passed)
                    continue
                passed += line + b"\n"
                if line.startswith(b"data:"):
                    yield _take_chunk(answer, line.removeprefix(b"data:"))
        answer.is_stopped = stop.is_set()
        if not answer.is_stopped:
            raise Unavailable("the gateway broke off while it answered")
    except httpx.HTTPError as error:
        raise Unavailable("the gateway broke off while it answered") from error
    finally:
        stopped.cancel()


async def _unless(stopped: asyncio.Future[Any], pieces: AsyncIterator[bytes]) -> bytes | None:
    """The next piece; None at the end of the stream, and as soon as the person stops it."""
    piece: asyncio.Future[bytes | None] = asyncio.ensure_future(anext(pieces, None))
    await asyncio.wait({piece, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if stopped.done():
        piece.cancel()
        await asyncio.wait({piece})
        return None
    return piece.result()


def _take_chunk(answer: Answer, text: bytes) -> bool:
    chunk = json.loads(text)
    if "error" in chunk:
        raise Unavailable(str(chunk["error"].get("message", "the answer broke off")))
    if usage := chunk.get("usage"):
        answer.prompt_tokens = int(usage["prompt_tokens"])
        answer.completion_tokens = int(usage["completion_tokens"])
    grown = ""
    for choice in chunk.get("choices") or ():
        grown += (choice.get("delta") or {}).get("content") or ""
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
    answer.text += grown
    return bool(grown)


def _take_headers(answer: Answer, headers: Mapping[str, str]) -> None:
    answer.request_id = headers.get("x-request-id", "")
    answer.model = headers.get("x-param-model", "")
    answer.arm = headers.get("x-param-arm", "")
    answer.receipt_id = headers.get("x-param-receipt", "")
    if cost := headers.get("x-param-cost-micro"):
        answer.cost_micro = int(cost)


def refusal(response: httpx.Response) -> ConsoleError:
    """The error that an answer of the gateway stands for."""
    status = response.status_code
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"the gateway answered {status}"
    if status == 429:
        return LimitExceeded(message, retry_after_s=_wait_s(response.headers))
    kinds: Sequence[tuple[bool, type[ConsoleError]]] = (
        (status == 401, NotSignedIn),
        (status == 403, NotPermitted),
        (status == 404, NotFound),
        (status >= 500, Unavailable),
    )
    return next((kind for holds, kind in kinds if holds), InvalidInput)(message)


def _wait_s(headers: Mapping[str, str]) -> float:
    try:
        return max(float(headers.get("retry-after", DEFAULT_WAIT_S)), DEFAULT_WAIT_S)
    except ValueError:
        return DEFAULT_WAIT_S
