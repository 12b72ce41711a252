"""The HTTP side: `SimulatedApiServer(cluster)` is a context manager with a `kubeconfig`."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
import traceback
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.fakes.kubernetes import tls
from tests.fakes.kubernetes.cluster import SimulatedCluster
from tests.fakes.kubernetes.objects import Resource
from tests.fakes.kubernetes.refusals import Refused, bad_request

TOKEN = "simulated-token-3f9c"
PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class _Cut(Exception):
    """The connection ends here, without an answer."""


class SimulatedApiServer:
    """Serves one simulated cluster on a free port of loopback."""

    def __init__(self, cluster: SimulatedCluster | None = None) -> None:
        self.cluster = cluster or SimulatedCluster()
        self.bugs: list[str] = []
        self._connections: set[socket.socket] = set()

    def __enter__(self) -> Self:
        outer = self

        class Handler(_Handler):
            server_of = outer

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def get_request(self) -> tuple[Any, Any]:
                connection, address = super().get_request()
                # The handshake is the handler's thread's: nobody can hold up the others.
                wrapped = tls.context().wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
                return wrapped, address

            def handle_error(self, *_: Any) -> None:
                """A connection that was cut on purpose."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.cluster.close()
        assert not self.bugs, f"the simulation itself failed:\n{self.bugs[0]}"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig(self, folder: Path, *, token: str = TOKEN, trusted: bool = True) -> Path:
        """Write a kubeconfig that points here; its path."""
        cluster = {"server": self.url}
        if trusted:
            cluster["certificate-authority-data"] = base64.b64encode(tls.authority()).decode()
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "simulated",
            "clusters": [{"name": "simulated", "cluster": cluster}],
            "users": [{"name": "console", "user": {"token": token}}],
            "contexts": [
                {"name": "simulated", "context": {"cluster": "simulated", "user": "console"}}
            ],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(content))
        return path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: SimulatedApiServer

    def setup(self) -> None:
        super().setup()
        self.cluster = self.server_of.cluster
        self.server_of._connections.add(self.connection)

    def finish(self) -> None:
        self.server_of._connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            if self.headers.get("authorization") != f"Bearer {TOKEN}":
                raise Refused(401, "Unauthorized", "Unauthorized")
            self._route([unquote(one) for one in parts.path.split("/") if one], query, body)
        except Refused as error:
            if error.plain:
                self._text(error.code, str(error))
            else:
                self._json(error.code, error.status)
        except _Cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            raise  # the client has gone
        except Exception:
            self.server_of.bugs.append(traceback.format_exc())
            raise

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _route(self, path: list[str], query: dict[str, str], body: bytes) -> None:
        match path:
            case ["version"]:
                self._json(200, {"major": "1", "minor": "34", "gitVersion": "v1.34.0+simulated"})
            case ["api"]:
                self._json(200, {"kind": "APIVersions", "versions": ["v1"]})
            case ["apis"]:
                self._json(200, self._groups())
            case ["api", "v1"]:
                self._json(200, self._resources("", "v1"))
            case ["apis", group, version]:
                self._json(200, self._resources(group, version))
            case ["openapi", "v3", "apis", group, version]:
                self._json(200, self._openapi(group, version))
            case ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"]:
                self._json(201, self._review(json.loads(body)))
            case ["api", "v1", *rest]:
                self._on("", "v1", rest, query, body)
            case ["apis", group, version, *rest]:
                self._on(group, version, rest, query, body)
            case _:
                raise Refused(404, "NotFound", "404 page not found", plain=True)

    def _on(
        self, group: str, version: str, rest: list[str], query: dict[str, str], body: bytes
    ) -> None:
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        resource = self.cluster.resource(group, version, rest[0])
        name = rest[1] if len(rest) > 1 else ""
        under = rest[2] if len(rest) > 2 else ""
        verb = VERBS.get(self.command) or ("get" if name else "list")
        with self.cluster.lock:
            self.cluster.requests.append((verb, resource.plural, query))
        after = self._fault(verb, resource)
        if under == "log":
            self.cluster.check(verb, replace(resource, plural="pods/log"), name, namespace)
        else:
            self.cluster.check(verb, resource, name, namespace)
        if self.command == "GET":
            self._read(resource, namespace, name, under, query, after)
        else:
            self._write(resource, namespace, name, under, query, body, after)

    def _fault(self, verb: str, resource: Resource) -> Any:
        """What goes wrong now, or after the request was carried out."""
        with self.cluster.lock:
            for fault in self.cluster.faults:
                if not fault.fits(verb, resource.plural):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                if not fault.times:
                    self.cluster.faults.remove(fault)
                if fault.after:
                    return fault
                self._fail(fault)
        return None

    def _fail(self, fault: Any) -> None:
        if fault is None:
            return
        if not fault.status:
            raise _Cut
        reasons = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
        raise Refused(fault.status, reasons.get(fault.status, "Unknown"), fault.message)

    def _read(
        self, resource: Resource, namespace: str, name: str, under: str, query: dict[str, str],
        after: Any,
    ) -> None:  # fmt: skip
        if under == "log":
            self._log(resource, namespace, name, query)
        elif name:
            found = self.cluster.get(resource, namespace, name)
            self._fail(after)
            self._json(200, found)
        elif query.get("watch") in {"true", "1"}:
            self._watch(resource, namespace, query)
        else:
            self._json(200, self.cluster.list(resource, namespace, query.get("labelSelector", "")))

    def _write(
        self, resource: Resource, namespace: str, name: str, under: str, query: dict[str, str],
        body: bytes, after: Any,
    ) -> None:  # fmt: skip
        warnings: list[str] = []
        if self.command == "DELETE":
            status, answer = 200, self.cluster.delete(resource, namespace, name, query)
        elif self.command == "POST":
            answer, warnings = self.cluster.create(
                resource, namespace, self._decode(body, ("application/json",)), query
            )
            status = 201
        else:
            patch = self.command == "PATCH"
            accepted = PATCHES if patch else ("application/json",)
            content = self._decode(body, accepted)
            kind = (self.headers.get("content-type") or "").partition(";")[0]
            if patch and kind == PATCHES[2] and resource.schema is not None:
                raise self._unsupported(PATCHES[:2])
            make = self.cluster.patched(kind, content) if patch else lambda _old: content
            status = 200
            answer, warnings = self.cluster.update(
                resource, namespace, name, query, make, patch=patch, status=under == "status"
            )
        self._fail(after)
        self._json(status, answer, warnings)

    def _decode(self, body: bytes, accepted: tuple[str, ...]) -> Any:
        kind = (self.headers.get("content-type") or "").partition(";")[0]
        # Without a content type a server takes the body for JSON, except in a patch.
        if kind not in accepted and (kind or self.command == "PATCH"):
            raise self._unsupported(accepted)
        try:
            return json.loads(body)
        except ValueError as error:
            raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error

    def _unsupported(self, accepted: tuple[str, ...]) -> Refused:
        return Refused(
            415, "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: "
            + ", ".join(accepted),
        )  # fmt: skip

    def _log(self, resource: Resource, namespace: str, name: str, query: dict[str, str]) -> None:
        pod = self.cluster.get(resource, namespace, name)
        path = self.cluster.kubelet.log(pod["metadata"]["uid"])
        if not path.exists():
            raise bad_request(
                f'container "node" in pod "{name}" is waiting to start: ContainerCreating'
            )
        text = path.read_bytes()
        if "tailLines" in query:
            text = b"".join(text.splitlines(keepends=True)[-int(query["tailLines"]) :])
        if "limitBytes" in query:
            text = text[: int(query["limitBytes"])]
        self._text(200, text)

    def _watch(self, resource: Resource, namespace: str, query: dict[str, str]) -> None:
        """Events as a chunked stream, a bookmark at the end of the time that was asked for."""
        since = int(query.get("resourceVersion") or 0)
        deadline = time.monotonic() + float(query.get("timeoutSeconds") or 5)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if since and since < self.cluster.oldest:
            expired = Refused(410, "Expired", f"too old resource version: {since}")
            self._chunk({"type": "ERROR", "object": expired.status})
            self._chunk(None)
            return
        while (left := deadline - time.monotonic()) > 0:
            with self.cluster.changed:
                fresh = [event for event in self.cluster.events if event[0] > since]
                if not fresh:
                    self.cluster.changed.wait(left)
                    continue
            for version, what, key, thing in fresh:
                since = version
                if key[:2] == (resource.group, resource.plural) and namespace in {"", key[2]}:
                    self._chunk({"type": what, "object": self.cluster._shown(thing, resource)})
        if query.get("allowWatchBookmarks"):
            kind = {"kind": resource.kind, "metadata": {"resourceVersion": str(since)}}
            self._chunk({"type": "BOOKMARK", "object": kind})
        self._chunk(None)

    def _chunk(self, event: dict[str, Any] | None) -> None:
        data = b"" if event is None else json.dumps(event).encode() + b"\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _groups(self) -> dict[str, Any]:
        versions: dict[str, list[str]] = {}
        for group, version, _ in self.cluster.resources:
            if group and version not in versions.setdefault(group, []):
                versions[group].append(version)
        groups = [
            {"name": group, "versions": [{"groupVersion": f"{group}/{v}", "version": v} for v in found],
             "preferredVersion": {"groupVersion": f"{group}/{found[-1]}", "version": found[-1]}}
            for group, found in versions.items()
        ]  # fmt: skip
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def _resources(self, group: str, version: str) -> dict[str, Any]:
        found = [
            {"name": r.plural, "singularName": r.kind.lower(), "namespaced": r.namespaced,
             "kind": r.kind, "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]}
            for r in self.cluster.resources.values() if (r.group, r.version) == (group, version)
        ]  # fmt: skip
        if not found:
            raise Refused(404, "NotFound", "404 page not found", plain=True)
        name = f"{group}/{version}".lstrip("/")
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": name,
            "resources": found,
        }

    def _openapi(self, group: str, version: str) -> dict[str, Any]:
        schemas = {
            f"{group}.{version}.{r.kind}": {
                **(r.schema or {"type": "object"}),
                "x-kubernetes-group-version-kind": [
                    {"group": group, "version": version, "kind": r.kind}
                ],
            }
            for r in self.cluster.resources.values()
            if (r.group, r.version) == (group, version)
        }
        return {"openapi": "3.0.0", "components": {"schemas": schemas}}

    def _review(self, body: dict[str, Any]) -> dict[str, Any]:
        asked = body["spec"]["resourceAttributes"]
        allowed = self.cluster.may(asked["verb"], asked["resource"])
        return {**body, "status": {"allowed": allowed}}

    def _json(self, code: int, content: Any, warnings: list[str] | None = None) -> None:
        self._send(code, "application/json", json.dumps(content).encode(), warnings or [])

    def _text(self, code: int, content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        self._send(code, "text/plain", data, [])

    def _send(self, code: int, kind: str, data: bytes, warnings: list[str]) -> None:
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        for warning in warnings:
            escaped = warning.replace("\\", "\\\\").replace('"', '\\"')
            self.send_header("warning", f'299 - "{escaped}"')
        self.end_headers()
        self.wfile.write(data)
