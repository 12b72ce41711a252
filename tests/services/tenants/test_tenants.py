import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import Conflict, InvalidInput, NotFound, NotPermitted, NotSignedIn
from services.tenants.models import EVERY_TENANT, Actor, Limits, Role
from services.tenants.names import checked_tenant_id, slug
from services.tenants.service import Tenants
from tests.services.tenants.conftest import CHEAP, LIMITS, SetClock, person


def test_a_person_of_another_tenant_is_refused(tenants: Tenants) -> None:
    stranger = person(tenants, "eve", globex=Role.ADMIN)
    for ask in (
        lambda: tenants.get(stranger, "acme"),
        lambda: tenants.set_limits(stranger, "acme", LIMITS),
        lambda: tenants.create_key(stranger, "acme", "mine"),
        lambda: tenants.list_keys(stranger, "acme"),
        lambda: tenants.revoke_key(stranger, "acme", "any"),
        lambda: tenants.aliases(stranger, "acme"),
        lambda: tenants.set_alias(stranger, "acme", "acme", None),
    ):
        with pytest.raises(NotPermitted):
            ask()


@pytest.mark.parametrize("role", [Role.ANNOTATOR, Role.ENGINEER, Role.MANAGER])
def test_only_administrators_change_limits_and_keys(tenants: Tenants, role: Role) -> None:
    actor = person(tenants, "ayşe", acme=role)
    assert tenants.get(actor, "acme").name == "Acme"
    for ask in (
        lambda: tenants.set_limits(actor, "acme", LIMITS),
        lambda: tenants.create_key(actor, "acme", "mine"),
        lambda: tenants.list_users(actor),
        lambda: tenants.create(actor, "New", limits=LIMITS),
    ):
        with pytest.raises(NotPermitted):
            ask()


def test_an_administrator_of_one_tenant_cannot_make_tenants(tenants: Tenants) -> None:
    with pytest.raises(NotPermitted):
        tenants.create(person(tenants, "ada", acme=Role.ADMIN), "New", limits=LIMITS)


def test_only_engineers_point_aliases(tenants: Tenants, clock: SetClock) -> None:
    with pytest.raises(NotPermitted):
        tenants.set_alias(person(tenants, "ada", acme=Role.ADMIN), "acme", "acme", None)
    engineer = person(tenants, "can", acme=Role.ENGINEER)
    clock.forward(seconds=1)
    target = tenants.set_alias(engineer, "acme", "acme", "acme-0123456789ab")
    assert (target.adapter, target.since) == ("acme-0123456789ab", clock.now)
    assert tenants.aliases(engineer, "acme") == [target]


def test_the_newest_row_of_an_alias_counts(tenants: Tenants, system: Actor) -> None:
    tenants.set_alias(system, "acme", "support", "support-000000000001")
    tenants.set_alias(system, "acme", "support", "support-000000000002")
    tenants.set_alias(system, "globex", "support", None)
    assert tenants.alias_table() == {
        ("acme", "acme"): None,
        ("acme", "support"): "support-000000000002",
        ("globex", "globex"): None,
        ("globex", "support"): None,
    }


def test_an_alias_moves_only_with_its_transaction(
    tenants: Tenants, system: Actor, database: Database
) -> None:
    with pytest.raises(RuntimeError), database.write() as session:
        tenants.alias_in_session(session, system, "acme", "acme", "acme-0123456789ab")
        raise RuntimeError("half-way")
    assert tenants.alias_table()["acme", "acme"] is None


@pytest.mark.parametrize("alias", ["", "Acme", "-a", "a/b", "a" * 65, "ş"])
def test_an_alias_that_cannot_be_a_name_is_refused(
    tenants: Tenants, system: Actor, alias: str
) -> None:
    with pytest.raises(InvalidInput, match="alias: expected"):
        tenants.set_alias(system, "acme", alias, None)


def test_a_tenant_is_listed_for_those_with_a_role_in_it(tenants: Tenants, system: Actor) -> None:
    assert [t.id for t in tenants.list(person(tenants, "a", acme=Role.ANNOTATOR))] == ["acme"]
    everywhere = person(tenants, "root", **{EVERY_TENANT: Role.ADMIN})
    assert [t.id for t in tenants.list(everywhere)] == ["acme", "globex"]
    assert tenants.list(Actor(kind="user", id="x", name="x")) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Ailydian HQ", "ailydian-hq"),
        ("  İstanbul Işık & Çağrı  ", "istanbul-isik-cagri"),
        ("Ünlü Şoför Öğretmen", "unlu-sofor-ogretmen"),
        ("Café №1", "cafe-no1"),
    ],
)
def test_names_become_slugs(name: str, expected: str) -> None:
    assert slug(name) == expected


@given(st.text(max_size=80))
def test_whatever_the_name_its_slug_is_a_tenant_id(name: str) -> None:
    try:
        found = slug(name)
    except InvalidInput:
        return
    assert checked_tenant_id(found) == found


