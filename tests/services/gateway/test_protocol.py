"""An answer's head and body leave in one piece, and a head that waits for its body does not wait."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from services.gateway.answers import Receive, Scope, Send, send_json
from services.gateway.protocol import BoundedProtocol
from tests.conftest import free_port
from tests.services.gateway.conftest import served

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"4")]


class Wire:
    """What a client gets, one piece after another."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(10)

    def ask(self, *requests: str, more: str = "") -> None:
        """Send requests, each a method and a path, at once."""
        wanted = (f"{one} HTTP/1.1\r\nhost: x\r\n{more}\r\n" for one in requests)
        self.socket.sendall("".join(wanted).encode())

    def piece(self) -> bytes:
        return self.socket.recv(65536)

    def rest(self) -> bytes:
        return b"".join(iter(self.piece, b""))


class Server:
    """Answers as its path says; `/late` says its body when it is let."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/bare":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
        elif scope["path"] == "/late":
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await asyncio.to_thread(self.may_go_on.wait, 10)
            await send({"type": "http.response.body", "body": b"late"})
        elif scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS[:1]})
            for piece in (b"one", b"two"):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})
        else:
            await receive()
            await send_json(send, 200, scope["path"].encode(), [])


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    port = free_port()
    with served(server, port, http=BoundedProtocol, lifespan="off", log_config=None):
        wire = Wire(port)
        yield wire
        wire.socket.close()
        server.may_go_on.set()


def test_head_and_body_come_in_one_piece(wire: Wire) -> None:
    for path in ("/one", "/another"):
        wire.ask(f"GET {path}")
        head, _, body = wire.piece().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == path.encode()


def test_a_head_does_not_wait_for_a_body_that_comes_late(wire: Wire, server: Server) -> None:
    wire.ask("GET /late")
    assert wire.piece().endswith(b"content-length: 4\r\n\r\n")
    server.may_go_on.set()
    assert wire.piece() == b"late"


def test_a_stream_begins_with_its_head(wire: Wire) -> None:
    wire.ask("GET /stream", more="connection: close\r\n")
    head, _, body = wire.rest().partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


@pytest.mark.parametrize("request_line", ["HEAD /one", "GET /bare"])
def test_an_answer_without_a_body_arrives(wire: Wire, request_line: str) -> None:
    wire.ask(request_line)
    said = wire.piece()
    assert said.startswith(b"HTTP/1.1 20")
    assert said.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("request_line", ["GET /one", "HEAD /one", "GET /bare"])
def test_a_connection_that_ends_says_all_before(wire: Wire, request_line: str) -> None:
    wire.ask(request_line, more="connection: close\r\n")
    said = wire.rest()
    assert said.startswith(b"HTTP/1.1 20")
    assert b"connection: close" in said
    assert said.endswith(b"/one" if request_line == "GET /one" else b"\r\n\r\n")


def test_answers_to_requests_that_came_together_keep_their_order(wire: Wire) -> None:
    wire.ask("GET /first", "GET /stream", "HEAD /third", "GET /fourth", "GET /bare")
    wire.ask("GET /last", more="connection: close\r\n")
    said = wire.rest()
    places = [said.index(one) for one in (b"/first", b"two", b"/fourth", b" 204 ", b"/last")]
    assert places == sorted(places)
    assert said.count(b"HTTP/1.1 20") == 6


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(wire: Wire) -> None:
    wire.ask("POST /body", more="content-length: 4\r\nexpect: 100-continue\r\n")
    assert wire.piece() == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.socket.sendall(b"said")
    assert wire.piece().endswith(b"\r\n\r\n/body")
