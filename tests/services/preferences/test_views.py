from __future__ import annotations

import pytest

from services.db import Database
from services.errors import InvalidInput, NotFound, NotPermitted
from services.preferences.filters import Filters
from services.preferences.models import PairStatus
from services.preferences.views import Views
from services.tenants.models import Role
from tests.services.preferences.rows import ANNOTATOR, ENGINEER, MANAGER, STRANGER, person

DISPUTED = Filters(status=PairStatus.DISPUTED, query="x")


@pytest.fixture
def views(database: Database) -> Views:
    return Views(database)


def names(views: Views, actor: object = ENGINEER) -> list[str]:
    return [view.name for view in views.list(actor, "acme")]  # type: ignore[arg-type]


@pytest.mark.parametrize("actor", [STRANGER, ANNOTATOR])
def test_only_those_who_read_pairs_have_views(views: Views, actor: object) -> None:
    with pytest.raises(NotPermitted):
        views.list(actor, "acme")  # type: ignore[arg-type]
    with pytest.raises(NotPermitted):
        views.save(actor, "acme", "mine", DISPUTED)  # type: ignore[arg-type]
    with pytest.raises(NotPermitted):
        views.remove(actor, "acme", "x")  # type: ignore[arg-type]


def test_a_view_is_ones_own_until_it_is_shared(views: Views) -> None:
    views.save(ENGINEER, "acme", "To settle", DISPUTED)
    assert names(views) == ["To settle"]
    assert names(views, MANAGER) == []
    views.save(ENGINEER, "acme", "To settle", Filters(is_gold=True), is_shared=True)
    (shared,) = views.list(MANAGER, "acme")
    assert (shared.filters, shared.is_shared) == (Filters(is_gold=True), True)
    elsewhere = person("Gus", Role.ENGINEER, "globex")
    assert views.list(elsewhere, "globex") == []


def test_only_the_owner_removes_a_view(views: Views) -> None:
    mine = views.save(ENGINEER, "acme", "mine", DISPUTED)
    with pytest.raises(NotFound):
        views.remove(MANAGER, "acme", mine.id)
    shared = views.save(ENGINEER, "acme", "shared", DISPUTED, is_shared=True)
    with pytest.raises(NotPermitted):
        views.remove(MANAGER, "acme", shared.id)
    views.remove(ENGINEER, "acme", shared.id)
    assert names(views) == ["mine"]
    with pytest.raises(NotFound):
        views.remove(ENGINEER, "acme", shared.id)
    views.save(ENGINEER, "acme", "shared", Filters())
    assert names(views) == ["mine", "shared"]


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\ud800"])
def test_a_name_that_cannot_be_kept_is_refused(views: Views, name: str) -> None:
    with pytest.raises(InvalidInput):
        views.save(ENGINEER, "acme", name, DISPUTED)
