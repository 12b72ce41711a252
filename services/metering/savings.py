"""Own model against an API: the seeds' three ways to serve a month, from real rows.

Whole-number arithmetic throughout: an average is kept in thousandths of a micro-USD, so a month of
some million requests is right to the dollar's thousandth part.
"""

from __future__ import annotations

from services.metering.models import (
    TOKENS_PER_PRICE,
    ApiPrice,
    CostReport,
    Scenario,
    Scenarios,
    Share,
)

NANO = 1000
"""Thousandths of a micro-USD in one."""


def scenarios(
    report: CostReport,
    api: ApiPrice,
    *,
    requests: int | None = None,
    own_percent: int = 60,
    fixed_micro: int = 0,
) -> Scenarios:
    """What a month costs all at the API, shared with it, and all on the own model.

    The average request of the report is what is multiplied: its tokens at the API's price, and
    what it was billed here. Tokens are taken one for one, although another model's tokenizer
    counts differently.

    Args:
        report: At least one request.
        requests: Of a month; those of the report scaled to 30 days where None.
        own_percent: The own model's share in the shared way, 0 to 100.
        fixed_micro: What serving a model costs a month before the first request, micro-USD;
            it is added wherever the own model answers anything.

    Raises:
        ValueError: The report is empty, or a number is out of range.
    """
    if not report.requests:
        raise ValueError("report: expected at least one request, found none")
    if not 0 <= own_percent <= 100 or fixed_micro < 0 or (requests is not None and requests < 1):
        raise ValueError(
            "expected a share of 0 to 100 percent, costs from 0 and requests from 1 on"
        )
    days = (report.until - report.since).days + 1
    month = requests or max(1, _rounded(report.requests * 30, days))
    own = _rounded(report.total_micro * NANO, report.requests)
    tokens = (
        report.prompt_tokens * api.price.prompt_micro_per_mtok
        + report.completion_tokens * api.price.completion_micro_per_mtok
    )
    elsewhere = _rounded(tokens * NANO, TOKENS_PER_PRICE * report.requests)
    all_api = _month(month, 0, own, elsewhere, fixed_micro)

    def way(share: Share, percent: int) -> Scenario:
        cost = _month(month, percent, own, elsewhere, fixed_micro)
        saved = all_api - cost
        return Scenario(
            share=share,
            own_percent=percent,
            month_micro=cost,
            year_micro=12 * cost,
            saved_micro=12 * saved,
            saved_percent=_rounded(100 * saved, all_api) if all_api else None,
        )

    gained = elsewhere - own
    return Scenarios(
        requests=month,
        fixed_micro=fixed_micro,
        own_request_nano=own,
        api_request_nano=elsewhere,
        break_even=-(-fixed_micro * NANO // gained) if gained > 0 else None,
        ways=[way(Share.API, 0), way(Share.HYBRID, own_percent), way(Share.OWN, 100)],
    )


def _month(requests: int, own_percent: int, own: int, elsewhere: int, fixed_micro: int) -> int:
    mixed = requests * (own_percent * own + (100 - own_percent) * elsewhere)
    return _rounded(mixed, 100 * NANO) + (fixed_micro if own_percent else 0)


def _rounded(numerator: int, denominator: int) -> int:
    """The nearest whole number, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)
