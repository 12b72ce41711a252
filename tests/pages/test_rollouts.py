from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import delete

from services.bootstrap import Services
from services.db import new_id
from services.rollouts.driving.store import DriveRow, StatementRow
from services.rollouts.models import Arm, Planned, Rollout, RolloutState
from services.rollouts.policy import DEFAULT_SOURCE
from services.rollouts.samples.models import Sample, Standing
from services.rollouts.samples.service import observe
from services.tenants.models import Actor
from tests.pages import seeds
from tests.pages.conftest import OpenPage, texts


@pytest.fixture(autouse=True)
def _no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    # A server at which nobody listens: traffic must not wait for it.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


def _rollout(services: Services, tenant_id: str = "acme", percent: int = 10) -> Rollout:
    made = seeds.adapter(services, tenant_id)
    return services.rollouts.start(seeds.SYSTEM, tenant_id, tenant_id, made.name, percent=percent)


def test_an_annotator_is_refused_by_address(open_page: OpenPage) -> None:
    page = open_page("rollouts", actor="annotator")
    assert "You may not do this" in page.error[0].value
    assert not page.title


def test_rollouts_of_another_tenant_are_not_seen(open_page: OpenPage, services: Services) -> None:
    foreign = _rollout(services, "globex")
    read = texts(open_page("rollouts"))
    assert "No adapter yet" in read
    assert foreign.candidate not in read


def test_a_manager_sees_the_split_and_changes_nothing(
    open_page: OpenPage, services: Services
) -> None:
    found = _rollout(services)
    page = open_page("rollouts", actor="manager")
    assert found.candidate in texts(page)
    assert not [button for button in page.button if str(button.key).startswith("rollouts.")]
    assert not page.slider


def test_starting_gives_the_candidate_its_first_share(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor]
) -> None:
    made = seeds.adapter(services)
    page = open_page("rollouts")
    assert "No rollout yet" in texts(page)
    page.radio(key="rollouts.kind").set_value("hand").run()
    page.slider(key="rollouts.percent").set_value(25)
    page.button(key="rollouts.start").click().run()
    [found] = services.rollouts.list(actor_of("engineer"), "acme")
    assert (found.alias, found.candidate, found.percent) == ("acme", made.name, 25)
    assert "No request has come since this step" in texts(page)


def test_applying_moves_the_share(open_page: OpenPage, services: Services) -> None:
    found = _rollout(services)
    page = open_page("rollouts")
    page.slider(key=f"rollouts.share.10.{found.id}").set_value(50)
    page.button(key=f"rollouts.apply.{found.id}").click().run()
    assert services.rollouts.get(seeds.SYSTEM, found.id).percent == 50
    assert page.slider(key=f"rollouts.share.50.{found.id}").value == 50
    assert "now gets 50 % of the traffic" in texts(page)


def test_asked_and_observed_share_stand_beside_each_other_with_the_interval(
    open_page: OpenPage, services: Services
) -> None:
    found = _rollout(services)
    for number in range(40):
        arm = "canary" if number < 4 else "stable"
        status = "error" if number == 0 else "ok"
        at = services.rollouts.get(seeds.SYSTEM, found.id).started_at
        seeds.usage(services, arm=arm, status=status, at=at)
    page = open_page("rollouts")
    assert "Asked 10%, observed **10.0%**" in texts(page)
    assert "4.0% to 23.1%): as asked" in texts(page)
    table = page.dataframe[0].value
    assert list(table["requests"]) == ["36", "4"]
    assert list(table["errors"]) == ["0", "1"]
    assert list(table["cost"]) == ["0.001584 USD", "0.000176 USD"]
    assert "second engine" not in texts(page)
    seeds.usage(services, arm="fallback", at=at)
    assert "answered in place of an arm that failed: 1. Each counts" in texts(open_page("rollouts"))


def test_a_promotion_without_proof_needs_a_reason_and_keeps_it(
    open_page: OpenPage, services: Services
) -> None:
    found = _rollout(services)
    page = open_page("rollouts", language="tr")
    assert "Adaptör hiç değerlendirilmedi." in page.warning[0].value
    assert page.button(key=f"rollouts.promote.{found.id}").disabled
    assert "Yükseltme kapalı: eşik aşılmadı" in texts(page)
    reason = page.text_area(key=f"rollouts.reason.{found.id}")
    reason.set_value("the old one answers nonsense").run()
    assert not page.button(key=f"rollouts.promote.{found.id}").disabled
    page.button(key=f"rollouts.promote.{found.id}").click().run()
    ended = services.rollouts.get(seeds.SYSTEM, found.id)
    assert ended.state is RolloutState.PROMOTED
    assert ended.steps[-1].reason == "the old one answers nonsense"
    assert services.tenants.alias_table()["acme", "acme"] == found.candidate
    assert "Yükseltildi" in texts(page)


