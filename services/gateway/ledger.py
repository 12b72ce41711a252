"""Where outcomes are written: in this process, or by a process of its own on another core."""

from __future__ import annotations

import logging
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol

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


class Ledger(Protocol):
    """Makes outcomes durable, some at a time; used by one thread."""

    def write(self, outcomes: Sequence[Outcome]) -> Written:
        """Commit them, all or none; any failure means none."""
        ...

    def tend(self, *, sign: bool) -> None:
        """Put the events of all processes into the log, and sign its head if asked."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class LocalLedger:
    """Writes in this process.

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

    def close(self) -> None:
        """Nothing is held."""


class Scribe:
    """Has a child process write, so that hashing, signing and the commit take another core.

    The child lives as long as its pipe: when the gateway is killed it writes what it was given and
    ends. A child that died is replaced at the next batch; the batch it had is refused, and whether
    it was recorded is found out from its rows (`services.gateway.recovery`).
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def write(self, outcomes: Sequence[Outcome]) -> Written:
        """See `Ledger`."""
        found: Written = self._ask(("write", outcomes))
        return found

    def tend(self, *, sign: bool) -> None:
        """See `Ledger`."""
        self._ask(("tend", sign))

    def close(self) -> None:
        """End the child, which writes nothing that was not asked for."""
        if self._pipe is not None:
            self._pipe.close()
        if self._child is not None:
            self._child.wait(20)
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

    def _start(self) -> None:
        """Start the child; it is ready when it has answered."""
        ours, theirs = _pair()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "services.gateway.ledger", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
            )
        self._pipe = ours

    def _ask(self, question: tuple[str, object]) -> Written:
        if self._pipe is None:
            self._start()
        assert self._pipe is not None, "the child was just started"
        try:
            self._pipe.send_bytes(pickle.dumps(question, pickle.HIGHEST_PROTOCOL))
            is_done, answer = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError) as error:
            self._pipe.close()
            self._pipe = None
            self.kill()
            raise Unavailable("the process that records answers has ended") from error
        if not is_done:
            raise Unavailable(answer)
        written: Written = answer
        return written


def _pair() -> tuple[Connection, Connection]:
    ours, theirs = socket.socketpair()
    return Connection(ours.detach()), Connection(theirs.detach())


def serve(ledger: Ledger, pipe: Connection) -> None:
    """Write what comes through a pipe until it ends."""
    while True:
        try:
            what, asked = pickle.loads(pipe.recv_bytes())
        except EOFError:
            return
        said: tuple[bool, Written | str]
        try:
            said = (True, _done(ledger, what, asked))
        except ConsoleError as error:
            said = (False, str(error))
        except Exception as error:
            # Whatever it is, the request that waits must hear of it, and the next batch may work.
            if not isinstance(error, _FAILURES):
                log.exception("a batch could not be recorded")
            said = (False, "the database refused it")
        try:
            pipe.send_bytes(pickle.dumps(said, pickle.HIGHEST_PROTOCOL))
        except OSError:
            return


def _done(ledger: Ledger, what: str, asked: Any) -> Written:
    if what == "write":
        return ledger.write(asked)
    ledger.tend(sign=asked)
    return []


def main(descriptor: int) -> None:
    """The child: ends with its pipe, not with a signal that was meant for the gateway."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    settings = configuration.load()
    logging.basicConfig(level=settings.log_level.upper())
    parts = bootstrap.build(settings)
    try:
        serve(LocalLedger(parts), Connection(descriptor))
    finally:
        parts.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
