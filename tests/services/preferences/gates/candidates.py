"""Candidates for tests of gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from services.preferences.gates.models import Candidate
from services.preferences.models import Pair, PairStatus, Prompt, Response, Turn

AT = datetime(2026, 11, 21, tzinfo=UTC)
QUESTION = "Which river is the longest one of Turkey?"


def response(name: str, text: str, extra: Mapping[str, Any] | None = None) -> Response:
    return Response(
        id=name, root_id=name, parent_id=None, version=1, text=text, author_id=None,
        created_at=AT, extra=extra or {},
    )  # fmt: skip


def candidate(
    chosen: str = "The Kızılırmak.",
    rejected: str = "The Nile, by far.",
    *,
    turns: Sequence[tuple[str, str]] = (("user", QUESTION),),
    pair_id: str = "pair",
    by_person: bool = True,
    is_confirmed: bool = True,
    is_stale: bool = False,
) -> Candidate:
    first, second = response("better", chosen), response("worse", rejected)
    pair = Pair(
        id=pair_id, tenant_id="acme",
        prompt=Prompt("prompt", tuple(Turn(*turn) for turn in turns), "en"),
        responses=(first, second), imported_preference="better", chosen_response_id="better",
        source="file", source_line=1, language="en", status=PairStatus.APPROVED, extra={},
        created_at=AT, is_stale=is_stale,
    )  # fmt: skip
    return Candidate(pair, first, second, by_person, is_confirmed)