def test_a_proven_candidate_is_said_to_pass_the_gate(
    open_page: OpenPage, services: Services
) -> None:
    made = seeds.adapter(services)
    seeds.evaluation(services, made, answers=seeds.ANSWERS[:1])
    services.rollouts.start(seeds.SYSTEM, "acme", "acme", made.name, percent=0)
    page = open_page("rollouts")
    assert "the latest evaluation proves the candidate better" in page.success[0].value
    assert not page.warning


def test_a_rollback_is_one_click_and_keeps_the_reason_that_was_given(
    open_page: OpenPage, services: Services
) -> None:
    found = _rollout(services)
    page = open_page("rollouts")
    page.text_input(key=f"rollouts.back_reason.{found.id}").set_value("it repeats itself")
    page.button(key=f"rollouts.back.{found.id}").click().run()
    ended = services.rollouts.get(seeds.SYSTEM, found.id)
    assert ended.state is RolloutState.ROLLED_BACK
    assert ended.steps[-1].reason == "it repeats itself"
    histories = [list(one.value["reason"]) for one in page.dataframe if "reason" in one.value]
    assert ["it repeats itself", "–"] in histories
    assert "it repeats itself" in texts(page), "and beside its state, too"
    assert f"rollouts.back.{found.id}" not in {button.key for button in page.button}


def test_earlier_rollouts_of_an_alias_stay_listed(open_page: OpenPage, services: Services) -> None:
    first = _rollout(services)
    services.rollouts.rollback(seeds.SYSTEM, first.id, reason="too early")
    services.rollouts.start(seeds.SYSTEM, "acme", "acme", first.candidate, percent=5)
    page = open_page("rollouts")
    assert "Earlier rollouts" in [part.value for part in page.subheader]
    assert list(page.dataframe[-1].value["reason"]) == ["too early"]


@pytest.mark.parametrize("state", ["planned", "stepping", "paused", "drilling", "promoted"])
def test_the_way_back_works_in_every_state_without_a_reason(
    open_page: OpenPage, services: Services, state: str
) -> None:
    if state == "planned":
        made = seeds.adapter(services)
        found = services.rollouts.start(
            seeds.SYSTEM, "acme", "acme", made.name, plan=Planned(DEFAULT_SOURCE)
        )
    else:
        found = _rollout(services)
    if state == "paused":
        services.rollouts.pause(seeds.SYSTEM, found.id)
    if state == "drilling":
        services.rollouts.drill(seeds.SYSTEM, found.id)
    if state == "promoted":
        services.rollouts.promote(seeds.SYSTEM, found.id, reason="now")
    page = open_page("rollouts")
    page.button(key=f"rollouts.back.{found.id}").click().run()
    ended = services.rollouts.get(seeds.SYSTEM, found.id)
    assert ended.state is RolloutState.ROLLED_BACK
    assert ended.steps[-1].reason == "Rolled back by hand; no reason was given."
    assert not page.exception


def test_a_rollout_by_policy_is_planned_and_a_wrong_policy_is_named(
    open_page: OpenPage, services: Services
) -> None:
    seeds.adapter(services)
    page = open_page("rollouts")
    page.text_area(key="rollouts.policy").set_value("steps: [{percent: 5}]")
    page.button(key="rollouts.start").click().run()
    assert "steps" in page.error[0].value
    assert "hold" in page.error[0].value
    page.text_area(key="rollouts.policy").set_value(DEFAULT_SOURCE)
    page.button(key="rollouts.start").click().run()
    [found] = services.rollouts.list(seeds.SYSTEM, "acme")
    assert (found.state, found.percent) == (RolloutState.PLANNED, 0)
    assert found.plan is not None
    assert found.plan.policy_source == DEFAULT_SOURCE
    assert "No worker has looked at this rollout yet" in texts(page)


def test_both_arms_stand_beside_each_other_and_what_if_counts_users(
    open_page: OpenPage, services: Services
) -> None:
    found = _rollout(services)
    _samples(services, found, stable=90, canary=10, errors=4)
    page = open_page("rollouts")
    read = texts(page)
    assert "90 requests on the stable arm, 10 on the candidate" in read
    assert "No data: Time to first token, 95th percentile, Thumbs down." in read
    page.slider(key=f"rollouts.share.10.{found.id}").set_value(30).run()
    assert "Of 100 users seen in this rollout, 20 would move to the candidate" in texts(page)


def test_a_drill_is_asked_for_and_pauses_and_goes_on(
    open_page: OpenPage, services: Services
) -> None:
    made = seeds.adapter(services)
    found = services.rollouts.start(
        seeds.SYSTEM, "acme", "acme", made.name, plan=Planned(DEFAULT_SOURCE)
    )
    page = open_page("rollouts")
    assert page.button(key=f"rollouts.drill.{found.id}").disabled
    services.rollouts.step(seeds.SYSTEM, found.id, 5)
    page = open_page("rollouts")
    page.button(key=f"rollouts.pause.{found.id}").click().run()
    assert services.rollouts.get(seeds.SYSTEM, found.id).state is RolloutState.PAUSED
    page.button(key=f"rollouts.resume.{found.id}").click().run()
    page.button(key=f"rollouts.drill.{found.id}").click().run()
    drilling = services.rollouts.get(seeds.SYSTEM, found.id)
    assert (drilling.state, drilling.percent) == (RolloutState.DRILLING, 0)
    assert page.button(key=f"rollouts.promote.{found.id}").disabled
    assert "Promote is off while a drill runs" in texts(page)


