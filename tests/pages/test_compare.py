"""The page that compares adapters."""

from __future__ import annotations

from dataclasses import replace

from console.components import compare_export
from services.bootstrap import Services
from services.evaluation.comparing import Comparisons
from tests.pages import seeds
from tests.pages.conftest import OpenPage, texts

NASTY = "<script>alert(1)</script> :red[x]"


def two(services: Services, tenant_id: str = "acme") -> tuple[str, str]:
    """Two adapters with finished evaluations: the first one better, the second one worse."""
    first, second = seeds.adapter(services, tenant_id), seeds.adapter(services, tenant_id, seed=2)
    seeds.evaluation(services, first, kinds=(20, 2, 16, 4))
    seeds.evaluation(services, second, kinds=(20, 2, 16, 4))
    return first.name, second.name


def test_without_two_finished_evaluations_there_is_nothing_to_compare(
    open_page: OpenPage, services: Services
) -> None:
    assert "Nothing to compare yet" in texts(open_page("compare"))
    seeds.evaluation(services, seeds.adapter(services))
    assert "Nothing to compare yet" in texts(open_page("compare"))


def test_two_adapters_stand_against_the_base_and_against_each_other(
    open_page: OpenPage, services: Services
) -> None:
    first, second = two(services)
    page = open_page("compare")
    table = page.dataframe[0].value
    assert set(table["adapter"]) == {first, second}
    assert list(table["verdict"]) == ["Better", "Better"]
    assert list(table["changed"]) == ["+20 / −2", "+20 / −2"]
    assert "42 prompts (42 pairs) in common, 0 pairs left out." in texts(page)
    page.selectbox(key="compare.against").set_value(first).run()
    table = page.dataframe[0].value
    assert list(table["adapter"]) == [second]
    assert list(table["changed"]) == ["+0 / −0"]


def test_what_it_cost_them_is_shown(open_page: OpenPage, services: Services) -> None:
    two(services)
    beside = open_page("compare").dataframe[1].value
    assert " → " in beside["perplexity"][0]
    assert beside["tasks"][0] == "75.0% → 75.0%"
    assert list(beside["gate"]) == ["not passed", "not passed"]


def test_one_adapter_is_too_few(open_page: OpenPage, services: Services) -> None:
    first, _second = two(services)
    page = open_page("compare")
    page.multiselect(key="compare.adapters").set_value([first]).run()
    assert [box.value for box in page.info] == ["Choose two to six adapters."]


def test_other_tenants_adapters_are_not_offered(open_page: OpenPage, services: Services) -> None:
    two(services, "globex")
    assert "Nothing to compare yet" in texts(open_page("compare"))


def test_the_page_speaks_turkish(open_page: OpenPage, services: Services) -> None:
    two(services)
    read = texts(open_page("compare", language="tr"))
    assert "Ortak 42 istem" in read
    assert "Ayrılmış istemler" in read


def test_the_files_hold_the_comparison_and_escape_model_text(services: Services) -> None:
    names = two(services)
    comparisons = Comparisons(services.evaluations)
    finished = comparisons.finished(seeds.SYSTEM, "acme")
    chosen = [finished[name] for name in names]
    found = comparisons.compare(seeds.SYSTEM, chosen)
    read = comparisons.texts(seeds.SYSTEM, chosen)
    own = replace(seeds.answer(0, "plain", NASTY), prompt=({"role": "user", "content": "?"},))
    worst = found.prompts[0].prompt_key
    read = replace(read, answers={names[0]: {worst: own}})
    page = compare_export.html(found, chosen, read, tenant="<Acme>", at="today").decode()
    assert "<script" not in page
    assert "&lt;" in page
    assert "&lt;Acme&gt;" in page
    assert page.count("<svg") == 3
    assert "http://" not in page
    assert "https://" not in page
    table = compare_export.csv(found, read).decode("utf-8-sig").splitlines()
    assert len(table) == 1 + found.n_prompts
    assert table[0].endswith(f"change {names[1]}")
