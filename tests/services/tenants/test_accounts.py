import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import Conflict, InvalidInput, NotFound, NotPermitted, NotSignedIn
from services.tenants.demo import create_demo
from services.tenants.models import EVERY_TENANT, Actor, Role
from services.tenants.names import fold_username, generate_password
from services.tenants.service import Tenants
from tests.services.tenants.conftest import person, roles

ADMIN = frozenset({Role.ADMIN})


def test_nobody_grants_roles_in_a_tenant_that_they_do_not_administer(tenants: Tenants) -> None:
    ada = person(tenants, "ada", acme=Role.ADMIN, globex=Role.ENGINEER)
    victim = person(tenants, "victim", acme=Role.ANNOTATOR)
    for grants in (
        roles(globex=Role.ANNOTATOR),
        roles(acme=Role.ANNOTATOR, globex=Role.ADMIN),
        roles(**{EVERY_TENANT: Role.ADMIN}),
        roles(nowhere=Role.ADMIN),
    ):
        with pytest.raises(NotPermitted):
            tenants.create_user(ada, "puppet", display_name="Puppet", grants=grants)
        with pytest.raises(NotPermitted):
            tenants.set_grants(ada, victim.id, grants)
        with pytest.raises(NotPermitted):
            tenants.set_grants(ada, ada.id, grants)


def test_a_user_with_a_role_elsewhere_is_out_of_reach(tenants: Tenants) -> None:
    ada = person(tenants, "ada", acme=Role.ADMIN)
    shared = person(tenants, "shared", acme=Role.ENGINEER, globex=Role.ENGINEER)
    root = person(tenants, "root", **{EVERY_TENANT: Role.ADMIN})
    for ask in (
        lambda: tenants.reset_password(ada, shared.id),
        lambda: tenants.set_user_disabled(ada, shared.id, True),
        lambda: tenants.set_grants(ada, shared.id, roles(acme=Role.ANNOTATOR)),
    ):
        with pytest.raises(NotPermitted):
            ask()
    with pytest.raises(NotFound):
        tenants.reset_password(ada, root.id)
    with pytest.raises(NotFound):
        tenants.reset_password(ada, person(tenants, "bob", globex=Role.ADMIN).id)
    assert tenants.set_grants(root, shared.id, roles(acme=Role.ANNOTATOR)).grants == roles(
        acme=Role.ANNOTATOR
    )
    assert tenants.reset_password(ada, shared.id)


@pytest.mark.parametrize("role", [Role.ANNOTATOR, Role.ENGINEER, Role.MANAGER])
def test_only_administrators_change_users(tenants: Tenants, role: Role) -> None:
    actor = person(tenants, "x", acme=role)
    for ask in (
        lambda: tenants.create_user(actor, "y", display_name="Y", grants=roles(acme=role)),
        lambda: tenants.set_grants(actor, actor.id, roles(acme=Role.ADMIN)),
        lambda: tenants.reset_password(actor, actor.id),
        lambda: tenants.set_user_disabled(actor, actor.id, True),
    ):
        with pytest.raises(NotPermitted):
            ask()


@pytest.mark.parametrize("role", [Role.CUSTOMER, Role.SYSTEM])
def test_people_hold_only_the_roles_of_people(tenants: Tenants, system: Actor, role: Role) -> None:
    with pytest.raises(InvalidInput, match=f"found '{role.value}'"):
        tenants.create_user(system, "x", display_name="X", grants=roles(acme=role))


def test_every_tenant_can_only_be_administered(tenants: Tenants, system: Actor) -> None:
    with pytest.raises(InvalidInput, match="expected admin, found 'engineer'"):
        tenants.create_user(
            system, "x", display_name="X", grants=roles(**{EVERY_TENANT: Role.ENGINEER})
        )


@pytest.mark.parametrize("grants", [{}, {"acme": frozenset()}])
def test_a_user_has_at_least_one_role(
    tenants: Tenants, system: Actor, grants: dict[str, frozenset[Role]]
) -> None:
    # Without one, the user would lie within every administrator's reach.
    with pytest.raises(InvalidInput, match="at least one role"):
        tenants.create_user(system, "x", display_name="X", grants=grants)


def test_roles_in_a_tenant_that_is_not_there_are_refused(tenants: Tenants, system: Actor) -> None:
    with pytest.raises(NotFound, match="'nowhere'"):
        tenants.create_user(system, "x", display_name="X", grants=roles(nowhere=Role.ADMIN))
    assert "x" not in [user.username for user in tenants.list_users(system)]


def test_each_administrator_lists_only_their_people_and_roles(tenants: Tenants) -> None:
    ada = person(tenants, "ada", acme=Role.ADMIN)
    person(tenants, "shared", acme=Role.ENGINEER, globex=Role.MANAGER)
    person(tenants, "bob", globex=Role.ADMIN)
    root = person(tenants, "root", **{EVERY_TENANT: Role.ADMIN})
    assert {user.username: user.grants for user in tenants.list_users(ada)} == {
        "ada": roles(acme=Role.ADMIN),
        "shared": roles(acme=Role.ENGINEER),
    }
    assert [user.username for user in tenants.list_users(root)] == ["ada", "bob", "root", "shared"]


