"""A Label Studio server on loopback that speaks the protocol of 1.23 as far as we use it.

What it keeps outlives `kill()` and `restart()`, as a database does. What it does wrong on purpose
is asked for by `trouble`: `die_after_import` keeps the tasks and dies before it answers,
`die_within_import` keeps only half of them, `lose_predictions` keeps tasks without predictions
and dies.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import httpx

TOKEN = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeLabelStudio:
    """A fake server; enter it to start it.

    Attributes:
        trouble: What it does wrong at the next import; see the module.
        imports: Sizes of the imports it was asked for.
        hook_status: What it answers to a new webhook.
    """

    port: int = 0
    trouble: str = ""
    imports: list[int] = field(default_factory=list)
    hook_status: int = 201
    projects: dict[int, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[int, dict[str, Any]] = field(default_factory=dict)
    hooks: list[dict[str, Any]] = field(default_factory=list)
    users: dict[int, str] = field(default_factory=lambda: {1: "admin@example.com"})
    _number: int = 0
    _is_up: bool = False
    _connections: set[socket.socket] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _ending: threading.RLock = field(default_factory=threading.RLock)

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        with self._ending:
            if self._is_up:
                self._is_up = False
                self._server.shutdown()
                self._server.server_close()
                for connection in list(self._connections):
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)

    def restart(self) -> None:
        self.kill()
        self._start()

    def _start(self) -> None:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                fake._connections.add(self.connection)

            def finish(self) -> None:
                fake._connections.discard(self.connection)
                super().finish()

            def do_GET(self) -> None:
                fake._serve(self)

            do_POST = do_PATCH = do_DELETE = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: Any) -> None:
                pass  # A connection that was cut on purpose.

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port, self._is_up = self._server.server_address[1], True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("content-length") or 0)
        body = json.loads(request.rfile.read(length) or b"null")
        parts = urlsplit(request.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        segments = [one for one in parts.path.split("/") if one]
        if segments != ["health"] and request.headers.get("authorization") != f"Token {TOKEN}":
            return self._answer(request, 401, {"detail": "Invalid token."})
        try:
            with self._lock:
                status, answer = self._do(request.command, segments, query, body)
        except KeyError:
            status, answer = 404, {"detail": "Not found."}
        except _Died:
            self.kill()
            return None
        return self._answer(request, status, answer)

    def _answer(self, request: BaseHTTPRequestHandler, status: int, answer: Any) -> None:
        body = b"" if answer is None else json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("content-type", "application/json")
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _do(  # noqa: C901 - one line for each request
        self, method: str, segments: list[str], query: Mapping[str, str], body: Any
    ) -> tuple[int, Any]:
        match method, segments:
            case "GET", ["health"]:
                return 200, {"status": "UP"}
            case "GET", ["api", "users"]:
                return 200, [{"id": number, "email": mail} for number, mail in self.users.items()]
            case "POST", ["api", "users"]:
                number = self._next()
                self.users[number] = body["email"]
                return 201, {"id": number, "email": body["email"]}
            case "GET", ["api", "projects"]:
                found = list(self.projects.values())
                return 200, _page(found, query, "results", "count")
            case "POST", ["api", "projects"]:
                if not 3 <= len(body["title"]) <= 50:
                    return 400, {"detail": "Validation error"}
                number = self._next()
                self.projects[number] = {**body, "id": number}
                return 201, self.projects[number]
            case "GET", ["api", "projects", number]:
                return 200, self.projects[int(number)]
            case "PATCH", ["api", "projects", number]:
                self.projects[int(number)] |= body
                return 200, self.projects[int(number)]
            case "POST", ["api", "projects", number, "import"]:
                return self._import(int(number), body)
            case "GET", ["api", "webhooks"]:
                return 200, [
                    hook for hook in self.hooks if str(hook["project"]) == query["project"]
                ]
            case "POST", ["api", "webhooks"]:
                if self.hook_status != 201:
                    return self.hook_status, {"detail": "reserved network address"}
                self.hooks.append({**body, "id": self._next()})
                return 201, self.hooks[-1]
        return self._do_with_tasks(method, segments, query, body)

    def _do_with_tasks(
        self, method: str, segments: list[str], query: Mapping[str, str], body: Any
    ) -> tuple[int, Any]:
        match method, segments:
            case "GET", ["api", "tasks"]:
                return self._list(query)
            case "PATCH", ["api", "tasks", number]:
                return 200, self._change(int(number), body)
            case "POST", ["api", "tasks", number, "annotations"]:
                return 201, self._annotate(int(number), body)
            case "PATCH" | "DELETE", ["api", "annotations", number]:
                return self._reannotate(int(number), None if method == "DELETE" else body)
            case "POST", ["api", "predictions"]:
                task = self.tasks[body["task"]]
                task["predictions"].append({**body, "id": self._next()})
                return 201, task["predictions"][-1]
        raise KeyError(segments)

    def _import(self, project: int, body: list[dict[str, Any]]) -> tuple[int, Any]:
        self.imports.append(len(body))
        trouble, self.trouble = self.trouble, ""
        kept = body[: len(body) // 2] if trouble == "die_within_import" else body
        ids = []
        for task in kept:
            number = self._next()
            predictions = [] if trouble == "lose_predictions" else task.get("predictions", [])
            self.tasks[number] = {
                "id": number,
                "project": self.projects[project]["id"],
                "data": task["data"],
                "annotations": [],
                "predictions": [{**one, "id": self._next()} for one in predictions],
                "is_labeled": False,
                "updated_at": _now(),
            }
            ids.append(number)
        if trouble:
            raise _Died
        return 201, {"task_count": len(ids), "task_ids": ids}

    def _list(self, query: Mapping[str, str]) -> tuple[int, Any]:
        self.projects[int(query["project"])]
        asked = json.loads(query.get("query", "{}"))
        tasks = [one for one in self.tasks.values() if one["project"] == int(query["project"])]
        filters = asked.get("filters", {})
        items = [_condition(item) for item in filters.get("items", [])]
        if items:
            every = all if filters["conjunction"] == "and" else any
            tasks = [one for one in tasks if every(item(one) for item in items)]
        for column in asked.get("ordering", []):
            name = column.removeprefix("-").removeprefix("tasks:")
            tasks.sort(key=lambda one, name=name: one[name], reverse=column.startswith("-"))
        return 200, _page([_shown(one) for one in tasks], query, "tasks", "total")

    def _change(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        self.tasks[number] |= {**body, "updated_at": _now()}
        return _shown(self.tasks[number])

    def _annotate(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        task = self.tasks[number]
        made = {
            "completed_by": 1, "was_cancelled": False, "lead_time": None, **body,
            "id": self._next(), "updated_at": _now(), "task": number,
        }  # fmt: skip
        task["annotations"].append(made)
        task["updated_at"] = _now()
        overlap = self.projects[task["project"]].get("maximum_annotations", 1)
        task["is_labeled"] = task["is_labeled"] or len(task["annotations"]) >= overlap
        self._tell(task["project"], "ANNOTATION_CREATED")
        return made

    def _tell(self, project: int, action: str) -> None:
        """Call the project's webhooks; whoever does not listen is not waited for."""
        for hook in self.hooks:
            if hook["project"] == project and action in hook["actions"]:
                with contextlib.suppress(httpx.HTTPError):
                    body, headers = {"action": action}, hook["headers"]
                    httpx.post(hook["url"], json=body, headers=headers, timeout=1, trust_env=False)

    def _reannotate(self, number: int, body: dict[str, Any] | None) -> tuple[int, Any]:
        for task in self.tasks.values():
            for annotation in task["annotations"]:
                if annotation["id"] != number:
                    continue
                task["updated_at"] = _now()
                if body is None:
                    task["annotations"].remove(annotation)
                    return 204, None
                annotation |= {**body, "updated_at": _now()}
                return 200, annotation
        raise KeyError(number)

    def _next(self) -> int:
        self._number += 1
        return self._number


