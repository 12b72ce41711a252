from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from console import i18n
from console.navigation import PAGES, ROWS, Row
from services.tenants.models import Actor, Role


def _actor(role: Role) -> Actor:
    return Actor("user", "u", "u", {"acme": frozenset({role})})


def _open(actor: Actor | None, tenant: str | None = "acme") -> set[str]:
    return {row.name for row in ROWS if row.open_to(actor, tenant)}


def test_every_page_is_in_the_navigation_and_the_other_way_round() -> None:
    files = {path.name for path in PAGES.glob("*.py") if path.name != "__init__.py"}
    assert {row.file for row in ROWS} == files
    assert len({row.file for row in ROWS}) == len(ROWS)


def test_home_comes_first() -> None:
    assert ROWS[0].file == "home.py"


@pytest.mark.parametrize("text", [lambda row: row.title, lambda row: row.section or row.title])
def test_every_row_has_its_texts(text: Callable[[Row], str]) -> None:
    assert all(i18n.has(text(row)) for row in ROWS)


def test_somebody_who_is_not_signed_in_is_offered_only_public_pages() -> None:
    assert _open(None) == {row.name for row in ROWS if row.public}


def test_an_annotator_is_offered_the_review_and_no_settings() -> None:
    offered = _open(_actor(Role.ANNOTATOR))
    assert {"home", "review"} <= offered
    assert not {"pairs", "tenants", "users"} & offered


def test_an_administrator_is_offered_no_review() -> None:
    offered = _open(_actor(Role.ADMIN))
    assert {"tenants", "users"} <= offered
    assert "review" not in offered


def test_a_role_elsewhere_opens_nothing_here() -> None:
    here = _open(_actor(Role.ADMIN), tenant="globex")
    assert here == {row.name for row in ROWS if row.public or row.permission is None}


def test_pages_are_thin() -> None:
    assert {path.name: n for path in PAGES.glob("*.py") if (n := _lines(path)) > 240} == {}


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())
