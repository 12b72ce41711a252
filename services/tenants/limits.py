"""What limits may be, and what the audit log says of them."""

from __future__ import annotations

from dataclasses import asdict

from services.errors import InvalidInput
from services.tenants.models import KeyLimits, Limits

MAX_LIMIT = 10**15
_LARGE = {"daily_tokens", "monthly_micro"}


def numbers(limits: Limits | KeyLimits) -> dict[str, int | None]:
    """The limits by name, as an audit event keeps them."""
    return asdict(limits)


def checked_limits(limits: Limits) -> Limits:
    """Admit what a tenant may be limited to.

    Raises:
        InvalidInput: A limit is not a whole number from 1 on; only the concurrent requests and the
            month's money may be left open.
    """
    for name, number in numbers(limits).items():
        if number is not None or name not in {"concurrent", "monthly_micro"}:
            _check(name, number)
    return limits


def checked_key_limits(limits: KeyLimits) -> KeyLimits:
    """Admit what one key may be limited to.

    Raises:
        InvalidInput: A limit is neither open nor a whole number from 1 on.
    """
    for name, number in numbers(limits).items():
        if number is not None:
            _check(name, number)
    return limits


def _check(name: str, number: object) -> None:
    highest = MAX_LIMIT if name in _LARGE else 2**31 - 1
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= highest:
        raise InvalidInput(
            f"limit {name}: expected a whole number from 1 to {highest}, found {number!r}"
        ).because("range", field=name, low=1, high=highest, found=number)
