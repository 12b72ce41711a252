"""Prompts from what users asked the gateway, where the tenant keeps that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import orjson

from services.audit.retention.service import MOST_AT_ONCE, Retention
from services.tenants.models import Actor

MOST = 10 * MOST_AT_ONCE
"""Requests that are read at once."""


class GatewayTraffic:
    """The kept requests of the gateway; `prompts.Traffic` says what is asked of it.

    Args:
        retention: Keeps them, admits the actor, and leaves an audit event of each reading.
    """

    def __init__(self, retention: Retention) -> None:
        self._retention = retention

    def is_kept(self, tenant_id: str) -> bool:
        """Whether the tenant has opted in to keep what is asked."""
        return self._retention.live().get(tenant_id, 0) > 0

    def prompts(
        self, actor: Actor, tenant_id: str, *, limit: int, since: datetime | None = None
    ) -> Sequence[Sequence[Mapping[str, str]]]:
        """What was asked, the newest first; requests that hold no plain dialogue are left out.

        Raises:
            NotPermitted: The actor may not read what users wrote.
        """
        found = self._retention.sample(actor, tenant_id, limit=min(limit, MOST))
        return [
            turns
            for one in found
            if (since is None or one.kept_at >= since) and (turns := _turns(one.request))
        ]


def _turns(request: bytes) -> list[Mapping[str, str]]:
    """The messages of a chat request, if all of them are plain texts."""
    try:
        messages = orjson.loads(request)["messages"]
        return [{"role": str(one["role"]), "content": _text(one["content"])} for one in messages]
    except (ValueError, KeyError, TypeError):
        return []


def _text(content: object) -> str:
    if not isinstance(content, str):
        raise TypeError("a message of parts")
    return content
