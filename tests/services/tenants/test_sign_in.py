import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from sqlalchemy import func, select, update

from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import LockedOut, NotSignedIn
from services.tenants.models import Actor, Role
from services.tenants.service import RFC_9106, Tenants
from services.tenants.sign_in import _dummy_hash
from services.tenants.store import SessionRow, SignInAttemptRow, UserRow
from tests.services.tenants.conftest import CHEAP, SetClock, roles

PASSWORD = "correct horse battery"


@pytest.fixture
def ayse(tenants: Tenants, system: Actor) -> str:
    user, _password = tenants.create_user(
        system, "ayse", display_name="Ayşe", grants=roles(acme=Role.ENGINEER), password=PASSWORD
    )
    return user.id


def fail(tenants: Tenants, times: int, username: str = "ayse") -> None:
    for _ in range(times):
        with pytest.raises(NotSignedIn):
            tenants.sign_in(username, "wrong password")


def test_a_session_is_resumed_until_it_is_signed_out(tenants: Tenants, ayse: str) -> None:
    signed_in = tenants.sign_in("AYSE", PASSWORD)
    assert signed_in.token not in repr(signed_in)
    user = tenants.resume(signed_in.token)
    assert user == signed_in.user
    assert user is not None
    assert user.grants == roles(acme=Role.ENGINEER)
    tenants.sign_out(signed_in.token)
    tenants.sign_out(signed_in.token)
    assert tenants.resume(signed_in.token) is None
    assert tenants.resume("") is None


def test_a_session_survives_a_restart(tenants: Tenants, ayse: str, database: Database) -> None:
    token = tenants.sign_in("ayse", PASSWORD).token
    again = Database(database.url.render_as_string(hide_password=False))
    user = Tenants(again, clock=tenants._clock, hasher=CHEAP).resume(token)
    again.close()
    assert user is not None
    assert user.id == ayse


def test_a_session_expires(
    database: Database, tenants: Tenants, ayse: str, clock: SetClock
) -> None:
    short = Tenants(database, clock=clock, hasher=CHEAP, session_lifetime=timedelta(hours=2))
    signed_in = short.sign_in("ayse", PASSWORD)
    assert signed_in.expires_at == clock.now + timedelta(hours=2)
    clock.forward(hours=1, minutes=59)
    assert short.resume(signed_in.token) is not None
    clock.forward(minutes=1)
    assert short.resume(signed_in.token) is None
    short.sign_in("ayse", PASSWORD)
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(SessionRow)) == 1


def test_the_token_itself_is_not_stored(tenants: Tenants, ayse: str, database: Database) -> None:
    token = tenants.sign_in("ayse", PASSWORD).token
    with database.engine.connect() as connection:
        assert token not in repr(connection.exec_driver_sql("SELECT * FROM sessions").all())
        assert token not in repr(connection.exec_driver_sql("SELECT * FROM audit_outbox").all())


def test_disabling_and_resetting_end_all_sessions(
    tenants: Tenants, ayse: str, system: Actor
) -> None:
    token = tenants.sign_in("ayse", PASSWORD).token
    tenants.set_user_disabled(system, ayse, True)
    assert tenants.resume(token) is None
    fail_message = _refusal(tenants, "ayse", PASSWORD)
    assert fail_message == _refusal(tenants, "nobody", PASSWORD)
    tenants.set_user_disabled(system, ayse, False)
    assert tenants.resume(token) is None
    token = tenants.sign_in("ayse", PASSWORD).token
    fresh = tenants.reset_password(system, ayse)
    assert tenants.resume(token) is None
    assert _refusal(tenants, "ayse", PASSWORD) == fail_message
    assert tenants.sign_in("ayse", fresh).user.id == ayse


def test_changed_grants_are_seen_at_the_next_resume(
    tenants: Tenants, ayse: str, system: Actor
) -> None:
    token = tenants.sign_in("ayse", PASSWORD).token
    tenants.set_grants(system, ayse, roles(globex=Role.MANAGER))
    user = tenants.resume(token)
    assert user is not None
    assert user.grants == roles(globex=Role.MANAGER)


