"""Signing in, staying signed in, and what slows down guessing."""

from __future__ import annotations

import base64
import secrets
import unicodedata
from datetime import datetime, timedelta
from hashlib import sha256
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from services.audit import record
from services.db import Clock, Database, new_id
from services.errors import LockedOut, NotSignedIn
from services.tenants import store
from services.tenants.models import Actor, SignedIn, User
from services.tenants.names import MAX_PASSWORD_CHARS, fold_username
from services.tenants.store import SessionRow, SignInAttemptRow, UserRow

ATTEMPTS = 5
WINDOW = timedelta(minutes=15)
LOCKED_FOR = timedelta(minutes=15)
# Each check takes 64 MiB: two at a time bound what a flood of guesses can occupy.
_CHECKS_AT_ONCE = BoundedSemaphore(2)


class SignIn:
    """Sessions of people.

    Args:
        lifetime: How long a sign-in lasts.
    """

    def __init__(
        self, db: Database, clock: Clock, hasher: PasswordHasher, lifetime: timedelta
    ) -> None:
        self._db = db
        self._clock = clock
        self._hasher = hasher
        self._lifetime = lifetime
        self._dummy = _dummy_hash(hasher)

    def sign_in(self, username: str, password: str) -> SignedIn:
        """Start a session with username and password.

        An unknown user, a disabled one and a wrong password take the same time and give the
        same message. The attempt is counted before the password is looked at, so that guesses
        sent at once are no way around the lock.

        Raises:
            NotSignedIn: The two do not belong together, or the user is disabled.
            LockedOut: Five wrong attempts within 15 minutes; locked for 15 minutes.
        """
        name = fold_username(username)
        with self._db.write() as session:
            self._count_attempt(session, name)
            row = session.scalar(select(UserRow).where(UserRow.username == name))
        right = self._matches(row.password_hash if row else self._dummy, password)
        if row is None or not right or row.disabled:
            raise NotSignedIn("expected a username and its password, found no such pair")
        return self._start(row.id, row.password_hash, name, password)

    def resume(self, token: str) -> User | None:
        """The user of a running session, with the grants of this moment.

        Returns:
            None where the token is unknown or expired, or the user was disabled.
        """
        with self._db.read() as session:
            return store.user_by_token(session, _sha256(token), self._clock())

    def sign_out(self, token: str) -> None:
        """End a session; nothing happens where it has already ended."""
        with self._db.write() as session:
            row = session.get(SessionRow, _sha256(token))
            if row is None:
                return
            user = session.get_one(UserRow, row.user_id).user({})
            session.delete(row)
            record(
                session, user.actor(), "session.ended", f"user:{user.id}",
                tenant_id=None, at=self._clock(),
            )  # fmt: skip

    def _count_attempt(self, session: Session, name: str) -> None:
        now, key = self._clock(), _sha256(name)
        if not self._db.is_sqlite:
            # One attempt at a time per name; SQLite has one writer anyway.
            number = int.from_bytes(bytes.fromhex(key[:16]), "big", signed=True)
            session.execute(select(func.pg_advisory_xact_lock(number)))
        newest = (
            select(SignInAttemptRow.at)
            .where(SignInAttemptRow.username_sha256 == key)
            .order_by(SignInAttemptRow.at.desc())
            .limit(ATTEMPTS)
        )
        times = list(session.scalars(newest))
        if _is_locked(times, now):
            raise LockedOut("expected at most 5 wrong passwords in 15 minutes, found more; wait")
        outdated = now - WINDOW - LOCKED_FOR
        session.execute(delete(SignInAttemptRow).where(SignInAttemptRow.at < outdated))
        session.add(SignInAttemptRow(id=new_id(), username_sha256=key, at=now))
        if _is_locked([now, *times][:ATTEMPTS], now):
            # The hash, not the name: people type passwords into the wrong field.
            actor = Actor(kind="system", id="system:sign-in", name="sign-in")
            record(
                session, actor, "sign_in.last_attempt", f"username-sha256:{key}",
                tenant_id=None, at=now,
            )  # fmt: skip

    def _matches(self, password_hash: str, password: str) -> bool:
        # Longer text than any password that was ever accepted is cut, so that it costs no more.
        shortened = unicodedata.normalize("NFC", password[: 4 * MAX_PASSWORD_CHARS])
        given = shortened.encode("utf-8", "surrogatepass")
        with _CHECKS_AT_ONCE:
            try:
                return self._hasher.verify(password_hash, given)
            except (VerificationError, InvalidHashError):
                return False

    def _start(self, user_id: str, checked_hash: str, name: str, password: str) -> SignedIn:
        token, now = secrets.token_urlsafe(32), self._clock()
        outdated = self._hasher.check_needs_rehash(checked_hash)
        renewed = self._hasher.hash(unicodedata.normalize("NFC", password)) if outdated else None
        with self._db.write() as session:
            row = session.get_one(UserRow, user_id, with_for_update=True)
            if row.disabled or row.password_hash != checked_hash:
                # Disabled or reset while the hash was computed.
                raise NotSignedIn("expected a username and its password, found no such pair")
            row.password_hash = renewed or checked_hash
            key = _sha256(name)
            session.execute(delete(SignInAttemptRow).where(SignInAttemptRow.username_sha256 == key))
            session.execute(delete(SessionRow).where(SessionRow.expires_at <= now))
            expires_at = now + self._lifetime
            session.add(
                SessionRow(
                    token_sha256=_sha256(token),
                    user_id=user_id,
                    created_at=now,
                    expires_at=expires_at,
                )
            )
            user = row.user(store.grants_of(session, [user_id])[user_id])
            record(
                session, user.actor(), "session.started", f"user:{user_id}",
                tenant_id=None, at=now,
            )  # fmt: skip
        return SignedIn(user=user, token=token, expires_at=expires_at)


def _is_locked(newest_first: list[datetime], now: datetime) -> bool:
    """Whether these attempts, at most the last five, keep the name locked at this time."""
    return (
        len(newest_first) == ATTEMPTS
        and newest_first[0] - newest_first[-1] <= WINDOW
        and now < newest_first[0] + LOCKED_FOR
    )


def _dummy_hash(hasher: PasswordHasher) -> str:
    """A hash with the same parameters that no password fits: checking it takes as long."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")
        for size in (hasher.salt_len, hasher.hash_len)
    )
    return (
        f"$argon2id$v=19$m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
        f"${salt}${digest}"
    )


def _sha256(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
