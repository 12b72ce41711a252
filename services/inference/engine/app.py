"""The HTTP shell of the embedded engine: vLLM's endpoints, status codes and shapes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import TypeVar

import pydantic
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from services.errors import ConsoleError, InvalidInput, NotFound, TooLarge
from services.inference.engine.answers import (
    EventStream,
    collect,
    error_body,
    events,
    inbox,
    unless_gone,
)
from services.inference.engine.engine import Engine, Options
from services.inference.engine.metrics import exposition
from services.inference.engine.model import LanguageModel
from services.inference.engine.protocol import ChatAsk, CompletionAsk, LoadAsk, UnloadAsk
from services.inference.model_store import resolve
from services.settings import Settings

MAX_BODY_BYTES = 8 << 20
CLIENT_LEFT = 499
"""Status for an answer that nobody reads any more, as nginx writes it into its log."""

AskType = TypeVar("AskType", bound=pydantic.BaseModel)


def build_app(settings: Settings, options: Options | None = None) -> Starlette:
    """Load the base model of the settings and make the application.

    Raises:
        MissingModel: The base model has not been pulled.
        WrongConfiguration: The embedded engine cannot serve a model of this kind.
    """
    base = resolve(settings.base_model, settings.models_dir)
    return engine_app(Engine(base, LanguageModel(base.path), options or Options()))


def engine_app(engine: Engine) -> Starlette:
    """The application around an engine that is loaded; ends the engine when it ends."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(engine.scheduler.stop)

    ask = Endpoints(engine)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", ask.chat, methods=["POST"]),
            Route("/v1/completions", ask.completions, methods=["POST"]),
            Route("/v1/models", ask.models),
            Route("/v1/load_lora_adapter", ask.load, methods=["POST"]),
            Route("/v1/unload_lora_adapter", ask.unload, methods=["POST"]),
            Route("/health", ask.health),
            Route("/version", ask.version),
            Route("/metrics", ask.metrics),
        ],
        exception_handlers={
            ConsoleError: _refuse,
            pydantic.ValidationError: _refuse_fields,
            HTTPException: _refuse_path,
        },
        lifespan=lifespan,
    )


class Endpoints:
    """What each path answers.

    Args:
        engine: Loaded and running.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        return await self._answer(request, await _read(request, ChatAsk))

    async def completions(self, request: Request) -> Response:
        """`POST /v1/completions`."""
        return await self._answer(request, await _read(request, CompletionAsk))

    async def models(self, _: Request) -> Response:
        """`GET /v1/models`."""
        return JSONResponse({"object": "list", "data": self._engine.models()})

    async def load(self, request: Request) -> Response:
        """`POST /v1/load_lora_adapter`."""
        ask = await _read(request, LoadAsk)
        await asyncio.to_thread(
            self._engine.load_adapter, ask.lora_name, ask.lora_path, replace=ask.load_inplace
        )
        return PlainTextResponse(f"Success: LoRA adapter '{ask.lora_name}' added successfully.")

    async def unload(self, request: Request) -> Response:
        """`POST /v1/unload_lora_adapter`."""
        ask = await _read(request, UnloadAsk)
        await asyncio.to_thread(self._engine.unload_adapter, ask.lora_name)
        return PlainTextResponse(f"Success: LoRA adapter '{ask.lora_name}' removed successfully.")

    async def health(self, _: Request) -> Response:
        """`GET /health`."""
        return Response(status_code=200 if self._engine.scheduler.is_alive else 503)

    async def version(self, _: Request) -> Response:
        """`GET /version`."""
        return JSONResponse({"version": f"{version('param-console')}+embedded"})

    async def metrics(self, _: Request) -> Response:
        """`GET /metrics`."""
        text = exposition(self._engine.base.name, self._engine.scheduler)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def _answer(self, request: Request, ask: ChatAsk | CompletionAsk) -> Response:
        prepared = await asyncio.to_thread(self._engine.prepare, ask)
        sink, pieces = inbox()
        generation, shape = self._engine.start(prepared, sink)
        self._engine.scheduler.submit(generation)

        def leave() -> None:
            self._engine.scheduler.cancel(generation)

        if ask.stream:
            return EventStream(events(ask, shape, pieces), on_end=leave)
        try:
            got = await unless_gone(request, collect(pieces))
        finally:
            leave()
        return Response(status_code=CLIENT_LEFT) if got is None else JSONResponse(shape.whole(got))


async def _read(request: Request, kind: type[AskType]) -> AskType:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(f"expected a request of at most {MAX_BODY_BYTES} bytes, found more")
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"expected a JSON object in UTF-8, found {error}") from error
    return kind.model_validate(sent)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ConsoleError)
    body = error_body(error, "model" if isinstance(error, NotFound) else None)
    status: int = body["error"]["code"]
    headers = {"retry-after": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse(body, status_code=status, headers=headers)


async def _refuse_fields(_: Request, error: Exception) -> Response:
    """Name the first field that cannot be used; never what stood in it (it may be a prompt)."""
    assert isinstance(error, pydantic.ValidationError)
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or None
    said = first["msg"].removeprefix("Value error, ")
    refusal = InvalidInput(f"{field}: {said}" if field else said)
    return JSONResponse(error_body(refusal, field), status_code=refusal.http_status)


async def _refuse_path(_: Request, error: Exception) -> Response:
    """No such path, or not with this method."""
    assert isinstance(error, HTTPException)
    refusal = error_body(NotFound(str(error.detail)))
    refusal["error"]["code"] = error.status_code
    return JSONResponse(refusal, status_code=error.status_code, headers=error.headers)