def test_a_taken_id_is_a_conflict_and_changes_nothing(tenants: Tenants, system: Actor) -> None:
    with pytest.raises(Conflict, match="'acme'"):
        tenants.create(system, "ACME", limits=Limits(tps=9, rpm=9, daily_tokens=9))
    assert tenants.get(system, "acme").limits == LIMITS


def test_bad_tenants_are_refused(tenants: Tenants, system: Actor) -> None:
    for name, limits, extra in (
        ("", LIMITS, {}),
        ("a\x00b", LIMITS, {}),
        ("???", LIMITS, {}),
        ("New", Limits(tps=0, rpm=1, daily_tokens=1), {}),
        ("New", Limits(tps=1, rpm=1, daily_tokens=10**15 + 1), {}),
        ("New", Limits(tps=True, rpm=1, daily_tokens=1), {}),
        ("New", LIMITS, {"tenant_id": "*"}),
        ("New", LIMITS, {"timezone": "Mars/Olympus"}),
        ("New", LIMITS, {"timezone": "../../etc/passwd"}),
    ):
        with pytest.raises(InvalidInput, match="expected"):
            tenants.create(system, name, limits=limits, **extra)
    assert [tenant.id for tenant in tenants.list(system)] == ["acme", "globex"]


def test_limits_change_and_leave_an_event(
    tenants: Tenants, system: Actor, database: Database
) -> None:
    admin = person(tenants, "ada", acme=Role.ADMIN)
    limits = Limits(tps=7, rpm=70, daily_tokens=700, concurrent=4, monthly_micro=5_000_000)
    assert tenants.set_limits(admin, "acme", limits).limits == limits
    with database.read() as session:
        event = session.scalars(select(OutboxRow).where(OutboxRow.action == "tenant.limited")).one()
    assert (event.tenant_id, event.actor_id, event.subject) == ("acme", admin.id, "tenant:acme")
    assert event.details["before"]["monthly_micro"] is None
    assert event.details["after"] == {
        "tps": 7, "rpm": 70, "daily_tokens": 700, "concurrent": 4, "monthly_micro": 5_000_000,
    }  # fmt: skip


def test_an_unknown_tenant_is_told_only_to_those_with_every_tenant(
    tenants: Tenants, system: Actor
) -> None:
    with pytest.raises(NotFound):
        tenants.get(system, "nowhere")
    with pytest.raises(NotPermitted):
        tenants.get(person(tenants, "a", acme=Role.ADMIN), "nowhere")


def test_a_key_is_shown_once_and_opens_its_tenant(tenants: Tenants, database: Database) -> None:
    admin = person(tenants, "ada", acme=Role.ADMIN)
    issued = tenants.create_key(admin, "acme", "playground")
    assert len(issued.key) == 46
    assert issued.key.startswith("pk_")
    assert issued.key[:8] == issued.info.prefix
    assert issued.key not in repr(issued)
    actor, tenant = tenants.authenticate(issued.key)
    assert (actor.kind, actor.id, actor.name) == ("key", f"key:{issued.info.id}", "playground")
    assert actor.grants == {"acme": frozenset({Role.CUSTOMER})}
    assert tenant.id == "acme"
    assert list(tenants.live_keys().values()) == [(actor, tenant)]
    assert tenants.list_keys(admin, "acme") == [issued.info]
    with database.engine.connect() as connection:
        for table in ("api_keys", "audit_outbox"):
            rows = connection.exec_driver_sql(f"SELECT * FROM {table}").all()
            assert issued.key not in repr(rows)


def test_a_revoked_key_opens_nothing(tenants: Tenants, system: Actor, clock: SetClock) -> None:
    issued = tenants.create_key(system, "acme", "old")
    clock.forward(minutes=1)
    revoked = tenants.revoke_key(system, "acme", issued.info.id)
    clock.forward(minutes=1)
    assert tenants.revoke_key(system, "acme", issued.info.id) == revoked
    with pytest.raises(NotSignedIn):
        tenants.authenticate(issued.key)
    assert tenants.live_keys() == {}


def test_a_key_of_another_tenant_cannot_be_revoked(tenants: Tenants, system: Actor) -> None:
    issued = tenants.create_key(system, "globex", "theirs")
    admin = person(tenants, "ada", acme=Role.ADMIN)
    with pytest.raises(NotFound):
        tenants.revoke_key(admin, "acme", issued.info.id)
    assert tenants.authenticate(issued.key)[1].id == "globex"


@pytest.mark.parametrize("key", ["", "pk_", "pk_" + "A" * 43, "x" * 46, "pk_" + "\ud800" * 43])
def test_what_is_no_key_opens_nothing(tenants: Tenants, key: str) -> None:
    with pytest.raises(NotSignedIn, match="unknown or revoked"):
        tenants.authenticate(key)


def test_another_process_sees_the_same(tenants: Tenants, database: Database, system: Actor) -> None:
    issued = tenants.create_key(system, "acme", "k")
    other = Tenants(Database(database.url.render_as_string(hide_password=False)), hasher=CHEAP)
    assert other.authenticate(issued.key)[1].id == "acme"
    other._db.close()
