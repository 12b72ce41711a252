from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from console import log_pages
from console.components import log_view
from services.audit.models import Event
from services.bootstrap import Services
from services.errors import NotPermitted
from services.tenants.models import Actor
from tests.pages import seeds
from tests.pages.conftest import OpenPage, texts


def _append(
    services: Services, count: int, tenant_id: str = "acme", action: str = "chat.x"
) -> None:
    services.audit.sequence()  # what earlier steps left in the outbox comes before
    now = datetime.now(UTC)
    with services.db.write() as session:
        services.audit.append_now(
            session,
            [
                Event(tenant_id, "u", "Elif", action, f"request:{n}", {"n": n}, now)
                for n in range(count)
            ],
        )


def test_an_annotator_is_refused_by_address(open_page: OpenPage) -> None:
    page = open_page("audit", actor="annotator")
    assert "You may not do this" in page.error[0].value
    assert not page.title


def test_entries_of_another_tenant_are_not_seen(open_page: OpenPage, services: Services) -> None:
    _append(services, 3, "globex", "secret.deed")
    page = open_page("audit", actor="manager")
    assert "secret.deed" not in set(page.dataframe[0].value["action"])
    assert "audit.everywhere" not in {toggle.key for toggle in page.toggle}
    page.query_params["entry"] = str(services.audit.head()[0])
    page.run()
    assert "secret.deed" not in texts(page)


def test_only_an_administrator_of_all_tenants_sees_the_installation(
    open_page: OpenPage, services: Services
) -> None:
    _append(services, 1, "globex", "secret.deed")
    page = open_page("audit", actor="root")
    page.toggle(key="audit.everywhere").set_value(True).run()
    table = page.dataframe[0].value
    assert table["action"].iloc[0] == "secret.deed"
    assert table["tenant"].iloc[0] == "globex"
    with pytest.raises(NotPermitted):
        log_pages.older(
            Actor("user", "u", "u", {}), None, before=9, action=None, limit=1
        )  # fmt: skip


def test_what_was_done_a_moment_ago_stands_on_top(open_page: OpenPage, services: Services) -> None:
    seeds.pairs(services)
    page = open_page("audit")
    table = page.dataframe[0].value
    assert table["action"].iloc[0] == "pairs.approved_as_imported"
    assert "tenant.created" in set(table["action"])


def test_a_filter_that_fits_nothing_says_so(open_page: OpenPage) -> None:
    page = open_page("audit", language="tr")
    page.selectbox(key="audit.action").set_value("rollout.").run()
    assert "Böyle bir kayıt yok" in texts(page)


def test_filtered_entries_are_turned_page_by_page(open_page: OpenPage, services: Services) -> None:
    _append(services, 60, action="rollout.stepped")
    _append(services, 400, action="chat.completion")
    page = open_page("audit")
    page.selectbox(key="audit.action").set_value("rollout.").run()
    first = page.dataframe[0].value
    assert len(first) == 50
    assert set(first["action"]) == {"rollout.stepped"}
    page.button(key="audit.older").click().run()
    second = page.dataframe[0].value
    assert len(second) == 10
    assert not set(first["seq"]) & set(second["seq"])
    assert "audit.older" not in {button.key for button in page.button}
    page.button(key="audit.newer").click().run()
    assert list(page.dataframe[0].value["seq"]) == list(first["seq"])


def test_reading_backwards_misses_nothing(services: Services) -> None:
    _append(services, 23)
    read: list[int] = []
    before = services.audit.head()[0] + 1
    while page := log_pages.older(seeds.SYSTEM, None, before=before, action=None, limit=7):
        read += [entry.seq for entry in page]
        before = page[-1].seq
    assert read == list(range(services.audit.head()[0], 0, -1))


def test_the_address_chooses_the_entry(open_page: OpenPage, services: Services) -> None:
    _append(services, 5)
    page = open_page("audit")
    page.query_params["entry"] = str(services.audit.head()[0] - 2)
    page.run()
    facts = page.dataframe[-1].value
    assert dict(zip(facts["name"], facts["value"], strict=True))["n"] == "2"


def test_a_sound_log_is_said_to_hold_with_size_and_root(
    open_page: OpenPage, services: Services
) -> None:
    page = open_page("audit", actor="manager")
    page.button(key="audit.verify").click().run()
    size, root = services.audit.head()
    assert f"all {size} entries of the installation are as they were written" in texts(page)
    assert root in [code.value for code in page.code]


def test_a_changed_entry_is_named(open_page: OpenPage, services: Services) -> None:
    _append(services, 5)
    with services.db.engine.begin() as connection:
        connection.execute(text("DROP TRIGGER audit_log_no_update"))
        connection.execute(text("UPDATE audit_log SET actor_name = 'Nobody' WHERE seq = 3"))
    page = open_page("audit")
    page.button(key="audit.verify").click().run()
    assert "The evidence does not hold" in page.error[0].value
    assert "3" in page.error[0].value
    assert page.dataframe


def test_the_export_holds_the_tenants_entries_only(services: Services) -> None:
    _append(services, 2, "globex", "secret.deed")
    _append(services, 2)
    lines = [json.loads(line) for line in log_view.exported(seeds.SYSTEM, "acme").splitlines()]
    assert {line["tenant_id"] for line in lines} == {"acme"}
    assert lines[-1]["details"] == {"n": 1}
