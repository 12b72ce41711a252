from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from services.bootstrap import Services
from services.jobs.models import JobStatus
from services.tenants.models import Actor
from tests.pages import seeds
from tests.pages.conftest import OpenPage, texts


@pytest.fixture(autouse=True)
def _base_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAM_BASE_MODEL", str(seeds.base_model(tmp_path / "base")))


def test_an_annotator_is_refused_by_address(open_page: OpenPage) -> None:
    page = open_page("train", actor="annotator")
    assert "You may not do this" in page.error[0].value
    assert not page.title


def test_runs_of_another_tenant_are_not_seen(open_page: OpenPage, services: Services) -> None:
    foreign = seeds.run(services, "globex")
    page = open_page("train")
    assert "No runs yet" in texts(page)
    page.query_params["run"] = foreign.id
    page.run()
    assert foreign.id not in texts(page)
    assert not _lists(page)


def test_without_approved_pairs_nothing_can_be_started(open_page: OpenPage) -> None:
    page = open_page("train")
    assert page.button(key="train.start").disabled
    assert "No pair is approved yet" in texts(page)


def test_a_manager_watches_but_starts_and_stops_nothing(
    open_page: OpenPage, services: Services
) -> None:
    seeds.run(services)
    page = open_page("train", actor="manager")
    assert page.subheader[0].value == "acme"
    assert not _buttons(page) & {"train.start", "train.stop", "train.resume"}


def test_starting_freezes_the_pairs_and_queues_what_the_form_says(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor]
) -> None:
    seeds.pairs(services)
    page = open_page("train")
    page.text_input(key="train.alias").set_value("support")
    page.number_input(key="train.quick.beta").set_value(0.3)
    page.number_input(key="train.quick.max_steps").set_value(12)
    page.selectbox(key="train.quick.loss_type").set_value("ipo")
    page.button(key="train.start").click().run()
    assert not page.exception
    [run] = services.training.list(actor_of("engineer"), "acme")
    assert run.spec.alias == "support"
    assert (run.spec.beta, run.spec.max_steps, run.spec.loss_type) == (0.3, 12, "ipo")
    assert (
        run.dataset_sha256 == services.preferences.datasets(actor_of("engineer"), "acme")[0].sha256
    )
    assert "is queued" in texts(page)
    assert "It waits for a worker" in texts(page)


def test_passes_win_over_the_steps_of_the_preset(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor]
) -> None:
    frozen = seeds.dataset(services)
    page = open_page("train")
    page.selectbox(key="train.dataset").set_value(frozen.id)
    page.button_group(key="train.quick.measure").set_value("epochs").run()
    page.number_input(key="train.quick.epochs").set_value(3.0)
    page.button(key="train.start").click().run()
    [run] = services.training.list(actor_of("engineer"), "acme")
    assert (run.spec.max_steps, run.spec.epochs) == (None, 3.0)
    assert run.spec.dataset_id == frozen.id


def test_a_wrong_number_is_refused_before_pairs_are_frozen(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor]
) -> None:
    seeds.pairs(services)
    page = open_page("train")
    page.number_input(key="train.quick.lora_r").set_value(999)
    page.button(key="train.start").click().run()
    assert "expected a number from 1 to 256" in page.error[0].value
    assert services.training.list(actor_of("engineer"), "acme") == []
    assert services.preferences.datasets(actor_of("engineer"), "acme") == []


def test_a_run_in_line_says_what_is_before_it(open_page: OpenPage, services: Services) -> None:
    first, second = seeds.run(services), seeds.run(services, seed=2)
    seeds.job_is(services, first.job.id, JobStatus.RUNNING, message="training", progress=0.3)
    page = open_page("train")
    assert "one other job of this tenant is before it" in page.info[0].value
    assert page.button(key="train.stop").label == "Stop"
    page.button(key="train.stop").click().run()
    stopped = services.training.get(seeds.SYSTEM, second.id)
    assert stopped.job.status is JobStatus.STOPPED


def test_a_running_one_shows_its_curves_and_the_time_left(
    open_page: OpenPage, services: Services
) -> None:
    run = seeds.run(services)
    seeds.curve(services, run, 25)
    seeds.job_is(services, run.job.id, JobStatus.RUNNING, message="step 25 of 40", progress=0.6)
    page = open_page("train")
    read = texts(page)
    assert "25 / 40" in read
    assert "Reward margin" in read
    page.session_state["train.open_log"] = True
    assert "12 pairs to train on" in texts(page.run())
    assert len(page.get("plotly_chart")) == 6
    assert "Step 25 of 40 · about 39 s left" in page.get("progress")[0].proto.text


def test_a_failed_one_shows_its_sentence_and_can_be_resumed(
    open_page: OpenPage, services: Services
) -> None:
    run = seeds.run(services)
    sentence = "dataset x: expected at least 2 pairs, found 1"
    seeds.job_is(services, run.job.id, JobStatus.FAILED, error=sentence)
    page = open_page("train")
    assert sentence in [code.value for code in page.code]
    page.button(key="train.resume").click().run()
    assert services.training.get(seeds.SYSTEM, run.id).job.status is JobStatus.QUEUED
    assert "goes on from its last saved step" in texts(page)


