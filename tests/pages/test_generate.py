from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from services.bootstrap import Services
from services.db import new_id, utcnow
from services.jobs.models import JobStatus
from services.preferences.models import Turn
from services.rlaif.models import CallState, Kind, Mode, Outcome, Run, Spec
from services.rlaif.store import CallRow, ItemRow, RunRow
from services.tenants.models import Actor
from tests.fakes.anthropic import KEY, MODEL
from tests.pages import seeds
from tests.pages.conftest import SYSTEM, OpenPage, texts

PROMPTS = [(Turn("user", "What is <b>this</b>?"),), (Turn("user", "And that?"),)]


@pytest.fixture(autouse=True)
def _judge(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings name a judge, but for the test that is about there being none."""
    if "without_a_judge" not in request.node.name:
        monkeypatch.setenv("PARAM_JUDGE_MODEL", MODEL)
        monkeypatch.setenv("PARAM_JUDGE_API_KEY", KEY)
        monkeypatch.setenv("PARAM_JUDGE_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("PARAM_JUDGE_PRICE", "2/10")


def run(services: Services, tenant_id: str = "acme", **changes: object) -> Run:
    order = Spec(**{"kind": Kind.GENERATE, "cap_micro": 2_000_000, **changes})  # type: ignore[arg-type]
    return services.rlaif.launch(SYSTEM, tenant_id, order, PROMPTS)


def judged(services: Services, made: Run, calls: dict[CallState, int], **values: object) -> None:
    """Have a run stand where a worker would have brought it."""
    with services.db.write() as session:
        row = session.get_one(RunRow, made.id)
        for name, value in values.items():
            setattr(row, name, value)
        number = 0
        for state, count in calls.items():
            for _ in range(count):
                number += 1
                session.add(
                    CallRow(
                        id=new_id(), tenant_id=made.tenant_id, run_id=made.id,
                        custom_id=f"{new_id()}-1", question=f"q{number}", repetition=1,
                        state=state, reserved_micro=100, cost_micro=10, prompt_bytes=10,
                        note=f"why <i>{state}</i>", sent_at=utcnow(),
                    )
                )  # fmt: skip
        for number in range(3):
            session.add(
                ItemRow(
                    id=new_id(), run_id=made.id, tenant_id=made.tenant_id, number=number,
                    key=f"k{number}", low_id="l", high_id="h", is_consistent=number > 0,
                    published_at=utcnow(),
                )
            )  # fmt: skip


def figures(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def test_an_annotator_is_refused_by_address(open_page: OpenPage) -> None:
    page = open_page("generate", actor="annotator")
    assert "You may not do this" in page.error[0].value
    assert not page.title


def test_a_manager_sees_runs_and_starts_none(open_page: OpenPage, services: Services) -> None:
    run(services)
    page = open_page("generate", actor="manager")
    assert len(page.dataframe) == 1
    assert not {button.key for button in page.button} & {"generate.start", "generate.stop"}
    assert not page.text_area


def test_runs_of_another_tenant_are_not_seen(open_page: OpenPage, services: Services) -> None:
    foreign = run(services, "globex", source="theirs alone")
    page = open_page("generate")
    page.query_params["generation"] = foreign.id
    page.run()
    assert "No runs yet" in texts(page)
    assert "theirs alone" not in texts(page)


def test_without_a_judge_it_says_which_setting_names_one(open_page: OpenPage) -> None:
    page = open_page("generate")
    assert "PARAM_JUDGE_MODEL" in page.info[0].value
    assert not page.text_area


def test_the_estimate_stands_before_the_button_and_nothing_is_queued_by_it(
    open_page: OpenPage, services: Services
) -> None:
    assert "ne kadar tutacağı burada görünür" in texts(open_page("generate", language="tr"))
    page = open_page("generate")
    page.text_area(key="generate.paste").set_value("Bir?\nİki?\nBir?").run()
    shown = figures(page)
    assert (shown["Prompts"], shown["Candidates"], shown["Pairs"], shown["Verdicts"]) == (
        "2", "8", "4", "8",
    )  # fmt: skip
    assert shown["Expected cost"].endswith("USD")
    assert "1 prompt came twice" in texts(page)
    assert services.rlaif.list(SYSTEM, "acme") == []


def test_the_form_launches_what_it_says(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor]
) -> None:
    page = open_page("generate")
    page.text_area(key="generate.paste").set_value("One?\nTwo?\nThree?").run()
    page.text_input(key="generate.temperatures").set_value("0.1, 0.9").run()
    page.number_input(key="generate.pairs_per_prompt").set_value(1).run()
    page.selectbox(key="generate.mode").select("One by one").run()
    cap = next(one for one in page.number_input if str(one.key).startswith("generate.cap."))
    cap.set_value(1.25)
    page.button(key="generate.start").click().run()
    assert not page.exception
    (made,) = services.rlaif.list(actor_of("engineer"), "acme")
    assert made.counts.prompts == 3
    assert (made.cap_micro, made.spec.temperatures, made.spec.mode) == (
        1_250_000, (0.1, 0.9), Mode.DIRECT,
    )  # fmt: skip
    assert made.created_by == "Engineer"
    page.button(key="generate.stop").click().run()
    assert services.rlaif.get(SYSTEM, made.id).job.status is JobStatus.STOPPED


def test_wrong_input_is_told_in_a_sentence(open_page: OpenPage, services: Services) -> None:
    page = open_page("generate")
    page.text_area(key="generate.paste").set_value('{"prompt": "a"}\n{"question": "b"}').run()
    assert "line 2" in page.error[0].value
    page.text_area(key="generate.paste").set_value("One?").run()
    page.text_input(key="generate.temperatures").set_value("warm").run()
    assert "temperatures" in page.error[0].value
    assert services.rlaif.list(SYSTEM, "acme") == []


def test_pairs_that_were_edited_are_offered_to_the_judge_again(
    open_page: OpenPage, services: Services
) -> None:
    from sqlalchemy import update

    from services.preferences.store import PairRow

    rows = [{"prompt": f"Is it {n}?", "chosen": "Yes, it is.", "rejected": "No."} for n in range(3)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    services.preferences.import_pairs(SYSTEM, "acme", io.BytesIO(text.encode()), source="made")
    with services.db.write() as session:
        session.execute(update(PairRow).values(is_stale=True))
    page = open_page("generate")
    assert "3 pairs were edited" in page.info[0].value
    page.button_group(key="generate.kind").set_value(Kind.JUDGE).run()
    assert figures(page)["Verdicts"] == "6"
    page.button(key="generate.start").click().run()
    (made,) = services.rlaif.list(SYSTEM, "acme")
    assert (made.spec.kind, made.counts.pairs) == (Kind.JUDGE, 3)


def test_a_finished_run_shows_its_pairs_and_its_price(
    open_page: OpenPage, services: Services
) -> None:
    made = run(services)
    judged(services, made, {CallState.DONE: 6}, spent_micro=12_000, outcome=Outcome.COMPLETE)
    seeds.job_is(services, made.job.id, JobStatus.SUCCEEDED, message="done")
    page = open_page("generate")
    shown = figures(page)
    assert shown["Pairs in the queue"] == "3 / 3"
    assert shown["Both orders agree"] == "67%"
    assert shown["Cost of a pair"] == "0.004000 USD"
    assert not {button.key for button in page.button} & {"generate.resume", "generate.ask_again"}


def test_what_gave_no_verdict_is_listed_by_name_and_lost_calls_are_asked_only_on_demand(
    open_page: OpenPage, services: Services
) -> None:
    made = run(services)
    calls = {CallState.DONE: 2, CallState.REFUSED: 1, CallState.LOST: 2}
    judged(services, made, calls, outcome=Outcome.COMPLETE)
    seeds.job_is(services, made.job.id, JobStatus.SUCCEEDED)
    page = open_page("generate")
    assert sorted(page.dataframe[1].value["state"]) == ["In doubt", "In doubt", "Refused"]
    assert "2 calls were sent and never answered" in page.warning[0].value
    page.button(key="generate.ask_again").click().run()
    found = services.rlaif.get(SYSTEM, made.id)
    assert found.job.status is JobStatus.QUEUED
    assert found.counts.calls[CallState.ABANDONED] == 2


def test_a_run_at_its_cap_goes_on_with_a_higher_one(
    open_page: OpenPage, services: Services
) -> None:
    made = run(services)
    judged(services, made, {CallState.DONE: 2}, spent_micro=1_900_000, outcome=Outcome.CAP_REACHED)
    seeds.job_is(services, made.job.id, JobStatus.SUCCEEDED)
    page = open_page("generate")
    page.button(key="generate.resume").click().run()
    assert "it has ended" in page.error[0].value, "with the same cap there is nothing to do"
    page.number_input(key=f"generate.new_cap.{made.id}").set_value(3.0)
    page.button(key="generate.resume").click().run()
    found = services.rlaif.get(SYSTEM, made.id)
    assert (found.cap_micro, found.job.status) == (3_000_000, JobStatus.QUEUED)


def test_a_failed_run_says_why_in_one_sentence(open_page: OpenPage, services: Services) -> None:
    made = run(services)
    told = "the judge at https://x: the account's credit is too low; buy credit there, then resume"
    seeds.job_is(services, made.job.id, JobStatus.FAILED, error=told)
    page = open_page("generate")
    assert told in [code.value for code in page.code]
    page.button(key="generate.resume").click().run()
    assert services.rlaif.get(SYSTEM, made.id).job.status is JobStatus.QUEUED


def test_a_waiting_run_says_what_it_waits_for(open_page: OpenPage, services: Services) -> None:
    run(services)
    page = open_page("generate", language="tr")
    assert page.button(key="generate.stop").label == "Durdur"
    assert "İşçi" in texts(page) or "bekliyor" in texts(page)


def test_how_far_a_run_is_stands_in_the_language_of_the_page(
    open_page: OpenPage, services: Services
) -> None:
    made = run(services)
    assert open_page("generate", language="tr").get("progress")[0].proto.text == "Henüz başlamadı"
    seeds.job_is(services, made.job.id, JobStatus.RUNNING, message="the engine writes candidates")
    said = open_page("generate", language="tr").get("progress")[0].proto.text
    assert said == f"{2 * len(made.spec.temperatures)} adaydan 0 tanesi yazıldı"


def test_500_runs_are_listed_and_a_waiting_one_counts_all_before_it(
    open_page: OpenPage, services: Services
) -> None:
    for _ in range(202):
        run(services)
    page = open_page("generate")
    assert len(page.dataframe[0].value) == 202
    assert "201 other jobs" in texts(page)
