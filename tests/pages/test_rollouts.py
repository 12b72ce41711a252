from __future__ import annotations

from collections.abc import Callable

import pytest

from services.bootstrap import Services
from services.rollouts.models import Rollout, RolloutState
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


def test_a_promotion_without_proof_needs_a_reason_and_keeps_it(
    open_page: OpenPage, services: Services
) -> None:
    found = _rollout(services)
    page = open_page("rollouts", language="tr")
    assert "Adaptör hiç değerlendirilmedi." in page.warning[0].value
    page.button(key=f"rollouts.promote.{found.id}").click().run()
    assert "Gereken kanıt eksik" in page.error[0].value
    assert services.rollouts.get(seeds.SYSTEM, found.id).state is RolloutState.STEPPING
    page.text_area(key=f"rollouts.reason.{found.id}").set_value("the old one answers nonsense")
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


def test_a_rollback_needs_a_reason_and_stands_in_the_history(
    open_page: OpenPage, services: Services
) -> None:
    found = _rollout(services)
    page = open_page("rollouts")
    page.button(key=f"rollouts.back.{found.id}").click().run()
    assert "expected a reason" in page.error[0].value
    page.text_area(key=f"rollouts.back_reason.{found.id}").set_value("it repeats itself")
    page.button(key=f"rollouts.back.{found.id}").click().run()
    assert services.rollouts.get(seeds.SYSTEM, found.id).state is RolloutState.ROLLED_BACK
    history = page.dataframe[-1].value
    assert list(history["reason"]) == ["it repeats itself", "–"]
    assert not page.slider(key="rollouts.percent").disabled
    assert f"rollouts.back.{found.id}" not in {button.key for button in page.button}


def test_earlier_rollouts_of_an_alias_stay_listed(open_page: OpenPage, services: Services) -> None:
    first = _rollout(services)
    services.rollouts.rollback(seeds.SYSTEM, first.id, reason="too early")
    services.rollouts.start(seeds.SYSTEM, "acme", "acme", first.candidate, percent=5)
    page = open_page("rollouts")
    assert "Earlier rollouts" in [part.value for part in page.subheader]
    assert list(page.dataframe[-1].value["reason"]) == ["too early"]
