from __future__ import annotations

import ast
from collections.abc import Callable
from datetime import date
from io import BytesIO
from pathlib import Path

import pytest

from console import loop, navigation
from services.bootstrap import Services
from services.tenants.models import Actor, Limits, Role
from tests.pages.conftest import SYSTEM, OpenPage, texts

ROWS = b"""\
{"prompt": "What is the capital of Turkey?", "chosen": "Ankara.", "rejected": "Istanbul."}
{"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}
"""
TODAY = date(2026, 11, 21)


@pytest.fixture
def pairs(services: Services) -> Services:
    services.preferences.import_pairs(SYSTEM, "acme", BytesIO(ROWS), source="rows.jsonl")
    return services


def test_every_role_has_a_home_in_both_languages(open_page: OpenPage) -> None:
    for role in ("annotator", "engineer", "manager", "admin", "root"):
        assert "What to do next" in texts(open_page("home", actor=role))
    assert "Sırada ne var" in texts(open_page("home", actor="engineer", language="tr"))


def test_counts_are_those_of_the_tenant(open_page: OpenPage, pairs: Services) -> None:
    assert "2 pairs left" in texts(open_page("home", actor="engineer"))
    elsewhere = loop.counts(SYSTEM, "globex", TODAY)
    assert elsewhere.pairs == loop.PairCounts(0, 0, 0)


def test_an_annotator_sees_the_queue_and_nothing_of_models_or_cost(
    pairs: Services, actor_of: Callable[[str], Actor]
) -> None:
    found = loop.counts(actor_of("annotator"), "acme", TODAY)
    assert found.pairs == loop.PairCounts(total=2, unreviewed=2, approved=0)
    assert (found.models, found.traffic, found.audit_entries, found.keys) == (None,) * 4


def _next(actor: Actor) -> list[str]:
    steps = loop.next_steps(actor, "acme", loop.counts(actor, "acme", TODAY))
    return [step.text.removeprefix("home.") for step in steps]


def test_what_to_do_next_follows_the_role(
    pairs: Services, actor_of: Callable[[str], Actor]
) -> None:
    assert _next(actor_of("annotator")) == ["do_review"]
    assert _next(actor_of("engineer")) == ["do_review", "do_audit"]
    assert _next(actor_of("manager")) == ["do_audit"]
    assert _next(actor_of("admin")) == ["do_key", "do_users", "do_audit"]


def test_what_to_do_next_follows_the_loop(
    services: Services, actor_of: Callable[[str], Actor]
) -> None:
    engineer = actor_of("engineer")
    assert _next(engineer)[0] == "do_import"
    services.preferences.import_pairs(SYSTEM, "acme", BytesIO(ROWS), source="rows.jsonl")
    assert _next(engineer)[0] == "do_review"
    services.preferences.approve_imported(SYSTEM, "acme")
    assert _next(engineer)[0] == "do_train"


def test_a_person_without_a_tenant_is_told_whom_to_ask(
    open_page: OpenPage, services: Services, actor_of: Callable[[str], Actor]
) -> None:
    services.tenants.create(SYSTEM, "Later", tenant_id="later", limits=Limits(1, 1, 1))
    user = next(u for u in services.tenants.list_users(SYSTEM) if u.username == "annotator")
    services.tenants.set_grants(SYSTEM, user.id, {"later": frozenset({Role.ANNOTATOR})})
    page = open_page("home", actor="annotator")
    assert page.title[0].value == "Later"


def test_every_page_that_home_leads_to_is_there() -> None:
    tree = ast.parse(Path(loop.__file__).read_text(encoding="utf-8"))
    named = {
        str(node.args[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Step"
        and isinstance(node.args[0], ast.Constant)
    }
    assert named
    assert named <= {row.name for row in navigation.ROWS}
