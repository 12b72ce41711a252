"""Label Studio servers for tests: the fake one, and a real one as a process that can be killed."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from labeling.label_studio import install
from services.errors import MissingModel
from tests.fakes.label_studio import TOKEN, FakeLabelStudio
from tests.support import ROOT, free_port, require

START_S = 280


class RunningServer(Protocol):
    """A Label Studio server that answers, and what tests do to it."""

    @property
    def url(self) -> str: ...

    def kill(self) -> None:
        """SIGKILL, or what comes nearest."""

    def restart(self) -> None:
        """Again on the same port, with what it had kept."""


class RealLabelStudio:
    """A real server on loopback over SQLite."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._folder, self._port = program, folder, free_port()
        self.restart()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def restart(self) -> None:
        variables = install.environment(
            self._folder, email="admin@example.com", password=secrets.token_hex(8), token=TOKEN
        )
        (self._folder / "xdg").mkdir(parents=True, exist_ok=True)
        log = self._folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                install.command(self._program, self._port),
                env={**os.environ, **variables}, stdout=output, stderr=output,
                stdin=subprocess.DEVNULL, cwd=self._folder, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health", trust_env=False).is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)
        told = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        self.kill()
        pytest.fail(f"Label Studio did not start (exit {self._process.poll()}): {told}")

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def fake() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as server:
        yield server


@contextmanager
def real(folder: Path) -> Iterator[RealLabelStudio]:
    """`PARAM_TEST_LABEL_STUDIO` names another environment than the one of `make label-studio`."""
    try:
        program = install.find_program(ROOT, os.environ.get("PARAM_TEST_LABEL_STUDIO"))
    except MissingModel as error:
        require(False, f"Label Studio ({error.message})")
        raise
    server = RealLabelStudio(program, folder)
    try:
        yield server
    finally:
        server.kill()


class Annotators:
    """People in front of the server's own pages, by the requests that these pages make."""

    def __init__(self, url: str) -> None:
        headers = {"authorization": f"Token {TOKEN}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def enrol(self, name: str) -> int:
        """A new account; its number."""
        mail = f"{name}-{secrets.token_hex(4)}@example.com"
        body = {"email": mail, "username": mail.split("@")[0], "first_name": name, "last_name": ""}
        return int(self._json("POST", "/api/users/", body)["id"])

    def annotate(self, task: int, account: int, choice: str = "a2", **more: Any) -> int:
        """Submit the form; the annotation's number."""
        body = {"result": results(choice, **more), "completed_by": account, "lead_time": 4.5}
        return self.submit(task, body)

    def submit(self, task: int, body: Mapping[str, Any]) -> int:
        return int(self._json("POST", f"/api/tasks/{task}/annotations/", dict(body))["id"])

    def change(self, annotation: int, choice: str, **more: Any) -> None:
        self._json("PATCH", f"/api/annotations/{annotation}/", {"result": results(choice, **more)})

    def delete(self, annotation: int) -> None:
        self._http.delete(f"/api/annotations/{annotation}/").raise_for_status()

    def tamper(self, task: int, data: Mapping[str, Any]) -> None:
        self._json("PATCH", f"/api/tasks/{task}/", {"data": dict(data)})

    def tasks(self, project: int) -> list[dict[str, Any]]:
        params = {"project": project, "fields": "all", "page_size": 1000}
        answer = self._http.get("/api/tasks/", params=params)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["tasks"]
        return sorted(found, key=lambda one: int(one["id"]))

    def project(self, project: int) -> dict[str, Any]:
        answer = self._http.get(f"/api/projects/{project}/")
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def projects(self) -> list[dict[str, Any]]:
        answer = self._http.get("/api/projects/", params={"page_size": 1000})
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["results"]
        return found

    def hooks(self, project: int) -> list[dict[str, Any]]:
        answer = self._http.get("/api/webhooks/", params={"project": project})
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found

    def _json(self, method: str, path: str, body: Any) -> dict[str, Any]:
        answer = self._http.request(method, path, json=body)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found


def results(
    choice: str | None,
    *,
    ratings: Mapping[str, int] | None = None,
    edits: Mapping[str, str] | None = None,
    flags: tuple[str, ...] = (),
    note: str = "",
) -> list[dict[str, Any]]:
    """What the form sends."""
    found = []
    if choice is not None:
        found.append(control("preference", "choices", {"choices": [choice]}))
    for name, stars in (ratings or {}).items():
        found.append(control(name, "rating", {"rating": stars}, to=f"response_{name[-1]}"))
    for side, text in (edits or {}).items():
        found.append(control(f"edit_{side}", "textarea", {"text": [text]}, to=f"response_{side}"))
    if flags:
        found.append(control("flags", "choices", {"choices": list(flags)}))
    if note:
        found.append(control("note", "textarea", {"text": [note]}))
    return found


def control(
    name: str, kind: str, value: Mapping[str, Any], *, to: str = "prompt"
) -> dict[str, Any]:
    return {"from_name": name, "to_name": to, "type": kind, "value": dict(value)}