def test_usernames_are_one_however_they_are_typed(tenants: Tenants, system: Actor) -> None:
    composed, decomposed = "Gökçe", unicodedata.normalize("NFD", "GÖKÇE")
    user, password = tenants.create_user(
        system, composed, display_name="Gökçe", grants=roles(acme=Role.ANNOTATOR)
    )
    assert user.username == "gökçe"
    with pytest.raises(Conflict, match="found it taken"):
        tenants.create_user(system, decomposed, display_name="G", grants=roles(acme=Role.ANNOTATOR))
    assert tenants.sign_in(f" {decomposed} ", password).user.id == user.id


@given(st.text(alphabet="aAiIıİşŞğĞüÜöÖçÇßé\u0301\u0307", max_size=12))
def test_any_case_and_composition_folds_to_one_name(name: str) -> None:
    once = fold_username(name)
    assert unicodedata.is_normalized("NFC", once)
    assert fold_username(once) == once
    assert fold_username(unicodedata.normalize("NFD", name)) == once


def test_bad_accounts_are_refused(tenants: Tenants, system: Actor) -> None:
    good = {"display_name": "X", "grants": roles(acme=Role.ANNOTATOR)}
    for username, changed in (
        ("", {}),
        ("a b", {}),
        ("a\x00", {}),
        ("a\ud800", {}),
        ("a" * 65, {}),
        ("x", {"password": "nine char"}),
        ("x", {"password": "a" * 257}),
        ("x", {"password": "\ud800" * 12}),
        ("x", {"language": "de"}),
        ("x", {"display_name": " "}),
    ):
        with pytest.raises(InvalidInput, match="expected") as caught:
            tenants.create_user(system, username, **{**good, **changed})
        if "password" in changed:
            assert changed["password"] not in str(caught.value)
    assert tenants.list_users(system) == []


def test_generated_passwords_are_long_readable_and_different() -> None:
    found = {generate_password() for _ in range(50)}
    assert len(found) == 50
    assert all(len(password) == 19 and not set(password) & set("01ilo") for password in found)


def test_the_last_administrator_of_everything_stays(tenants: Tenants) -> None:
    root = person(tenants, "root", **{EVERY_TENANT: Role.ADMIN})
    with pytest.raises(Conflict, match="at least one to remain"):
        tenants.set_user_disabled(root, root.id, True)
    with pytest.raises(Conflict, match="at least one to remain"):
        tenants.set_grants(root, root.id, roles(acme=Role.ADMIN))
    second = person(tenants, "second", **{EVERY_TENANT: Role.ADMIN})
    assert tenants.set_user_disabled(second, root.id, True).disabled
    assert not tenants.set_user_disabled(second, root.id, False).disabled


def test_a_person_chooses_the_language_of_their_pages(tenants: Tenants, system: Actor) -> None:
    actor = person(tenants, "x", acme=Role.ANNOTATOR)
    tenants.set_language(actor.id, "tr")
    assert [user.language for user in tenants.list_users(system)] == ["tr"]
    with pytest.raises(InvalidInput):
        tenants.set_language(actor.id, "de")
    with pytest.raises(NotFound):
        tenants.set_language("nobody", "en")


def test_no_password_is_stored_or_logged(
    tenants: Tenants, system: Actor, database: Database
) -> None:
    _user, password = tenants.create_user(
        system, "x", display_name="X", grants=roles(acme=Role.ANNOTATOR)
    )
    with database.read() as session:
        events = [(row.action, row.details) for row in session.scalars(select(OutboxRow))]
    assert password not in repr(events)
    with database.engine.connect() as connection:
        assert password not in repr(connection.exec_driver_sql("SELECT * FROM users").all())


def test_the_demo_is_made_once(tenants: Tenants, system: Actor) -> None:
    credentials = create_demo(tenants)
    assert [c.username for c in credentials] == [
        "annotator", "engineer", "manager", "admin", "legal.annotator", "medical.engineer",
    ]  # fmt: skip
    assert create_demo(tenants) == []
    for credential in credentials:
        assert len(credential.password) >= 16
        assert credential.password not in repr(credential)
        user = tenants.sign_in(credential.username, credential.password).user
        assert user.grants == {t: frozenset({credential.role}) for t in credential.tenants}
    limits = {t.id: t.limits for t in tenants.list(system)}
    assert (limits["medical-ai"].tps, limits["medical-ai"].rpm) == (5, 150)
    assert limits["ailydian-hq"].daily_tokens == 10_000_000
    assert tenants.alias_table()["legal-ai", "legal-ai"] is None


def test_a_lost_demo_user_is_made_again_with_a_fresh_password(tenants: Tenants) -> None:
    first = create_demo(tenants)
    with pytest.raises(NotSignedIn):
        tenants.sign_in("admin", "not the password")
    assert tenants.sign_in("admin", first[3].password).user.username == "admin"
