"""Amounts of money that may be a fraction of a cent."""

from __future__ import annotations

from console.i18n import money

ENTERED = "%.4f"
"""How a field shows an amount. A browser writes the point in every language; four digits after it
cannot be read as thousands, as 2.000 is in Turkish."""


def shown(micro: int) -> str:
    """An amount with as many digits as it needs: 12.50, 0.0125, 0.000044 USD."""
    size = abs(micro)
    return money(micro, digits=2 if size >= 1_000_000 or not micro else 4 if size >= 10_000 else 6)
