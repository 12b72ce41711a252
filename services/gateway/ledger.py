"""Where outcomes are written and routes are read: here, or in a process on another core."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any, Protocol

from sqlalchemy.exc import SQLAlchemyError

from services import bootstrap
from services import settings as configuration
from services.errors import ConsoleError, Unavailable
from services.gateway.looking import Looker, Seen
from services.gateway.outcome import Outcome
from services.gateway.parts import Parts
from services.gateway.recording import Unrecordable, record
from services.gateway.turns import take_long_turns

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("!Q")

GC_THRESHOLD = 20_000
"""Allocations between two collections of young objects; answers leave few cycles behind."""


class Ledger(Protocol):
    """Makes outcomes durable, some at a time, and looks at what requests need to know.

    Beside that it keeps the evidence (`services.attestation.housekeeping`).
    """

    def open(self) -> None:
        """Begin to keep the evidence."""
        ...

    async def write(self, outcomes: Sequence[Outcome], *, again: bool = False) -> None:
        """Commit them, all or none; any failure means none.

        Asked by one task, one thing after another.

        Args:
            again: Some of them may be recorded already: leave those as they are.

        Raises:
            Unrecordable: It is the outcomes that cannot be written.
            Unavailable: Nothing can be written at the moment.
        """
        ...

    async def tend(self, *, sign: bool) -> None:
        """Put the events of all processes into the log, and sign its head if asked."""
        ...

    async def look(self) -> Seen | None:
        """Keys, routes and the rest as they are now; None where nothing has changed."""
        ...

    async def close(self) -> None:
        """Let go of what it holds."""
        ...


class Recorder:
    """Writes, and returns when it is written.

    Args:
        parts: The domains whose rows are written.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def write(self, outcomes: Sequence[Outcome], *, again: bool = False) -> None:
        """See `Ledger`."""
        record(self._parts, outcomes, again=again)

    def tend(self, *, sign: bool) -> None:
        """See `Ledger`."""
        self._parts.audit.sequence()
        if sign:
            self._parts.audit.checkpoint()


class LocalLedger:
    """Writes and looks in threads of this process.

    Args:
        parts: The domains whose rows are written and read.
    """

    def __init__(self, parts: Parts) -> None:
        self._recorder, self._looker = Recorder(parts), Looker(parts)
        self._housekeeping = parts.evidence.housekeeping
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="gateway-ledger")
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="gateway-looker")

    def open(self) -> None:
        """See `Ledger`."""
        self._housekeeping.start()

    async def write(self, outcomes: Sequence[Outcome], *, again: bool = False) -> None:
        """See `Ledger`."""
        loop = asyncio.get_running_loop()
        write = partial(self._recorder.write, outcomes, again=again)
        await loop.run_in_executor(self._writing, write)

    async def tend(self, *, sign: bool) -> None:
        """See `Ledger`."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._writing, lambda: self._recorder.tend(sign=sign))

    async def look(self) -> Seen | None:
        """See `Ledger`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._looking, self._looker.look)

    async def close(self) -> None:
        """See `Ledger`."""
        await asyncio.to_thread(self._housekeeping.stop)
        await asyncio.to_thread(self._writing.shutdown)
        await asyncio.to_thread(self._looking.shutdown)


