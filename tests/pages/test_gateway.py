"""The gateway page: what is seen without a gateway, with one, and who may touch it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from console import wiring
from services import settings as configuration
from services.bootstrap import Services, build
from services.gateway.app import build_app
from services.metering.models import Price
from services.tenants.models import Actor
from tests.conftest import free_port
from tests.fakes.engine import FakeEngine
from tests.pages.conftest import SYSTEM, OpenPage, texts
from tests.services.gateway.conftest import eventually, served

PORT = "PARAM_GATEWAY_PORT"
MODEL = "big-model"


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A gateway's port, an engine that is not there, and a second engine."""
    variables = {
        PORT: str(free_port()), "PARAM_ENGINE_URL": "http://127.0.0.1:9",
        "PARAM_FALLBACK_URL": "http://user:secret@127.0.0.1:9", "PARAM_FALLBACK_MODEL": MODEL,
        "PARAM_MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def services(configured: dict[str, str], services: Services) -> Services:
    """The pages' services, with prices for the second engine."""
    shared = wiring.services()
    shared.metering.add_prices(SYSTEM, {"*": Price(1, 1), "fallback/*": Price(3, 15)})
    return shared


@pytest.fixture
def gateway(services: Services, configured: dict[str, str], tmp_path: Path) -> Iterator[FakeEngine]:
    """A real gateway on the pages' home, and its engine."""
    with FakeEngine() as engine:
        variables = configured | {
            "PARAM_HOME": str(services.settings.home), "PARAM_ENGINE_URL": engine.url,
        }  # fmt: skip
        parts = build(configuration.load(variables, directory=tmp_path))
        app = build_app(parts)
        with served(app, int(configured[PORT])):
            assert app.gateway is not None
            found = app.gateway
            eventually(lambda: found.preloader.engine_is_up)
            services.tenants.create_key(SYSTEM, "acme", "test")
            eventually(
                lambda: any(
                    one[1].id == "acme" for one in found.directory.snapshot().seen.callers.values()
                )
            )
            yield engine
        parts.close()


def test_annotators_and_managers_are_refused(open_page: OpenPage) -> None:
    for actor in ("annotator", "manager"):
        assert "You may not do this" in open_page("gateway", actor=actor).error[0].value


@pytest.mark.usefixtures("services")
def test_without_a_gateway_the_page_says_how_to_start_one(open_page: OpenPage) -> None:
    page = open_page("gateway", actor="engineer")
    assert "The gateway does not answer" in texts(page)
    assert "param up" in texts(page)
    assert "Ağ geçidi yanıt vermiyor" in texts(open_page("gateway", language="tr"))


@pytest.mark.usefixtures("gateway")
def test_an_engineer_sees_it_ready_and_can_touch_nothing(open_page: OpenPage) -> None:
    page = open_page("gateway", actor="engineer")
    said = texts(page)
    assert "Own engine" in said
    assert "in use" in said
    assert "Model fake-base" in said.replace("\\", "")
    assert "secret" not in said
    assert page.dataframe[0].value["Alias"].tolist() == ["acme"]
    assert [button.key for button in page.button if (button.key or "").startswith("gateway.")] == []


def test_what_is_missing_is_named(open_page: OpenPage, gateway: FakeEngine) -> None:
    gateway.stop()
    page = open_page("gateway", actor="engineer")
    eventually(lambda: any("the engine" in one.value for one in page.run().error))


def test_an_administrator_of_one_tenant_decides_about_the_second_engine(
    open_page: OpenPage, services: Services
) -> None:
    page = open_page("gateway", actor="admin")
    assert "it is not allowed" in texts(page)
    page.button(key="gateway.switch").click().run()
    assert "expected 1 to 500 characters, found 0" in texts(page)
    assert not services.operations.allows_fallback("acme")
    page.text_input(key="gateway.reason").set_value("contract 12").run()
    page.button(key="gateway.switch").click().run()
    assert "may answer this tenant from now on" in texts(page)
    assert services.operations.allows_fallback("acme")
    assert not services.operations.allows_fallback("globex")
    assert page.dataframe[0].value["Reason"].tolist() == ["contract 12"]


@pytest.mark.usefixtures("gateway")
def test_who_manages_every_tenant_drains_and_opens_again(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor]
) -> None:
    page = open_page("gateway", actor="root")
    page.text_input(key="gateway.drain_reason").set_value("kernel update").run()
    page.button(key="gateway.drain_now").click().run()
    root = actor_of("root")
    assert services.operations.state(root, "acme").is_draining
    assert "The gateway takes no new requests." in texts(page)
    page.text_input(key="gateway.drain_reason").set_value("done").run()
    page.button(key="gateway.drain_now").click().run()
    assert not services.operations.state(root, "acme").is_draining
    assert "gateway.drain_now" not in [
        button.key for button in open_page("gateway", actor="admin").button
    ]


def test_another_tenant_cannot_be_looked_at(open_page: OpenPage, services: Services) -> None:
    services.operations.set_fallback(SYSTEM, "globex", allowed=True, reason="their own contract")
    page = open_page("gateway", actor="admin", tenant="globex")
    assert "their own contract" not in texts(page)
