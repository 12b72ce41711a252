"""The server says that something has changed: with the project's own secret, to our address."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from labeling.label_studio.models import Selection
from labeling.label_studio.service import LabelStudio
from services.jobs import hints
from services.jobs.service import Jobs
from tests.fakes.label_studio import FakeLabelStudio, wait_until
from tests.labeling.label_studio.conftest import ENGINEER, SECRET, World
from tests.labeling.label_studio.servers import RunningServer


@pytest.fixture
def heard() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """An address, and what was heard there: path and secret."""
    found: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"] or 0))
            found.append((self.path, self.headers["x-param-hook"] or ""))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_address[1]}", found
        listener.shutdown()


def with_hooks(world: World, gateway_url: str) -> LabelStudio:
    settings = replace(
        world.label_studio.sync.settings, label_studio_hook_secret=SECRET, gateway_url=gateway_url
    )
    return LabelStudio(world.db, world.queue, Jobs(world.db), settings, clock=world.time)


def test_one_webhook_is_made_and_bears_the_secret_of_its_project(
    world: World, heard: tuple[str, list[tuple[str, str]]]
) -> None:
    url, found = heard
    world.import_pairs(1)
    label_studio = with_hooks(world, url)
    project, _ = label_studio.push(ENGINEER, "acme", Selection(), title="hooked")
    for _ in range(3):
        label_studio.run_here(ENGINEER, "acme", project.id)
    (task,) = world.tasks(project)
    remote_id = world.project(project.id).remote_id
    assert remote_id is not None
    assert task.remote_id is not None
    assert len(world.people.hooks(remote_id)) == 1
    world.people.annotate(task.remote_id, world.accounts[0])
    wait_until(lambda: bool(found), at_most_s=10)
    subject = hints.label_studio_subject("acme", project.id)
    path, secret = found[0]
    assert path == f"/v1/hints/{subject}"
    assert hints.is_genuine(SECRET, subject, secret)
    assert SECRET not in str(world.people.hooks(remote_id))


def test_without_a_secret_there_is_no_webhook(world: World) -> None:
    world.import_pairs(1)
    project = world.push()
    assert project.remote_id is not None
    assert world.people.hooks(project.remote_id) == []
    assert (project.hook_id, project.hook_note) == (None, "")


def test_a_server_that_refuses_the_address_is_synchronised_all_the_same(
    world: World, server: RunningServer
) -> None:
    """The real one refuses this network, the fake one whatever it is told to refuse."""
    if isinstance(server, FakeLabelStudio):
        server.hook_status = 403
    try:
        world.import_pairs(1)
        label_studio = with_hooks(world, "http://10.0.0.1:8080")
        project, _ = label_studio.push(ENGINEER, "acme", Selection(), title="refused")
        label_studio.run_here(ENGINEER, "acme", project.id)
        label_studio.run_here(ENGINEER, "acme", project.id)
        found = world.project(project.id)
        assert found.hook_id is None
        assert "answered with status 403" in found.hook_note
        assert world.tasks(project)[0].remote_id is not None
    finally:
        if isinstance(server, FakeLabelStudio):
            server.hook_status = 201


@pytest.mark.parametrize(
    ("secret", "subject", "found"),
    [
        (SECRET, "label-studio/acme/p", ""),
        (SECRET, "label-studio/acme/p", "0" * 64),
        (SECRET, "label-studio/acme/p", hints.secret_of(SECRET, "label-studio/acme/q")),
        (SECRET, "label-studio/acme/p", "\udcff"),
        ("", "label-studio/acme/p", hints.secret_of("", "label-studio/acme/p")),
    ],
)
def test_a_hint_without_the_secret_of_its_project_is_not_genuine(
    secret: str, subject: str, found: str
) -> None:
    assert not hints.is_genuine(secret, subject, found)
    assert hints.is_genuine(SECRET, subject, hints.secret_of(SECRET, subject))