class _Died(Exception):
    """The server is gone before it has answered."""


_last = datetime(2026, 11, 21, tzinfo=UTC)


def _now() -> str:
    """Later at each call, however coarse the clock."""
    global _last
    _last = max(datetime.now(UTC), _last + timedelta(microseconds=1))
    return _last.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _shown(task: dict[str, Any]) -> dict[str, Any]:
    live = [one for one in task["annotations"] if not one["was_cancelled"]]
    return {
        **task,
        "total_annotations": len(live),
        "cancelled_annotations": len(task["annotations"]) - len(live),
        "total_predictions": len(task["predictions"]),
    }


def _condition(item: Mapping[str, Any]) -> Callable[[dict[str, Any]], bool]:
    name = item["filter"].removeprefix("filter:tasks:")
    value = item["value"]
    if item["operator"] == "greater":
        return lambda task: _shown(task)[name] > value
    assert item["operator"] == "greater_or_equal", item
    return lambda task: _shown(task)[name] >= value


def _page(found: list[Any], query: Mapping[str, str], name: str, count: str) -> dict[str, Any]:
    size, page = int(query.get("page_size", 100)), int(query.get("page", 1))
    rows = found[(page - 1) * size : page * size]
    return {name: rows, count: len(found), "next": None, "previous": None}


def wait_until(found: Callable[[], bool], *, at_most_s: float) -> None:
    """Wait for something that another process or thread does."""
    deadline = time.monotonic() + at_most_s
    while not found():
        assert time.monotonic() < deadline, f"nothing happened within {at_most_s} s"
        time.sleep(0.02)
