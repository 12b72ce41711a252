"""The page that follows adapters and pairs."""

from __future__ import annotations

from services.bootstrap import Services
from tests.pages import seeds
from tests.pages.conftest import OpenPage, texts


def test_without_an_adapter_there_is_nothing_to_follow(open_page: OpenPage) -> None:
    assert "No adapter yet" in texts(open_page("lineage"))


def test_an_adapter_leads_back_to_its_pairs(open_page: OpenPage, services: Services) -> None:
    made = seeds.adapter(services)
    page = open_page("lineage")
    frozen = services.preferences.datasets(seeds.SYSTEM, "acme")[0]
    assert [metric.value for metric in page.metric][:2] == [str(frozen.n_train), str(frozen.n_eval)]
    table = page.dataframe[1].value
    assert len(table) == frozen.n_train + frozen.n_eval
    assert set(table["part"]) == {"learned from", "held out"}
    assert made.digest in set(page.dataframe[0].value["digest"])


def test_a_pair_leads_on_to_what_learned_from_it(open_page: OpenPage, services: Services) -> None:
    seeds.adapter(services)
    page = open_page("lineage")
    page.button(key="lineage.follow").click().run()
    assert "No run has learned from this pair." in texts(page)
    assert len(page.dataframe[0].value) == 1


def test_an_unknown_pair_and_another_tenants_are_refused_alike(
    open_page: OpenPage, services: Services
) -> None:
    seeds.adapter(services, "globex")
    theirs = services.preferences.pairs(seeds.SYSTEM, "globex", limit=1).pairs[0].id
    said = []
    for pair_id in (theirs, "nothing"):
        page = open_page("lineage")
        page.segmented_control(key="lineage.what").set_value("pair").run()
        page.text_input(key="lineage.pair").set_value(pair_id).run()
        said.append(page.error[0].value.replace("\\", "").replace(pair_id, "…"))
    assert said[0] == said[1]


def test_a_pair_in_no_data_set_is_said_to_be_in_none(
    open_page: OpenPage, services: Services
) -> None:
    seeds.pairs(services)
    pair_id = services.preferences.pairs(seeds.SYSTEM, "acme", limit=1).pairs[0].id
    page = open_page("lineage")
    page.segmented_control(key="lineage.what").set_value("pair").run()
    page.text_input(key="lineage.pair").set_value(pair_id).run()
    assert "in no frozen data set" in page.info[0].value


def test_the_page_speaks_turkish(open_page: OpenPage, services: Services) -> None:
    seeds.adapter(services)
    read = texts(open_page("lineage", language="tr"))
    assert "Öğrenilen çiftler" in read
    assert "takma adla" in read


def test_the_chain_of_custody_says_what_is_missing(open_page: OpenPage, services: Services) -> None:
    seeds.adapter(services)
    page = open_page("lineage")
    assert "Links that are missing or do not hold: 2." in texts(page)
    chain = page.dataframe[2].value
    assert [row.strip().split()[0] for row in chain["link"]] == [
        "Adapter", "Registered", "Run", "Data", "Person",
    ]  # fmt: skip
    assert list(chain["result"]) == [
        "✓", "✗ no statement of this is there", "✗ no statement of this is there", "✓", "✓",
    ]  # fmt: skip


def test_an_answer_leads_back_to_its_adapter(open_page: OpenPage, services: Services) -> None:
    made = seeds.adapter(services)
    receipt_id = seeds.receipt(services, made=made)
    page = open_page("lineage")
    page.segmented_control(key="lineage.what").set_value("receipt").run()
    page.text_input(key="lineage.receipt").set_value(receipt_id).run()
    links = list(page.dataframe[0].value["link"])
    assert links[0] == f"Receipt {receipt_id}"
    assert links[1].strip().endswith(made.name)
    theirs = seeds.receipt(services, "globex")
    page.text_input(key="lineage.receipt").set_value(theirs).run()
    assert "expected one of your tenants" in page.error[0].value.replace("\\", "")


def test_the_chain_speaks_turkish(open_page: OpenPage, services: Services) -> None:
    seeds.adapter(services)
    assert "Gözetim zinciri" in texts(open_page("lineage", language="tr"))
