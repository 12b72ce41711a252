"""Clients that send by drops: they are refused in time, and everybody else is not."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from services.errors import ConsoleError
from services.gateway import answers
from services.gateway.answers import Message, Receive, Refused, Scope, Send, read_body, send_error
from services.gateway.protocol import HEAD_S, BoundedProtocol
from tests.conftest import free_port
from tests.services.gateway.conftest import served

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n"


class Hasty(BoundedProtocol):
    """The protocol, with less patience than a test has."""

    head_s = 0.3


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Says what it was sent."""
    try:
        said = await read_body(dict(scope["headers"]), receive, pause_s=0.3)
    except ConsoleError as error:
        await send_error(send, error, "id")
        return
    await answers.send_json(send, 200, said, [])


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    with served(app, port, http=Hasty, lifespan="off", log_config=None, timeout_keep_alive=1):
        yield port


def said(port: int, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """What the server says until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.settimeout(10)
        for piece in pieces:
            wire.sendall(piece)
            time.sleep(pause_s)
        found = b""
        while piece := wire.recv(65536):
            found += piece
        return found


def refusal(found: bytes) -> dict[str, Any]:
    assert found.startswith(b"HTTP/1.1 408 "), found
    head, _, body = found.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    error: dict[str, Any] = json.loads(body)["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert error["code"] == "request_timeout"
    return error


@pytest.mark.parametrize("begun", [b"P", HEAD, HEAD + b"x-long: y"])
def test_a_head_that_does_not_end_is_408(port: int, begun: bytes) -> None:
    assert "headers" in refusal(said(port, begun))["message"]


def test_a_head_that_drips_is_408_too(port: int) -> None:
    drops = [HEAD, b"a: b\r\n", b"c: d\r\n", b"e: f\r\n"]
    assert "headers" in refusal(said(port, *drops, pause_s=0.08))["message"]


@pytest.mark.parametrize("begun", [b"", b"ab"])
def test_a_body_that_stops_is_408(port: int, begun: bytes) -> None:
    assert "body" in refusal(said(port, HEAD + b"\r\n" + begun))["message"]


def test_a_request_in_pieces_that_keeps_moving_is_answered(port: int) -> None:
    pieces = [HEAD[:9], HEAD[9:], b"connection: close\r\n\r\n", b"ab", b"cd"]
    assert said(port, *pieces, pause_s=0.05).endswith(b"\r\n\r\nabcd")


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"\r\n\r\n"])
def test_a_connection_without_a_request_is_closed_without_a_word(port: int, begun: bytes) -> None:
    assert said(port, begun) == b""


def test_a_second_head_that_does_not_end_does_not_spoil_the_first_answer(port: int) -> None:
    found = said(port, HEAD + b"\r\nab", b"cd" + HEAD, pause_s=0.05)
    assert found.startswith(b"HTTP/1.1 200 ")
    assert b"abcdHTTP/1.1 408 " in found


def test_drops_that_come_just_in_time_are_no_progress() -> None:
    async def drips() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def read() -> None:
        await read_body({}, drips, pause_s=0.2)

    began = time.monotonic()
    with pytest.raises(Refused, match="no end") as refused:
        asyncio.run(read())
    assert refused.value.http_status == 408
    assert time.monotonic() - began < 5


def test_the_limits_are_those_of_the_documentation() -> None:
    assert (HEAD_S, answers.BODY_PAUSE_S, answers.BODY_BYTES_PER_S) == (10, 60, 1024)
