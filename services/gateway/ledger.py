"""Where outcomes are written: in this process, or by a process of its own on another core."""

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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, Protocol

from sqlalchemy.exc import SQLAlchemyError

from services import bootstrap
from services import settings as configuration
from services.errors import ConsoleError, Unavailable
from services.gateway.outcome import Outcome
from services.gateway.parts import Parts
from services.gateway.recording import prices_of, write_batch

log = logging.getLogger(__name__)

Written = list[tuple[int, int]]
"""Cost in micro-units and place in the log of each outcome."""

_FAILURES = (ConsoleError, SQLAlchemyError, OSError)
_LENGTH = struct.Struct("!Q")

GC_THRESHOLD = 20_000
"""Allocations between two collections of young objects; answers leave few cycles behind."""


class Ledger(Protocol):
    """Makes outcomes durable, some at a time; asked by one task, one thing after another."""

    async def write(self, outcomes: Sequence[Outcome]) -> Written:
        """Commit them, all or none; any failure means none."""
        ...

    async def tend(self, *, sign: bool) -> None:
        """Put the events of all processes into the log, and sign its head if asked."""
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

    def write(self, outcomes: Sequence[Outcome]) -> Written:
        """See `Ledger`."""
        prices = prices_of(self._parts, outcomes)
        with self._parts.db.write() as session:
            return write_batch(self._parts, session, outcomes, prices)

    def tend(self, *, sign: bool) -> None:
        """See `Ledger`."""
        self._parts.audit.sequence()
        if sign:
            self._parts.audit.checkpoint()


class LocalLedger:
    """Writes in a thread of this process.

    Args:
        parts: The domains whose rows are written.
    """

    def __init__(self, parts: Parts) -> None:
        self._recorder = Recorder(parts)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gateway-ledger")

    async def write(self, outcomes: Sequence[Outcome]) -> Written:
        """See `Ledger`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._recorder.write, outcomes)

    async def tend(self, *, sign: bool) -> None:
        """See `Ledger`."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, lambda: self._recorder.tend(sign=sign))

    async def close(self) -> None:
        """See `Ledger`."""
        await asyncio.to_thread(self._thread.shutdown)


class Scribe:
    """Has a child process write, so that hashing, signing and the commit take another core.

    The child lives as long as its pipe: when the gateway is killed it writes what it was given and
    ends. A child that died is replaced at the next batch; the batch it had is refused, and whether
    it was recorded is found out from its rows (`services.gateway.recovery`).
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def write(self, outcomes: Sequence[Outcome]) -> Written:
        """See `Ledger`."""
        found: Written = await self._ask(("write", outcomes))
        return found

    async def tend(self, *, sign: bool) -> None:
        """See `Ledger`."""
        await self._ask(("tend", sign))

    async def close(self) -> None:
        """End the child, which writes nothing that was not asked for."""
        if self._pipe is not None:
            self._pipe[1].close()
        if self._child is not None:
            await asyncio.to_thread(self._child.wait, 20)
        self._child = self._pipe = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None before it is started."""
        return None if self._child is None else self._child.pid

    def kill(self) -> None:
        """Kill the child, as whatever kills processes would."""
        if self._child is not None:
            self._child.kill()
            self._child.wait(20)

    async def _start(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Start the child; it is ready when it has answered."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "services.gateway.ledger", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
            )
        return await asyncio.open_connection(sock=ours)

    async def _ask(self, question: tuple[str, object]) -> Written:
        if self._pipe is None:
            self._pipe = await self._start()
        reader, writer = self._pipe
        try:
            writer.write(_framed(question))
            length = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))[0]
            is_done, answer = pickle.loads(await reader.readexactly(length))
        except (EOFError, OSError) as error:
            writer.close()
            self._pipe = None
            self.kill()
            raise Unavailable("the process that records answers has ended") from error
        if not is_done:
            raise Unavailable(answer)
        written: Written = answer
        return written


def _framed(content: object) -> bytes:
    data = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


def serve(recorder: Recorder, questions: BinaryIO, answers: BinaryIO) -> None:
    """Write what comes through a pipe until it ends."""
    while len(head := questions.read(_LENGTH.size)) == _LENGTH.size:
        length = _LENGTH.unpack(head)[0]
        asked = questions.read(length)
        if len(asked) != length:
            return  # The gateway was killed while it asked.
        try:
            answers.write(_framed(_answer(recorder, *pickle.loads(asked))))
            answers.flush()
        except OSError:
            return


def _answer(recorder: Recorder, what: str, asked: Any) -> tuple[bool, Written | str]:
    try:
        if what == "write":
            return True, recorder.write(asked)
        recorder.tend(sign=asked)
    except ConsoleError as error:
        return False, str(error)
    except Exception as error:
        # Whatever it is, the request that waits must hear of it, and the next batch may work.
        if not isinstance(error, _FAILURES):
            log.exception("a batch could not be recorded")
        return False, "the database refused it"
    return True, []


def spare_the_collector() -> None:
    """Have the collector leave alone what stays for ever, and look less often at the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 50, 50)


def main(descriptor: int) -> None:
    """The child: ends with its pipe, not with a signal that was meant for the gateway."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    settings = configuration.load()
    logging.basicConfig(level=settings.log_level.upper())
    parts = bootstrap.build(settings)
    spare_the_collector()
    try:
        with socket.socket(fileno=descriptor) as pipe:
            serve(Recorder(parts), pipe.makefile("rb"), pipe.makefile("wb"))
    finally:
        parts.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
