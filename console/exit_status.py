"""What a process answers its caller: 0 done, 1 a check failed, 2 wrong use."""

from __future__ import annotations

from services.errors import (
    ConsoleError,
    DigestMismatch,
    GateFailed,
    LimitExceeded,
    Unavailable,
    VerificationFailed,
)

DONE = 0
CHECK_FAILED = 1
WRONG_USE = 2

_FAILED_CHECKS = (VerificationFailed, GateFailed, DigestMismatch, LimitExceeded, Unavailable)


def exit_status(error: ConsoleError) -> int:
    """The exit status of a command that ended with this error.

    What was asked was in order but did not hold, or cannot be had now: 1. What was asked has to
    be asked differently: 2.
    """
    return CHECK_FAILED if isinstance(error, _FAILED_CHECKS) else WRONG_USE
