"""What evidence needs now and then, in a thread that no request ever waits for.

Copies of checkpoints outside, time stamps, heads for proofs, entries for keys, the end of kept
texts. Each part may fail without the others: an authority that does not answer delays nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from services.attestation.signing_keys import SigningKeys
from services.attestation.timestamps import Timestamps
from services.audit.outside import OutsideCopies
from services.audit.proving import Proofs
from services.audit.retention.service import Retention
from services.db import Clock, utcnow
from services.errors import ConsoleError, VerificationFailed
from services.tenants.models import Actor

log = logging.getLogger(__name__)

EVERY_S = 20.0
PATIENCE_S = 5.0
_KEEPER = Actor.system("evidence")


class Housekeeping:
    """Keeps the evidence of one installation; any number of processes may do so at once.

    Args:
        stamp_every: How long a time stamp suffices before the newest checkpoint gets another.
    """

    def __init__(
        self,
        proofs: Proofs,
        outside: OutsideCopies,
        timestamps: Timestamps,
        signing_keys: SigningKeys,
        retention: Retention,
        *,
        stamp_every: timedelta,
        clock: Clock = utcnow,
    ) -> None:
        self._proofs = proofs
        self._outside = outside
        self._timestamps = timestamps
        self._signing_keys = signing_keys
        self._retention = retention
        self._stamp_every = stamp_every
        self._clock = clock
        self._told: dict[str, str] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._stopped.clear()
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End when what is under way is done, so that nobody asks a database that is closed.

        A question to somebody outside is waited for `PATIENCE_S` at most.
        """
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(PATIENCE_S)

    def once(self) -> dict[str, str]:
        """Do everything that is due; no more of it once stopped.

        Returns:
            What went wrong, in words, by part; empty where nothing did.
        """
        parts: dict[str, Callable[[], object]] = {
            "keys": self._signing_keys.reconcile,
            "texts": self._retention.erase_due,
            "proofs": self._proofs.keep_blocks,
            "copy": self._copy,
            "time": self._stamp,
        }
        problems: dict[str, str] = {}
        for name, part in parts.items():
            if self._stopped.is_set():
                break
            try:
                part()
            except (ConsoleError, SQLAlchemyError, OSError) as error:
                text = error.message if isinstance(error, ConsoleError) else type(error).__name__
                problems[name] = text
                self._tell(name, text, is_contradiction=isinstance(error, VerificationFailed))
        self._told = problems
        return problems

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.once()
            self._stopped.wait(EVERY_S)

    def _copy(self) -> None:
        newest = self._proofs.newest()
        if newest is not None:
            self._outside.copy(newest)

    def _stamp(self) -> None:
        newest, last = self._proofs.newest(), self._timestamps.newest()
        if newest is None or not self._timestamps.url:
            return
        if last is None or self._clock() - last.said_at >= self._stamp_every:
            self._timestamps.stamp(newest)

    def _tell(self, part: str, problem: str, *, is_contradiction: bool) -> None:
        """Say it once, not every few seconds; a contradiction goes into the log as well."""
        if self._told.get(part) == problem:
            return
        log.error("evidence (%s): %s", part, problem)
        if is_contradiction and part == "copy":
            try:
                self._outside.told(_KEEPER, problem)
            except (ConsoleError, SQLAlchemyError) as error:
                log.error("evidence: the contradiction could not be recorded: %s", error)
