"""Every error a person or a program may meet, by what its receiver can do about it.

    ConsoleError
    ├── InvalidInput           400  mend what was sent
    │   ├── UnknownFormat           the file is in no format that is read here
    │   ├── MissingModel            the base model or adapter folder is not there
    │   └── WrongConfiguration      an environment variable or param.toml is off
    ├── NotSignedIn            401  sign in, or send a valid key
    │   └── LockedOut          429  too many wrong passwords: wait
    ├── NotPermitted           403  ask someone who may
    ├── NotFound               404  look elsewhere
    ├── Conflict               409  look at the present state, then decide again
    │   ├── GateFailed              a promotion needs a reason
    │   └── DigestMismatch          the weights are not those that the name says
    ├── TooLarge               413  send less
    ├── VerificationFailed     422  the evidence does not hold
    ├── LimitExceeded          429  wait, or ask for a larger limit
    │   └── BudgetExceeded          the month's money is spent: raise the budget, or wait for the next
    └── Unavailable            503  something outside has to be mended first
        ├── EngineUnavailable       the inference engine does not answer
        ├── StorageFull             the disk is full
        ├── PortInUse               another program listens there
        └── DatabaseTooNew          a newer version of this program wrote the database

Domains grow branches of their own where what is done about a failure needs more names, such as
`rlaif.failures` and `clusters.refusals`.

Messages say what was expected, what was found and where; never a secret, never a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self


class ConsoleError(Exception):
    """Root of all errors that are shown to people.

    Attributes:
        code: Stable machine-readable name, snake_case.
        http_status: Status that the gateway answers with.
        reason: Which sentence this is, snake_case, for those who say it in another language;
            empty where only the message says it.
        values: What stands in that sentence, by name.
    """

    code = "internal_error"
    http_status = 500
    reason: str = ""
    values: Mapping[str, Any] = {}

    @property
    def message(self) -> str:
        """The one sentence that is shown."""
        return str(self)

    def because(self, reason: str, **values: Any) -> Self:
        """Name the sentence, so that a page can say it in its reader's language.

        Args:
            reason: Its name, the same wherever the sentence is the same.
            values: What stands in it: numbers as they are; `field` by its name in the code.
        """
        self.reason, self.values = reason, values
        return self


class InvalidInput(ConsoleError):
    """What was sent cannot be used as it is."""

    code = "invalid_input"
    http_status = 400


class UnknownFormat(InvalidInput):
    """The file is in no format that is read here."""

    code = "unknown_format"


class MissingModel(InvalidInput):
    """A base model or adapter was named that is not there."""

    code = "missing_model"


class WrongConfiguration(InvalidInput):
    """A setting has a value that cannot be used."""

    code = "wrong_configuration"


class NotSignedIn(ConsoleError):
    """No valid session, password or API key was given."""

    code = "invalid_api_key"
    http_status = 401


class LockedOut(NotSignedIn):
    """Too many wrong passwords in a row."""

    code = "locked_out"
    http_status = 429


class NotPermitted(ConsoleError):
    """The actor's role does not allow this in this tenant."""

    code = "not_permitted"
    http_status = 403


class NotFound(ConsoleError):
    """Nothing of that name exists in the actor's scope."""

    code = "not_found"
    http_status = 404


class Conflict(ConsoleError):
    """The present state forbids what was asked."""

    code = "conflict"
    http_status = 409


class GateFailed(Conflict):
    """A promotion was asked for without the proof it needs, and without a reason."""

    code = "gate_failed"


class DigestMismatch(Conflict):
    """The bytes on disk are not those that the immutable name promises."""

    code = "digest_mismatch"


class TooLarge(ConsoleError):
    """More was sent than is read at once."""

    code = "too_large"
    http_status = 413


class VerificationFailed(ConsoleError):
    """A signature, hash or chain does not hold."""

    code = "verification_failed"
    http_status = 422


class LimitExceeded(ConsoleError):
    """A rate, quota or budget is used up.

    Attributes:
        retry_after_s: Seconds until asking again makes sense.
    """

    code = "rate_limit_exceeded"
    http_status = 429

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BudgetExceeded(LimitExceeded):
    """A tenant's money of this month is spent."""

    code = "budget_exceeded"


class Unavailable(ConsoleError):
    """Something outside has to be mended first.

    Attributes:
        retry_after_s: Seconds until asking again makes sense; None where nobody knows.
    """

    code = "unavailable"
    http_status = 503
    retry_after_s: float | None = None


class EngineUnavailable(Unavailable):
    """The inference engine does not answer."""

    code = "engine_unavailable"


class StorageFull(Unavailable):
    """The disk is full; nothing was written."""

    code = "storage_full"


class PortInUse(Unavailable):
    """Another program listens on the port."""

    code = "port_in_use"


class DatabaseTooNew(Unavailable):
    """A newer version of Param Console wrote this database."""

    code = "database_too_new"
