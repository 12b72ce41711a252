"""The playground's web application: the page, its health, and what a browser may do with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from console.playground.client import Gateway
from console.playground.look import CSS, theme
from console.playground.view import Page
from services.settings import Settings

Message = MutableMapping[str, Any]
App = Callable[..., Awaitable[None]]

# Gradio's page runs scripts of its own inline and compiles some at run time; what matters here is
# that nothing is loaded from, or sent to, another host, whatever a model writes.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
CLOSED = (
    "/gradio_api/upload",
    "/gradio_api/proxy=",
    "/gradio_api/file=",
    "/gradio_api/dev/",
    "/gradio_api/vibe-",
    "/gradio_api/component_server",
    "/monitoring",
)
"""Doors of Gradio that a page without files does not need."""


class Guarded:
    """Adds the security headers and closes the doors that stand open for nothing."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if str(scope["path"]).startswith(CLOSED):
            await JSONResponse({"detail": "not here"}, 404)(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self._app(scope, receive, guarded)


def build_app(settings: Settings) -> FastAPI:
    """The ASGI application.

    Args:
        settings: Names the gateway and the console.
    """
    gateway = Gateway(settings.gateway_url)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await gateway.close()

    api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    @api.get("/healthz")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    blocks = Page(gateway, settings.console_url).build()
    app: FastAPI = gr.mount_gradio_app(
        api, blocks, path="/", theme=theme(), css=CSS, ssr_mode=False, footer_links=[],
        show_error=False, max_file_size="1kb", enable_monitoring=False, mcp_server=False,
        pwa=False, run_history=False,
    )  # fmt: skip
    app.add_middleware(Guarded)
    return app
