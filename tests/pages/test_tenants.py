from __future__ import annotations

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from services.bootstrap import Services
from services.tenants.models import Actor, KeyLimits, Limits
from tests.pages import seeds
from tests.pages.conftest import SYSTEM, OpenPage, texts


def test_the_wrong_role_is_refused(open_page: OpenPage) -> None:
    assert "You may not do this" in open_page("tenants", actor="annotator").error[0].value


def test_another_tenant_cannot_be_looked_at(open_page: OpenPage) -> None:
    page = open_page("tenants", actor="admin", tenant="globex")
    assert page.title[0].value == "Acme"


def test_an_engineer_reads_limits_and_changes_nothing(open_page: OpenPage) -> None:
    page = open_page("tenants", actor="engineer")
    shown = {metric.label: metric.value for metric in page.metric}
    assert list(shown.values()) == ["5", "100", "No limit", "10,000", "No limit"]
    assert "No budget a month is set; 0.00 USD spent" in texts(page)
    assert {button.key for button in page.button} == {"shared.sign_out"}


def test_an_administrator_changes_limits(open_page: OpenPage, services: Services) -> None:
    page = open_page("tenants", actor="admin")
    page.number_input(key="tenants.acme.tps").set_value(9)
    next(button for button in page.button if button.label == "Save").click().run()
    assert services.tenants.get(SYSTEM, "acme").limits == Limits(9, 100, 10_000)
    assert page.metric[0].value == "9"


def test_an_administrator_sets_a_budget_and_everyone_sees_where_it_stands(
    open_page: OpenPage, services: Services
) -> None:
    page = open_page("tenants", actor="admin")
    page.number_input(key="tenants.acme.monthly_usd").set_value(0.1)
    page.number_input(key="tenants.acme.concurrent").set_value(7)
    next(button for button in page.button if button.label == "Save").click().run()
    assert not page.exception
    limits = services.tenants.get(SYSTEM, "acme").limits
    assert limits == Limits(5, 100, 10_000, concurrent=7, monthly_micro=100_000)
    seeds.usage(services, cost_micro=85_000)
    month = services.metering.budget(SYSTEM, "acme").month
    services.metering.warn("acme", month, budget_micro=100_000, spent_micro=85_000)
    for name in ("tenants", "cost"):
        read = open_page(name, actor="manager")
        assert "0.0850 USD of 0.1000 USD spent this month, 85%" in bars(read)
        assert "50% reached on" in texts(read)
        assert "80% reached on" in texts(read)
    page = open_page("tenants", actor="admin")
    page.number_input(key="tenants.acme.monthly_usd").set_value(0.0)
    next(button for button in page.button if button.label == "Save").click().run()
    assert services.tenants.get(SYSTEM, "acme").limits.monthly_micro is None


def bars(page: AppTest) -> str:
    return "\n".join(str(bar.proto.text) for bar in page.get("progress"))


def test_a_spent_budget_says_what_happens(open_page: OpenPage, services: Services) -> None:
    services.tenants.set_limits(SYSTEM, "acme", Limits(5, 100, 10_000, monthly_micro=10))
    seeds.usage(services, cost_micro=11)
    page = open_page("cost", language="tr")
    assert "Bu ayın bütçesi tükendi" in page.error[0].value


def test_a_key_gets_limits_of_its_own(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor]
) -> None:
    key_id = services.tenants.create_key(actor_of("admin"), "acme", "one").info.id
    page = open_page("tenants", actor="admin")
    page.number_input(key=f"tenants.{key_id}.rpm").set_value(12)
    saves = [button for button in page.button if button.label == "Save"]
    saves[-1].click().run()
    assert services.tenants.key_limits() == {key_id: KeyLimits(rpm=12)}
    assert "Requests a minute: 12" in texts(page)


def test_a_key_is_shown_once(open_page: OpenPage, services: Services) -> None:
    page = open_page("tenants", actor="admin")
    page.text_input(key="tenants.key_name").set_value("intranet *search*")
    next(button for button in page.button if button.label == "Create key").click().run()
    key = page.code[0].value
    assert services.tenants.authenticate(key)[1].id == "acme"
    page.run()
    assert key not in texts(page)
    assert not page.code
    assert r"intranet \*search\*" in texts(page)


def test_a_revoked_key_opens_nothing_more(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor]
) -> None:
    issued = services.tenants.create_key(actor_of("admin"), "acme", "one")
    page = open_page("tenants", actor="admin")
    page.button(key=f"tenants.revoke.{issued.info.id}").click().run()
    assert services.tenants.list_keys(actor_of("admin"), "acme")[0].revoked_at is not None
    assert "Revoked" in texts(page)


def test_a_bad_name_is_refused_in_words(open_page: OpenPage) -> None:
    page = open_page("tenants", actor="root")
    next(button for button in page.button if button.label == "Create tenant").click().run()
    assert "This cannot be used as it is" in page.error[0].value


def test_whoever_administers_everything_makes_tenants(
    open_page: OpenPage, services: Services
) -> None:
    page = open_page("tenants", actor="root")
    page.text_input(key="tenants.new_name").set_value("Çınar Hukuk")
    next(button for button in page.button if button.label == "Create tenant").click().run()
    assert not page.error
    assert "Çınar Hukuk" in [tenant.name for tenant in services.tenants.list(SYSTEM)]


def test_aliases_say_what_answers(open_page: OpenPage) -> None:
    page = open_page("tenants", actor="engineer", language="tr")
    assert list(page.dataframe[0].value["adapter"]) == ["Temel model, adaptörsüz"]