def test_five_wrong_passwords_lock_for_fifteen_minutes(
    tenants: Tenants, ayse: str, clock: SetClock
) -> None:
    fail(tenants, 4)
    assert tenants.sign_in("ayse", PASSWORD).user.id == ayse
    fail(tenants, 5)
    with pytest.raises(LockedOut):
        tenants.sign_in("ayse", PASSWORD)
    clock.forward(minutes=14, seconds=59)
    with pytest.raises(LockedOut):
        tenants.sign_in("ayse", PASSWORD)
    clock.forward(seconds=1)
    assert tenants.sign_in("ayse", PASSWORD).user.id == ayse


def test_the_lock_does_not_end_before_its_time(
    tenants: Tenants, ayse: str, clock: SetClock
) -> None:
    for _ in range(5):
        fail(tenants, 1)
        clock.forward(minutes=3)
    # The first attempt is 15 minutes old, the last 3: 12 minutes are left.
    clock.forward(minutes=11)
    with pytest.raises(LockedOut):
        tenants.sign_in("ayse", PASSWORD)
    clock.forward(minutes=1)
    assert tenants.sign_in("ayse", PASSWORD).user.id == ayse


def test_slow_mistakes_do_not_lock(tenants: Tenants, ayse: str, clock: SetClock) -> None:
    for _ in range(12):
        fail(tenants, 1)
        clock.forward(minutes=4)
    assert tenants.sign_in("ayse", PASSWORD).user.id == ayse


def test_guesses_sent_at_once_are_no_way_around_the_lock(
    tenants: Tenants, ayse: str, database: Database
) -> None:
    def guess(_number: int) -> type[Exception]:
        try:
            tenants.sign_in("ayse", "wrong password")
        except NotSignedIn as error:
            return type(error)
        raise AssertionError("a wrong password was taken")

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(guess, range(24)))
    assert outcomes.count(NotSignedIn) == 5
    assert outcomes.count(LockedOut) == 19


def test_an_unknown_user_is_answered_like_a_known_one(
    tenants: Tenants, ayse: str, database: Database
) -> None:
    known = [_refusal(tenants, "ayse", "wrong password") for _ in range(6)]
    unknown = [_refusal(tenants, "nobody", "wrong password") for _ in range(6)]
    assert known == unknown
    with database.read() as session:
        subjects = list(
            session.scalars(
                select(OutboxRow.subject).where(OutboxRow.action == "sign_in.last_attempt")
            )
        )
        stored = list(session.scalars(select(SignInAttemptRow.username_sha256)))
    assert len(subjects) == 2
    assert "nobody" not in repr(subjects) + repr(stored)


def test_an_unknown_user_takes_as_long_as_a_known_one() -> None:
    real = RFC_9106.hash("correct horse battery")
    seconds: dict[str, list[float]] = {"known": [], "unknown": []}
    for _ in range(5):
        for kind, stored in (("known", real), ("unknown", _dummy_hash(RFC_9106))):
            began = time.perf_counter()
            with pytest.raises(Exception, match="does not match"):
                RFC_9106.verify(stored, "wrong password")
            seconds[kind].append(time.perf_counter() - began)
    known, unknown = (statistics.median(seconds[kind]) for kind in ("known", "unknown"))
    # Without the second hash an unknown name would be answered about a thousand times faster.
    assert 0.2 < known / unknown < 5


def test_a_weaker_hash_is_renewed_at_sign_in(
    database: Database, tenants: Tenants, ayse: str, clock: SetClock
) -> None:
    stronger = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    Tenants(database, clock=clock, hasher=stronger).sign_in("ayse", PASSWORD)
    with database.read() as session:
        row = session.get_one(UserRow, ayse)
        assert "m=16,t=2" in row.password_hash


def test_a_damaged_hash_opens_nothing(tenants: Tenants, ayse: str, database: Database) -> None:
    with database.write() as session:
        session.execute(update(UserRow).values(password_hash="not a hash"))
    assert "no such pair" in _refusal(tenants, "ayse", "not a hash")


@pytest.mark.parametrize("password", ["", "\ud800", "x" * 10_000])
def test_odd_passwords_are_merely_wrong(tenants: Tenants, ayse: str, password: str) -> None:
    assert "no such pair" in _refusal(tenants, "ayse", password)


def _refusal(tenants: Tenants, username: str, password: str) -> str:
    with pytest.raises(NotSignedIn) as caught:
        tenants.sign_in(username, password)
    return caught.value.message
