"""Amounts of money that may be a fraction of a cent."""

from __future__ import annotations

from console.i18n import money


def shown(micro: int) -> str:
    """An amount with as many digits as it needs: 12.50, 0.0125, 0.000044 USD."""
    size = abs(micro)
    return money(micro, digits=2 if size >= 1_000_000 or not micro else 4 if size >= 10_000 else 6)