@dataclass(slots=True)
class _Pipe:
    """One of the ways to the child; one question at a time."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, question: tuple[Any, ...]) -> Any:
        """What the child answers.

        Raises:
            EOFError, OSError: The child has ended.
            ConsoleError: It could not do what it was asked for.
        """
        self.writer.write(_framed(question))
        length = _LENGTH.unpack(await self.reader.readexactly(_LENGTH.size))[0]
        failure, answer = pickle.loads(await self.reader.readexactly(length))
        if failure is not None:
            raise failure(answer)
        return answer


class Scribe:
    """Has a child process write and look, so that neither takes time from answering.

    Hashing, signing, commits and the reading of routes take another core. The child lives as long
    as its pipes: when the gateway is killed it writes what it was given and ends. A child that died
    is replaced at the next question; what becomes of the batch it had is for the writer to say.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._pipes: tuple[_Pipe, _Pipe] | None = None
        self._starting = asyncio.Lock()

    def open(self) -> None:
        """See `Ledger`; the child does so by itself."""

    async def write(self, outcomes: Sequence[Outcome], *, again: bool = False) -> None:
        """See `Ledger`."""
        await self._ask(_WRITING, ("write", outcomes, again))

    async def tend(self, *, sign: bool) -> None:
        """See `Ledger`."""
        await self._ask(_WRITING, ("tend", sign))

    async def look(self) -> Seen | None:
        """See `Ledger`."""
        found: Seen | None = await self._ask(_LOOKING, ("look",))
        return found

    async def close(self) -> None:
        """End the child, which writes nothing that was not asked for."""
        for pipe in self._pipes or ():
            pipe.writer.close()
        if self._child is not None:
            await asyncio.to_thread(self._child.wait, 20)
        self._child = self._pipes = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None before it is started."""
        return None if self._child is None else self._child.pid

    def kill(self) -> None:
        """Kill the child, as whatever kills processes would."""
        if self._child is not None:
            self._child.kill()
            self._child.wait(20)

    async def _start(self) -> tuple[_Pipe, _Pipe]:
        """Start the child; it is ready when it has answered."""
        pairs = [socket.socketpair() for _ in (_WRITING, _LOOKING)]
        numbers = [theirs.fileno() for _, theirs in pairs]
        self._child = subprocess.Popen(
            [sys.executable, "-m", "services.gateway.ledger", *map(str, numbers)],
            pass_fds=numbers,
            stdin=subprocess.DEVNULL,
        )
        for _, theirs in pairs:
            theirs.close()
        first, second = [_Pipe(*await asyncio.open_connection(sock=ours)) for ours, _ in pairs]
        return first, second

    async def _ask(self, which: int, question: tuple[Any, ...]) -> Any:
        async with self._starting:
            if self._pipes is None:
                self._pipes = await self._start()
        pipes = self._pipes
        try:
            return await pipes[which].ask(question)
        except (EOFError, OSError) as error:
            if self._pipes is pipes:
                self._pipes = None
                for pipe in pipes:
                    pipe.writer.close()
                self.kill()
            raise Unavailable("the process that records answers has ended") from error


_WRITING, _LOOKING = 0, 1


def _framed(content: object) -> bytes:
    data = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


def serve(doing: Mapping[str, Callable[..., object]], pipe: socket.socket) -> None:
    """Do what comes through a pipe, and say what came of it, until the pipe ends."""
    with pipe, pipe.makefile("rb") as questions, pipe.makefile("wb") as answers:
        while len(head := questions.read(_LENGTH.size)) == _LENGTH.size:
            length = _LENGTH.unpack(head)[0]
            asked = questions.read(length)
            if len(asked) != length:
                return  # The gateway was killed while it asked.
            try:
                answers.write(_framed(_answer(doing, *pickle.loads(asked))))
                answers.flush()
            except OSError:
                return


def _answer(
    doing: Mapping[str, Callable[..., object]], what: str, *asked: Any
) -> tuple[type[ConsoleError] | None, object]:
    """The answer, or the kind of failure and what is to be said of it."""
    try:
        return None, doing[what](*asked)
    except Unrecordable as error:
        return Unrecordable, error.message
    except ConsoleError as error:
        return Unavailable, error.message
    except Exception as error:
        # Whatever it is, the request that waits must hear of it, and the next batch may work.
        if not isinstance(error, SQLAlchemyError | OSError):
            log.exception("the process that records met a bug")
        return Unavailable, "the database refused it"


def spare_the_collector() -> None:
    """Have the collector leave alone what stays for ever, and look less often at the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 50, 50)


def main(writing: int, looking: int) -> None:
    """The child: ends with its pipes, not with a signal that was meant for the gateway."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    settings = configuration.load()
    logging.basicConfig(level=settings.log_level.upper())
    take_long_turns()
    parts = bootstrap.build(settings)
    recorder, looker = Recorder(parts), Looker(parts)
    spare_the_collector()
    reading = Thread(
        target=serve, args=({"look": looker.look}, socket.socket(fileno=looking)), daemon=True
    )
    reading.start()
    parts.evidence.housekeeping.start()
    doing: dict[str, Callable[..., object]] = {
        "write": lambda outcomes, again: recorder.write(outcomes, again=again),
        "tend": lambda sign: recorder.tend(sign=sign),
    }
    try:
        serve(doing, socket.socket(fileno=writing))
    finally:
        parts.evidence.housekeeping.stop()
        parts.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
