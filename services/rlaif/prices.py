"""What a judge costs: told by a setting, by the price table, or as its maker publishes it.

The table's `*` says what the own model costs and is no price of a judge. A judge whose price
nobody knows is refused: a cap on unknown prices would be none.
"""

from __future__ import annotations

from decimal import Decimal
from fnmatch import fnmatchcase

from services.errors import WrongConfiguration
from services.metering.models import Price
from services.metering.service import Metering
from services.rlaif.models import JudgePrice
from services.settings import Settings

PUBLISHED_AT = "2026-11"
PUBLISHED = {
    "claude-fable-5-1": Price(10_000_000, 50_000_000),
    "claude-opus-5-5": Price(4_000_000, 20_000_000),
    "claude-sonnet-5-5": Price(2_000_000, 10_000_000),
    "claude-opus-5": Price(5_000_000, 25_000_000),
    "claude-sonnet-4-5": Price(3_000_000, 15_000_000),
}
"""Micro-USD for a million tokens, as platform.claude.com showed them in November 2026."""


def price_of(settings: Settings, metering: Metering) -> JudgePrice:
    """The price of the judge that the settings name.

    Raises:
        WrongConfiguration: Nobody has told it.
    """
    if settings.judge_price:
        prompt, completion = (_micro(part) for part in settings.judge_price.split("/"))
        return JudgePrice(Price(prompt, completion), "PARAM_JUDGE_PRICE")
    table = metering.price_tables()[0]
    if any(one != "*" and fnmatchcase(settings.judge_model, one) for one in table.prices):
        version, price = metering.price(settings.judge_model)
        return JudgePrice(price, f"price table {version}")
    if settings.judge_model in PUBLISHED:
        return JudgePrice(PUBLISHED[settings.judge_model], f"published {PUBLISHED_AT}")
    raise WrongConfiguration(
        f"the judge {settings.judge_model}: expected a price, found none; set PARAM_JUDGE_PRICE to "
        "US dollars for a million tokens as prompt/completion, such as 2/10"
    )


def _micro(dollars: str) -> int:
    return int(Decimal(dollars) * 1_000_000)
