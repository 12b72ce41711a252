"""The connections to the engine, before a server that does what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.wire import HIGH_WATER, MAX_HEAD, Lost, Wire

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
HELLO = OK + b"content-length: 5\r\n\r\nhello"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"


@dataclass
class Server:
    """What arrived, by connection."""

    wire: Wire
    requests: list[list[bytes]] = field(default_factory=list)
    ended: int = 0


async def request(reader: asyncio.StreamReader) -> bytes:
    """One request: its head and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    return head + await reader.readexactly(int(fields[b"content-length"]))


@asynccontextmanager
async def serving(answer: Serve, *, path: str = "") -> AsyncIterator[Server]:
    """A server on loopback; every connection is handled by `answer`."""
    made: Server

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            made.ended += 1
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    wire = Wire(
        f"http://127.0.0.1:{port}{path}",
        connect_s=5,
        kept_s=30,
        headers={"content-type": "application/json"},
    )
    made = Server(wire)
    async with server:
        yield made
        wire.close()


def saying(server: list[Server], *answers: bytes, cut: list[int] | None = None) -> Serve:
    """Give these answers to the requests of a connection, in turn, then close it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen: list[bytes] = []
        server[0].requests.append(seen)
        for said in answers:
            seen.append(await request(reader))
            places = sorted({place % (len(said) + 1) for place in cut or []} | {0, len(said)})
            for start, end in zip(places, places[1:], strict=False):
                writer.write(said[start:end])
                await writer.drain()
                await asyncio.sleep(0)

    return answer


async def ask(wire: Wire, body: bytes = b"{}") -> tuple[int, bytes]:
    response = await wire.post("/v1/chat", body)
    try:
        return response.status, await response.read()
    finally:
        response.close()


async def test_a_connection_is_used_again() -> None:
    here: list[Server] = []
    async with serving(saying(here, *[HELLO, CHUNKED] * 5), path="/base") as server:
        here.append(server)
        for number in range(10):
            assert await ask(server.wire, b"%d" % number) == (200, b"hello")
    (seen,) = server.requests
    assert [one[-1:] for one in seen] == [b"%d" % number for number in range(10)]
    assert seen[0].startswith(b"POST /base/v1/chat HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"content-type: application/json\r\n" in seen[0]


async def test_requests_at_once_have_connections_of_their_own() -> None:
    here: list[Server] = []
    async with serving(saying(here, HELLO)) as server:
        here.append(server)
        assert (
            await asyncio.gather(*(ask(server.wire) for _ in range(20))) == [(200, b"hello")] * 20
        )
    assert len(server.requests) == 20


@settings(max_examples=60)
@given(
    answer=st.sampled_from([HELLO, CHUNKED, b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED]),
    cut=st.lists(st.integers(0, 200), max_size=60),
)
def test_an_answer_cut_anywhere_is_the_same(answer: bytes, cut: list[int]) -> None:
    async def run() -> None:
        here: list[Server] = []
        async with serving(saying(here, answer, answer, cut=cut)) as server:
            here.append(server)
            assert [await ask(server.wire), await ask(server.wire)] == [(200, b"hello")] * 2
            assert len(server.requests) == 1

    asyncio.run(run())


async def test_a_body_may_end_with_its_connection() -> None:
    here: list[Server] = []
    async with serving(saying(here, OK + b"\r\nhello")) as server:
        here.append(server)
        assert await ask(server.wire) == (200, b"hello")
        assert await ask(server.wire) == (200, b"hello")
    assert len(server.requests) == 2


async def test_what_the_server_closes_meanwhile_is_not_used_again() -> None:
    here: list[Server] = []
    async with serving(saying(here, HELLO)) as server:
        here.append(server)
        assert await ask(server.wire) == (200, b"hello")
        while not server.ended:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)  # its end is on its way
        assert await ask(server.wire) == (200, b"hello")
    assert len(server.requests) == 2


async def test_a_server_that_ends_with_a_request_in_its_hands_is_not_asked_again() -> None:
    here: list[Server] = []

    async def takes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        here[0].requests.append([await request(reader)])

    async with serving(takes) as server:
        here.append(server)
        with pytest.raises(Lost) as lost:
            await ask(server.wire)
        assert not lost.value.is_unsent
    assert len(server.requests) == 1


async def test_nobody_there_means_that_nothing_was_sent() -> None:
    async with serving(saying([], HELLO)) as server:
        pass
    with pytest.raises(Lost) as lost:
        await ask(server.wire)
    assert lost.value.is_unsent


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        OK + b"x-long: " + b"x" * (8 * MAX_HEAD),
        OK + b"content-length: 10\r\n\r\nhello",
        OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhel",
        b"",
    ],
    ids=["no HTTP", "endless headers", "too short", "half a chunk", "nothing"],
)
async def test_a_broken_answer_is_lost(answer: bytes) -> None:
    here: list[Server] = []
    async with serving(saying(here, answer)) as server:
        here.append(server)
        with pytest.raises(Lost):
            await ask(server.wire)


async def test_who_gives_up_waiting_for_an_answer_closes_the_connection() -> None:
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        await reader.read()
        gone.set()

    async with serving(silent) as server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ask(server.wire)
        await asyncio.wait_for(gone.wait(), 10)


async def test_silence_ends_an_answer() -> None:
    async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(OK + b"content-length: 10\r\n\r\nhello")
        await reader.read()

    async with serving(stalls) as server:
        response = await server.wire.post("/", b"", silence_s=0.05)
        with pytest.raises(Lost) as amid:
            await response.read()
        response.close()
    assert amid.value.is_silent


async def test_an_answer_that_is_not_read_to_its_end_closes_the_connection() -> None:
    gone = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await reader.read()
        gone.set()

    async with serving(endless) as server:
        response = await server.wire.post("/", b"")
        assert await anext(response.pieces()) == b"hello"
        response.close()
        await asyncio.wait_for(gone.wait(), 10)


async def test_a_reader_who_is_slow_holds_the_server_back() -> None:
    sent = 0
    piece = b"x" * 65_536

    async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await request(reader)
        writer.write(OK + b"content-length: %d\r\n\r\n" % (len(piece) * 1000))
        for _ in range(1000):
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    async with serving(floods) as server:
        response = await server.wire.post("/", b"")
        before = -1
        while sent != before:  # until nothing goes out any more
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 1000 * len(piece)
        assert response._connection._buffered < 8 * HIGH_WATER
        assert len(await response.read()) == 1000 * len(piece)
        response.close()


async def test_a_large_request_arrives_whole() -> None:
    here: list[Server] = []
    async with serving(saying(here, HELLO)) as server:
        here.append(server)
        body = bytes(range(256)) * 40_000
        assert await ask(server.wire, body) == (200, b"hello")
    assert server.requests[0][0].endswith(body)
