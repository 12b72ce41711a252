"""A Hugging Face hub on loopback: the few requests that downloading a model takes."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Serves one model; enter it to start it.

    Attributes:
        repository: `owner/name` of the model.
        files: Path -> content.
        stalls: Names of files whose download begins and never ends.
        began: Set when a stalling download has begun.
    """

    repository: str
    files: dict[str, bytes]
    stalls: frozenset[str] = frozenset()
    began: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub._answer(self, with_body=False)

            def do_GET(self) -> None:
                hub._answer(self, with_body=True)

            def log_message(self, *_: Any) -> None:
                """Stay quiet."""

        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, request: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        path = request.path.partition("?")[0]
        self.asked.append(path)
        resolve = f"/{self.repository}/resolve/{COMMIT}/"
        if path.startswith(f"/api/models/{self.repository}"):
            body = json.dumps(self._listing(path)).encode()
            self._send(request, body, {"content-type": "application/json"}, with_body=with_body)
        elif path.startswith(resolve) and path.removeprefix(resolve) in self.files:
            name = path.removeprefix(resolve)
            content = self.files[name]
            headers = {
                "etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "x-repo-commit": COMMIT,
            }
            stalls = with_body and name in self.stalls
            self._send(request, content, headers, with_body=with_body, stalls=stalls)
        else:
            request.send_response(404)
            request.send_header("x-error-code", "RepoNotFound")
            request.send_header("content-length", "0")
            request.end_headers()

    def _listing(self, path: str) -> Any:
        if "/tree/" in path:
            return [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in self.files.items()
            ]
        return {
            "id": self.repository,
            "sha": COMMIT,
            "siblings": [{"rfilename": name} for name in self.files],
            "cardData": {"license": "mit"},
        }

    def _send(
        self,
        request: BaseHTTPRequestHandler,
        body: bytes,
        headers: dict[str, str],
        *,
        with_body: bool,
        stalls: bool = False,
    ) -> None:
        request.send_response(200)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        if stalls:
            request.wfile.write(body[: len(body) // 2])
            request.wfile.flush()
            self.began.set()
            self._over.wait(60)
        elif with_body:
            request.wfile.write(body)
