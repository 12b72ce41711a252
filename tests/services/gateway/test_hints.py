from __future__ import annotations

import asyncio
import time

import pytest

from services.gateway.hints import Hints
from services.jobs import hints
from services.jobs.models import Job
from tests.services.gateway.conftest import HOOK_SECRET, SYSTEM, Edge, eventually

PATH = "/v1/hints/label-studio/acme/project-1"


def told(edge: Edge, path: str = PATH, secret: str | None = None, body: bytes = b"{}") -> int:
    subject = hints.label_studio_subject("acme", "project-1")
    header = {
        "x-param-hook": secret if secret is not None else hints.secret_of(HOOK_SECRET, subject)
    }
    return edge.http.post(edge.url + path, content=body, headers=header).status_code


def asked(edge: Edge) -> list[Job]:
    return edge.services.jobs.list(SYSTEM, "acme", hints.LABEL_STUDIO)


def test_a_genuine_hint_queues_one_synchronisation(edge: Edge) -> None:
    assert [told(edge) for _ in range(5)] == [202] * 5
    eventually(lambda: asked(edge))
    (job,) = asked(edge)
    assert (job.tenant_id, job.payload) == ("acme", {"project": "project-1"})


def test_whatever_the_body_says_is_not_read(edge: Edge) -> None:
    body = b'{"action": "ANNOTATION_CREATED", "project": {"id": "another"}}\xff'
    assert told(edge, body=body) == 202
    eventually(lambda: asked(edge))
    assert asked(edge)[0].payload == {"project": "project-1"}


@pytest.mark.parametrize(
    ("path", "secret"),
    [
        (PATH, ""),
        (PATH, "0" * 64),
        (PATH, HOOK_SECRET),
        ("/v1/hints/label-studio/acme/project-2", None),
        ("/v1/hints/label-studio/globex/project-1", None),
        ("/v1/hints/elsewhere/acme/project-1", None),
    ],
)
def test_a_hint_without_the_secret_of_its_project_finds_nothing_there(
    edge: Edge, path: str, secret: str | None
) -> None:
    assert told(edge, path, secret) == 404
    assert told(edge) == 202
    eventually(lambda: asked(edge))
    assert len(asked(edge)) == 1


async def test_many_hints_are_one_question_now_and_one_after_the_pause() -> None:
    found: list[tuple[float, str]] = []
    waiting = Hints(lambda tenant, project: found.append((time.monotonic(), project)), pause_s=1.0)
    waiting.note("acme", "one")
    while not found:
        await asyncio.sleep(0)
    for _ in range(20):
        waiting.note("acme", "one")
    waiting.note("acme", "two")
    while len(found) < 3:
        await asyncio.sleep(0.01)
    await asyncio.sleep(1.2)  # one more would have come by now
    ones = [at for at, project in found if project == "one"]
    assert len(ones) == 2
    assert ones[1] - ones[0] >= 0.99
    assert [project for _, project in found].count("two") == 1
