"""Gateways with settings of their own, in a thread or in a process, and engines that misbehave."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from services import bootstrap
from services import settings as configuration
from services.db import Database
from tests.conftest import free_port
from tests.fakes.engine import FakeEngine
from tests.services.gateway.conftest import Edge, environment, eventually


@dataclass
class Process:
    """A gateway in a process of its own."""

    edge: Edge
    variables: dict[str, str]
    log: Path
    running: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def pid(self) -> int:
        assert self.running is not None
        return self.running.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [sys.executable, "-m", "services.gateway"],
                env=os.environ | self.variables, stdout=log, stderr=log,
            )  # fmt: skip
        eventually(self.is_ready, 180)

    def is_ready(self) -> bool:
        assert self.running is not None
        assert self.running.poll() is None, self.log.read_text()
        try:
            return self.edge.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def end(self, number: int) -> int:
        assert self.running is not None
        self.running.send_signal(number)
        return self.running.wait(40)


@contextmanager
def process_over(
    database: Database, engine: FakeEngine, folder: Path, **variables: str
) -> Iterator[Process]:
    """A gateway in a process of its own, with more variables than usual; started and ready."""
    port = free_port()
    url = database.url.render_as_string(hide_password=False)
    env = environment(folder / "home", engine.url, url, port) | {
        "PARAM_GATEWAY_URL": f"http://127.0.0.1:{port}", **variables,
    }  # fmt: skip
    services = bootstrap.build(configuration.load(env, directory=folder))
    edge = Edge(f"http://127.0.0.1:{port}", services, engine, folder / "sources")
    made = Process(edge, env, folder / "gateway.log")
    try:
        with edge.http:
            made.start()
            yield made
    finally:
        if made.running is not None:
            made.running.kill()
            made.running.wait(10)
        services.close()


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Wire:
    """A server that says on the wire exactly what it is told to, whatever it is asked.

    Args:
        answer: Bytes of a whole HTTP answer, in the pieces in which they are sent.
        pause: Waits between two pieces; set to let them go.
    """

    def __init__(self, answer: list[bytes], *, closes: bool = True) -> None:
        self.answer, self.closes = answer, closes
        self.asked = 0
        self.port = 0
        self.go_on = threading.Event()
        self.go_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Wire:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10), "the wire did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        self._loop.close()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve(started))

    async def _serve(self, started: threading.Event) -> None:
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stopping.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client had enough
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n")
             if line.lower().startswith(b"content-length:")), 0,
        )  # fmt: skip
        await reader.readexactly(length)
        if head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            return
        self.asked += 1
        for piece in self.answer:
            await asyncio.to_thread(self.go_on.wait, 30)
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if not self.closes:
            await self._stopping.wait()


@contextmanager
def driven(edge: Edge) -> Iterator[None]:
    """The rollouts' driver as the worker runs it, beside a gateway."""
    stop = threading.Event()
    driver = bootstrap.rollout_driver(edge.services)
    thread = threading.Thread(target=driver.run, args=(stop,), kwargs={"every_s": 0.2})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        edge.services.engine.close()
    assert not thread.is_alive()