def test_signed_steps_can_be_taken_away(open_page: OpenPage, services: Services) -> None:
    found = _rollout(services)
    services.rollouts.step(seeds.SYSTEM, found.id, 30)
    page = open_page("rollouts", actor="manager")
    assert "2 signed steps" in texts(page)
    assert page.get("download_button")


@pytest.fixture
def _cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is configured; a page asks nothing of it."""
    monkeypatch.setenv("PARAM_KUBECONFIG", "in-cluster")


def test_without_a_cluster_nobody_is_asked_what_splits(
    open_page: OpenPage, services: Services
) -> None:
    seeds.adapter(services)
    assert "rollouts.backend" not in {box.key for box in open_page("rollouts").selectbox}


@pytest.mark.usefixtures("_cluster")
def test_with_a_cluster_the_form_asks_where_and_refuses_what_would_never_do(
    open_page: OpenPage, services: Services
) -> None:
    made = seeds.adapter(services)
    page = open_page("rollouts")
    page.selectbox(key="rollouts.backend").set_value("kserve-standard").run()
    page.text_input(key="rollouts.target.kserve-standard.name").set_value("support")
    page.button(key="rollouts.start").click().run()
    assert "target: expected a value for storage_uri, found none" in page.error[0].value.replace(
        "\\", ""
    )
    assert services.rollouts.list(seeds.SYSTEM, "acme") == []
    uri = "gs://weights/{adapter}"
    page.text_input(key="rollouts.target.kserve-standard.storage_uri").set_value(uri)
    page.button(key="rollouts.start").click().run()
    [found] = services.rollouts.list(seeds.SYSTEM, "acme")
    assert found.candidate == made.name
    assert found.plan is not None
    assert found.plan.backend == "kserve-standard"
    assert found.plan.target == {"namespace": "default", "name": "support", "storage_uri": uri}
    assert "split by kserve-standard at default/support" in texts(page).replace("\\", "")


@pytest.mark.usefixtures("_cluster")
def test_what_a_cluster_routes_stands_beside_what_was_asked(
    open_page: OpenPage, services: Services
) -> None:
    made = seeds.adapter(services)
    target = {"namespace": "prod", "name": "support", "storage_uri": "gs://weights/{adapter}"}
    found = services.rollouts.start(
        seeds.SYSTEM, "acme", "acme", made.name,
        plan=Planned(DEFAULT_SOURCE, "kserve-standard", target),
    )  # fmt: skip
    assert "has not been read back yet" in texts(open_page("rollouts"))
    services.rollouts.step(seeds.SYSTEM, found.id, 25)
    with services.db.write() as session:
        session.add(
            DriveRow(
                rollout_id=found.id, holder="w", held_until=found.started_at, applied_seq=1,
                routed_percent=10, note="asked 25 %, the route says 10 %",
            )
        )  # fmt: skip
    read = texts(open_page("rollouts"))
    assert "Asked 25%, routed **10%** by the cluster so far: **not there yet.**" in read
    assert "asked 25 %, the route says 10 %" in read
    assert "The cluster does not say which adapter answered" in read
    with services.db.write() as session:
        session.get_one(DriveRow, found.id).routed_percent = 25
    read = texts(open_page("rollouts", language="tr"))
    assert "kümenin yönlendirdiği **%25** (kümeden geri okundu)" in read


def test_a_history_whose_end_was_taken_away_is_told(
    open_page: OpenPage, services: Services
) -> None:
    found = _rollout(services)
    services.rollouts.step(seeds.SYSTEM, found.id, 30)
    assert "The audit log names all 2 of them" in texts(open_page("rollouts"))
    with services.db.write() as session:
        session.execute(delete(StatementRow).where(StatementRow.seq == 2))
    page = open_page("rollouts")
    assert "The signed history is not whole" in page.error[0].value
    assert "Step 2: the log names its signed statement, and there is none." in page.error[0].value


def _samples(
    services: Services, rollout: Rollout, *, stable: int, canary: int, errors: int
) -> None:
    """One request of each place in the split that stands for one percent."""
    at = services.rollouts.get(seeds.SYSTEM, rollout.id).started_at
    with services.db.write() as session:
        observe(
            session,
            [
                Sample(
                    request_id=new_id(), tenant_id=rollout.tenant_id, rollout_id=rollout.id,
                    arm=Arm.CANARY if number < canary else Arm.STABLE, place=number * 100,
                    standing=Standing.ERROR if number < errors else Standing.OK,
                    is_refused=False, is_flagged=False, latency_ms=100 + number, ttft_ms=None,
                    cost_micro=40, at=at,
                )
                for number in range(stable + canary)
            ],
        )  # fmt: skip
