"""Where Label Studio says that something may have changed: proven, noted, looked at later.

The body is never read for what it says: the synchronisation asks the server itself. A hint that is
lost costs nothing but time, since the worker looks every few minutes anyway.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from services.errors import ConsoleError, NotFound
from services.gateway.answers import read_body
from services.gateway.looking import SYSTEM
from services.gateway.running import Gateway
from services.jobs import hints
from services.jobs.service import Jobs

HEADER = "x-param-hook"
PAUSE_S = 5.0
"""At most one synchronisation of a project in so long, however fast people annotate."""

router = APIRouter()
_log = logging.getLogger("param.gateway")


class Hints:
    """Hints that wait for their turn; lives in the server's event loop.

    Args:
        ask: Has the worker synchronise a project, given its tenant and its id; may block.
    """

    def __init__(self, ask: Callable[[str, str], None], *, pause_s: float = PAUSE_S) -> None:
        self._ask, self._pause_s = ask, pause_s
        self._asked_at: dict[tuple[str, str], float] = {}
        self._waiting: dict[tuple[str, str], asyncio.Task[None]] = {}

    def note(self, tenant_id: str, project_id: str) -> None:
        """Ask at once, or when the pause is over; hints that come meanwhile are one."""
        key = tenant_id, project_id
        if key not in self._waiting:
            self._waiting[key] = asyncio.create_task(self._later(key))

    async def _later(self, key: tuple[str, str]) -> None:
        since = time.monotonic() - self._asked_at.get(key, float("-inf"))
        await asyncio.sleep(max(0.0, self._pause_s - since))
        self._asked_at[key] = time.monotonic()
        del self._waiting[key]
        try:
            await asyncio.to_thread(self._ask, *key)
        except ConsoleError as error:
            _log.warning("a hint at Label Studio project %s came to nothing: %s", key[1], error)


@router.post("/v1/hints/label-studio/{tenant_id}/{project_id}")
async def label_studio(request: Request, tenant_id: str, project_id: str) -> Response:
    """A webhook of a Label Studio project: 202, or 404 where the secret is not the project's."""
    running: Callable[[], Gateway] = request.app.state.running
    settings = running().parts.settings
    raw = {name.lower(): value for name, value in request.scope["headers"]}
    await read_body(raw, request.receive)
    subject = hints.label_studio_subject(tenant_id, project_id)
    found = request.headers.get(HEADER, "")
    if not hints.is_genuine(settings.label_studio_hook_secret, subject, found):
        raise NotFound(f"POST {request.url.path[:200]}: there is nothing at this path")
    _hints(request, running()).note(tenant_id, project_id)
    return Response(status_code=202)


def _hints(request: Request, gateway: Gateway) -> Hints:
    """The process's hints; made at the first one."""
    state = request.app.state
    if not hasattr(state, "hints"):
        db = gateway.parts.db

        def ask(tenant_id: str, project_id: str) -> None:
            payload = {"project": project_id}
            hints.enqueue_once(db, Jobs(db), SYSTEM, tenant_id, hints.LABEL_STUDIO, payload)

        state.hints = Hints(ask)
    found: Hints = state.hints
    return found
