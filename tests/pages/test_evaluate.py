from __future__ import annotations

from collections.abc import Callable

import pytest

from services.bootstrap import Services
from services.evaluation.models import Verdict
from services.jobs.models import JobStatus
from services.tenants.models import Actor
from tests.pages import seeds
from tests.pages.conftest import OpenPage, texts


def test_an_annotator_is_refused_by_address(open_page: OpenPage) -> None:
    page = open_page("evaluate", actor="annotator")
    assert "You may not do this" in page.error[0].value
    assert not page.title


def test_evaluations_of_another_tenant_are_not_seen(
    open_page: OpenPage, services: Services
) -> None:
    foreign = seeds.evaluation(services, seeds.adapter(services, "globex"))
    page = open_page("evaluate")
    page.query_params["evaluation"] = foreign.id
    page.run()
    assert "No adapter yet" in texts(page)
    assert foreign.adapter not in texts(page)


def test_with_adapters_but_no_evaluation_it_says_what_one_is(
    open_page: OpenPage, services: Services
) -> None:
    seeds.adapter(services)
    page = open_page("evaluate", language="tr")
    assert "Henüz değerlendirme yok" in texts(page)
    assert page.button(key="evaluate.start").label == "Değerlendirmeyi başlat"


def test_starting_queues_the_newest_untried_adapter_with_the_questions(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor]
) -> None:
    tried, fresh = seeds.adapter(services), seeds.adapter(services, seed=2)
    seeds.evaluation(services, tried)
    page = open_page("evaluate")
    assert page.selectbox(key="evaluate.adapter").value == fresh.name
    page.text_area(key="evaluate.questions").set_value("Who?\n\n Why? ")
    page.button(key="evaluate.start").click().run()
    newest = services.evaluations.list(actor_of("engineer"), "acme")[0]
    assert newest.adapter == fresh.name
    assert newest.prompts is not None
    assert [prompt[0]["content"] for prompt in newest.prompts] == ["Who?", "Why?"]
    assert "It waits for a worker" in page.info[0].value
    page.button(key="evaluate.stop").click().run()
    stopped = services.evaluations.get(actor_of("engineer"), newest.id)
    assert stopped.job.status is JobStatus.STOPPED


@pytest.fixture
def with_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings name a judge; asked for before the services are built."""
    for name, value in (
        ("MODEL", "judge"), ("API_KEY", "sk-0"), ("URL", "http://127.0.0.1:9"), ("PRICE", "2/10"),
    ):  # fmt: skip
        monkeypatch.setenv(f"PARAM_JUDGE_{name}", value)


def test_the_judge_names_its_price_and_takes_a_cap(
    with_judge: None,
    open_page: OpenPage,
    services: Services,
    actor_of: Callable[[str], Actor],
) -> None:
    adapter = seeds.adapter(services)
    page = open_page("evaluate")
    assert "evaluate.judge_cap" not in {field.key for field in page.number_input}
    page.text_area(key="evaluate.questions").set_value("Who?\nWhy?")
    page.checkbox(key="evaluate.judge").check().run()
    assert "4 questions to the judge: about" in texts(page)
    page.number_input(key="evaluate.judge_cap").set_value(2.5).run()
    page.button(key="evaluate.start").click().run()
    (made,) = services.evaluations.list(actor_of("engineer"), "acme")
    assert (made.adapter, made.checks.judge) == (adapter.name, True)
    assert made.checks.judge_cap_micro == 2_500_000


def test_a_manager_reads_but_starts_nothing(open_page: OpenPage, services: Services) -> None:
    seeds.evaluation(services, seeds.adapter(services), kinds=None)
    page = open_page("evaluate", actor="manager")
    assert not {button.key for button in page.button} & {"evaluate.start", "evaluate.stop"}


def test_a_better_adapter_is_called_better_with_interval_and_n(
    open_page: OpenPage, services: Services
) -> None:
    found = seeds.evaluation(services, seeds.adapter(services), answers=seeds.ANSWERS[:1])
    assert found.summary is not None
    assert found.summary.verdict is Verdict.BETTER
    read = texts(open_page("evaluate"))
    assert "The adapter is better than its base" in read
    assert "85.7% of 42 held-out prompts" in read
    assert "42.9%" in read
    assert "The gate is passed" in read


def test_an_adapter_that_repeats_itself_does_not_pass_the_gate(
    open_page: OpenPage, services: Services
) -> None:
    seeds.evaluation(services, seeds.adapter(services))
    page = open_page("evaluate")
    assert "repeats itself in 1 of 2 answers, its base in 0" in page.warning[0].value
    assert "repeats itself</span>" in texts(page)
    page.toggle(key="evaluate.only_repeating").set_value(True).run()
    assert "Question 1" in texts(page)
    assert "Question 0" not in texts(page)


def test_model_text_is_shown_as_text(open_page: OpenPage, services: Services) -> None:
    nasty = seeds.answer(0, "<img src=x onerror=alert(1)>", ":red[x] **bold**")
    seeds.evaluation(services, seeds.adapter(services), answers=[nasty])
    read = texts(open_page("evaluate"))
    assert "&lt;img src=x" in read
    assert "<img src=x" not in read


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ((2, 20, 16, 4), "daha kötü."),
        ((0, 0, 200, 4), "kötü değil, ama"),
        ((2, 1, 4, 4), "karar vermeye yetmiyor"),
    ],
)
def test_every_verdict_and_its_reasons_are_said_in_turkish(
    open_page: OpenPage, services: Services, kinds: tuple[int, int, int, int], said: str
) -> None:
    seeds.evaluation(services, seeds.adapter(services), kinds=kinds)
    page = open_page("evaluate", language="tr")
    assert said in page.markdown[-1].value or said in texts(page)
    reasons = page.warning[0].value
    assert said in reasons
    assert "kendini yineliyor" in reasons
    assert "The adapter" not in reasons


def test_several_adapters_stand_in_one_table(open_page: OpenPage, services: Services) -> None:
    first, second = seeds.adapter(services), seeds.adapter(services, seed=2)
    seeds.evaluation(services, first)
    seeds.evaluation(services, second, kinds=(2, 1, 4, 4))
    page = open_page("evaluate")
    table = page.dataframe[0].value
    assert list(table["adapter"]) == [second.name, first.name]
    assert list(table["verdict"]) == ["Inconclusive", "Better"]
    page.multiselect(key="evaluate.chosen").set_value([first.name]).run()
    assert list(page.dataframe[0].value["adapter"]) == [first.name]


def test_a_failed_one_shows_its_sentence_and_can_be_resumed(
    open_page: OpenPage, services: Services
) -> None:
    found = seeds.evaluation(services, seeds.adapter(services), kinds=None)
    seeds.job_is(services, found.job.id, JobStatus.FAILED, error="the memory was too small")
    page = open_page("evaluate")
    assert "the memory was too small" in [code.value for code in page.code]
    page.button(key="evaluate.resume").click().run()
    resumed = services.evaluations.get(seeds.SYSTEM, found.id)
    assert resumed.job.status is JobStatus.QUEUED


def test_more_than_200_evaluations_are_listed(open_page: OpenPage, services: Services) -> None:
    made = seeds.adapter(services)
    for _ in range(202):
        seeds.evaluation(services, made, kinds=None)
    assert len(open_page("evaluate").dataframe[0].value) == 202