def test_a_finished_one_names_its_adapter_and_leads_to_the_evaluation(
    open_page: OpenPage, services: Services
) -> None:
    run, made = seeds.run(services), seeds.adapter(services)
    seeds.job_is(services, run.job.id, JobStatus.SUCCEEDED, progress=1.0)
    services.training.record_outcome(
        seeds.SYSTEM, run.id, result={"outcome": "succeeded"}, adapter=made.name
    )
    page = open_page("train", language="tr")
    assert made.name in [code.value for code in page.code]
    assert "Bitti" in texts(page)
    assert not _buttons(page) & {"train.stop", "train.resume"}


def test_the_address_chooses_the_run(open_page: OpenPage, services: Services) -> None:
    first = seeds.run(services)
    seeds.run(services, seed=2)
    page = open_page("train")
    page.query_params["run"] = first.id
    page.run()
    page.session_state["train.open_facts"] = True
    page.run()
    [facts] = [table.value for table in page.dataframe]
    assert first.id in set(facts["value"])


def test_what_is_folded_away_is_asked_for_only_when_it_is_opened(
    open_page: OpenPage, services: Services
) -> None:
    run = seeds.run(services)
    services.training.folder(run).path.mkdir(parents=True)
    services.training.folder(run).log.write_text("one line of the log")
    page = open_page("train")
    assert "one line of the log" not in texts(page)
    assert "train.start" not in _buttons(page), "the form waits behind its title"
    page.session_state["train.open_log"] = page.session_state["train.form"] = True
    page.run()
    assert "one line of the log" in texts(page)
    assert "train.start" in _buttons(page)


def _lists(page: AppTest) -> list[dict[str, Any]]:
    """What the lists of the page were given."""
    return [json.loads(found.proto.json) for found in page.get("bidi_component")]


def _buttons(page: AppTest) -> set[str]:
    return {button.key for button in page.button if button.key}


def test_every_run_is_in_the_list_and_only_of_this_tenant(
    open_page: OpenPage, services: Services
) -> None:
    first, second = seeds.run(services), seeds.run(services, seed=2)
    seeds.run(services, tenant_id="globex")
    seeds.job_is(services, first.job.id, JobStatus.FAILED, progress=0.25)
    page = open_page("train", language="tr")
    [told] = _lists(page)
    assert [row[0] for row in told["rows"]] == [second.id, first.id]
    assert told["chosen"] == second.id
    assert told["rows"][1][1] == ["Başarısız", "red"]
    assert told["rows"][1][4] == [0.25, "%25"]


def test_the_form_says_what_a_run_will_need_before_it_is_launched(
    open_page: OpenPage, services: Services
) -> None:
    seeds.pairs(services)
    page = open_page("train")
    assert "32 steps" in texts(page)
    assert "A rough guess: no run on this base model has ended yet." in texts(page)
    page.text_area(key="train.quick.advanced").set_value("precompute_ref_log_probs: true").run()
    assert any("unknown key" in found.value for found in page.error)


def test_a_clone_fills_the_form_and_names_the_run_it_came_from(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor]
) -> None:
    seeds.pairs(services)
    first = seeds.run(services, beta=0.7, advanced={"weight_decay": 0.25})
    seeds.job_is(services, first.job.id, JobStatus.SUCCEEDED)
    page = open_page("train")
    page.button(key="train.clone_it").click().run()
    form = f"train.clone-{first.id[-6:]}"
    assert page.number_input(key=f"{form}.beta").value == 0.7
    assert "weight_decay: 0.25" in page.text_area(key=f"{form}.advanced").value
    page.number_input(key=f"{form}.seed").set_value(7)
    page.button(key="train.start").click().run()
    assert not page.error
    assert "train.start" not in _buttons(page), "a started run closes the form"
    made = services.training.list(actor_of("engineer"), "acme")[0]
    assert (made.parent_id, made.spec.beta, made.spec.seed) == (first.id, 0.7, 7)
    assert made.spec.more.weight_decay == 0.25
    page.session_state["train.open_compare"] = True
    page.run()
    told = page.dataframe[-1].value
    assert "seed" in list(told["name"]), "what differs from the run it was cloned from is shown"
    assert "beta" not in list(told["name"])


def test_kto_freezes_single_answers_too_and_orders_no_likelihood_term(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor]
) -> None:
    seeds.pairs(services)
    page = open_page("train")
    page.selectbox(key="train.quick.loss_type").set_value("kto").run()
    assert page.number_input(key="train.quick.sft_weight").disabled
    page.button(key="train.start").click().run()
    assert not page.error
    engineer = actor_of("engineer")
    made = services.training.list(engineer, "acme")[0]
    assert (made.spec.loss_type, made.spec.sft_weight) == ("kto", 0.0)
    dataset = services.training.dataset(engineer, "acme", made.spec.dataset_id)
    assert (dataset.folder / "kto-train.jsonl").is_file()


def test_too_few_second_votes_set_no_share_of_wrong_labels(
    open_page: OpenPage, services: Services
) -> None:
    seeds.pairs(services)
    page = open_page("train")
    page.button(key="train.measure_noise").click().run()
    assert page.selectbox(key="train.quick.loss_type").value == "sigmoid"
    assert any("Too few pairs have votes of two people" in found.value for found in page.warning)
