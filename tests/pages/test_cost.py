from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.bootstrap import Services
from services.metering.models import Price
from tests.pages import seeds
from tests.pages.conftest import OpenPage, texts


def test_an_annotator_is_refused_by_address(open_page: OpenPage) -> None:
    page = open_page("cost", actor="annotator")
    assert "You may not do this" in page.error[0].value
    assert not page.title


def test_each_tenant_sees_only_its_own_spend(open_page: OpenPage, services: Services) -> None:
    seeds.usage(services, "acme", cost_micro=12_500_000)
    seeds.usage(services, "globex", cost_micro=3_000_000, served="globex-secret")
    acme = open_page("cost", actor="manager")
    assert acme.metric[0].value == "12.50 USD"
    assert "globex" not in texts(acme)
    assert "globex-secret" not in set(acme.dataframe[-1].value["served"])
    assert open_page("cost", actor="root", tenant="globex").metric[0].value == "3.00 USD"


def test_without_requests_it_says_so(open_page: OpenPage) -> None:
    page = open_page("cost", language="tr")
    assert "Bu dönemde istek yok" in texts(page)
    assert not page.metric


def test_the_period_decides_what_is_summed(open_page: OpenPage, services: Services) -> None:
    seeds.usage(services, cost_micro=1_000_000)
    seeds.usage(services, cost_micro=2_000_000, at=datetime.now(UTC) - timedelta(days=10))
    page = open_page("cost")
    assert page.metric[0].value == "1.00 USD"
    page.button_group(key="cost.period").set_value("month").run()
    assert page.metric[0].value == "3.00 USD"
    assert page.metric[1].value == "2"


def test_savings_name_the_price_that_they_rest_on(open_page: OpenPage, services: Services) -> None:
    seeds.usage(services, prompt_tokens=1_000_000, completion_tokens=0, cost_micro=100_000)
    read = texts(open_page("cost"))
    assert "cost **0.1000 USD** here. Claude 3.5 Sonnet would have cost **3.00 USD**" in read
    assert "2.90 USD saved, 97%" in read
    assert "at 3.00 and 15.00 USD for a million" in read


def test_a_month_is_counted_three_ways_from_real_requests(
    open_page: OpenPage, services: Services
) -> None:
    for _ in range(4):
        seeds.usage(services, prompt_tokens=1_000, completion_tokens=800, cost_micro=100)
    page = open_page("cost")
    ways = page.dataframe[0].value
    assert list(ways["way"]) == ["All at the API", "60% on your own model", "All on your own model"]
    # The seeds' volume: 100,000 requests of 0.015 USD at the API, 0.0001 USD here, 200 USD fixed.
    volume = next(field for field in page.number_input if field.label == "Requests a month")
    volume.set_value(100_000).run()
    ways = page.dataframe[0].value
    assert list(ways["month"]) == ["1,500.00 USD", "806.00 USD", "210.00 USD"]
    assert list(ways["share"]) == ["0%", "46%", "86%"]
    assert ways["saved"][2] == "15,480.00 USD"
    assert "From 13,423 requests a month on" in texts(page)
    page.number_input(key="cost.fixed_usd").set_value(0)
    page.slider(key="cost.own_percent").set_value(90).run()
    assert list(page.dataframe[0].value["month"]) == ["1,500.00 USD", "159.00 USD", "10.00 USD"]


def test_models_and_arms_are_told_apart(open_page: OpenPage, services: Services) -> None:
    seeds.usage(services, cost_micro=10, at=datetime.now(UTC) - timedelta(seconds=9))
    seeds.usage(services, cost_micro=30, served="acme-0123456789ab", arm="canary")
    page = open_page("cost")
    _ways, models, arms, _prices, requests = (table.value for table in page.dataframe)
    assert list(models["name"]) == ["acme-0123456789ab", "smollm2-135m-instruct"]
    assert list(arms["name"]) == ["Candidate", "Stable"]
    assert list(requests["cost"]) == ["0.000030 USD", "0.000010 USD"]
    assert len(page.get("plotly_chart")) == 3


def test_the_price_table_in_force_is_shown_with_its_version(
    open_page: OpenPage, services: Services
) -> None:
    page = open_page("cost", actor="manager")
    assert "table 1" in page.expander[0].label
    assert "An estimate to start from" in texts(page)
    prices = {"*": Price(150_000, 600_000), "fallback/*": Price(3_000_000, 15_000_000)}
    services.metering.add_prices(seeds.SYSTEM, prices)
    seeds.usage(services)
    page = open_page("cost", actor="manager", language="tr")
    shown = next(one.value for one in page.dataframe if "pattern" in one.value)
    assert list(shown["pattern"]) == ["fallback/*", "*"], "what is looked up first is on top"
    assert list(shown["completion"]) == ["15,00 USD", "0,6000 USD"]
    assert any("tablo 2" in one.label for one in page.expander)
    assert "tarihinden beri yürürlükte" in texts(page)
