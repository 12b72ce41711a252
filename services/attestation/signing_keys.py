"""Rotating and revoking signing keys as acts of a person, each with its entry in the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from services.attestation.jwks import TrustedKey, trusted_keys
from services.attestation.keys import PURPOSES, Keyring, Purpose
from services.audit import record, store
from services.audit.outbox import OutboxRow
from services.audit.store import AuditRow
from services.db import Database
from services.errors import InvalidInput, NotFound
from services.tenants.models import EVERY_TENANT, Actor, Permission
from services.tenants.scope import scope

MOST_REASON = 200
_KEEPER = Actor.system("signing keys")


@dataclass(frozen=True)
class SigningKey:
    """A public key of this installation, and where its secret half is.

    Attributes:
        is_in_use: It signs now.
        is_elsewhere: A key service holds the secret half.
    """

    kid: str
    purpose: Purpose
    not_before: datetime
    not_after: datetime | None
    last_valid_index: int | None
    revoked_reason: str | None
    is_in_use: bool
    is_elsewhere: bool


class SigningKeys:
    """The signing keys of one installation.

    Args:
        db: Where the audit log is.
        keyring: Holds the keys.
    """

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self._db = db
        self._keyring = keyring

    def list(self) -> list[SigningKey]:
        """All keys, the newest of each purpose first. They are public: anyone may read them."""
        found = list(trusted_keys(self._keyring.jwks()).values())
        newest = sorted(found, key=lambda key: key.not_before, reverse=True)
        rank = {purpose: place for place, purpose in enumerate(PURPOSES)}
        ordered = sorted(newest, key=lambda key: (rank[_purpose(key)], key.not_after is not None))
        return [self._shown(key) for key in ordered]

    def rotate(self, actor: Actor, purpose: Purpose, *, seed: bytes | None = None) -> SigningKey:
        """Replace the key of a purpose; what the old one signed goes on to verify.

        Args:
            seed: See `Keyring.rotate`.

        Raises:
            NotPermitted: The actor does not administer the installation.
            Conflict: A key service holds it.
        """
        scope(actor, EVERY_TENANT, Permission.MANAGE_TENANT)
        old = self._keyring.key(purpose)
        new = self._keyring.rotate(purpose, seed=seed)
        details = {"purpose": purpose, "replaces": old.kid, "imported": seed is not None}
        with self._db.write() as session:
            record(
                session, actor, "signing_key.rotated", f"signing-key:{new.kid}",
                tenant_id=None, details=details,
            )  # fmt: skip
        return next(key for key in self.list() if key.kid == new.kid)

    def revoke(
        self, actor: Actor, kid: str, *, reason: str, last_valid_index: int | None = None
    ) -> SigningKey:
        """Declare that a key counts only up to an entry of the log.

        A key in use is rotated first, so that signing goes on. A time would not do: whoever stole
        a key can write any time, but no place in a log that others hold checkpoints of.

        Args:
            reason: In words; anyone who verifies reads it.
            last_valid_index: Number of the last entry whose signature counts; the log's present
                end by default.

        Raises:
            NotPermitted: The actor does not administer the installation.
            NotFound: There is no such key.
            Conflict: It was revoked before, or a key service still presents it.
            InvalidInput: The reason is empty or too long, or the log has no such entry.
        """
        scope(actor, EVERY_TENANT, Permission.MANAGE_TENANT)
        reason = _reason(reason)
        found = next((key for key in self.list() if key.kid == kid), None)
        if found is None:
            raise NotFound(f"key {kid[:80]!r}: expected one of this installation, found none")
        if found.is_in_use and found.last_valid_index is None:
            self.rotate(actor, found.purpose)
        with self._db.write() as session:
            # With the log's lock held no batch is half-way between its entry and its signature.
            store.lock(session)
            size = store.state(session)[0].size
            last = size if last_valid_index is None else last_valid_index
            if not 0 <= last <= size:
                raise InvalidInput(
                    f"last valid entry: expected 0 to {size}, the log's end, found {last}"
                )
            record(
                session, actor, "signing_key.revoked", f"signing-key:{kid}", tenant_id=None,
                details={"purpose": found.purpose, "last_valid_index": last, "reason": reason},
            )  # fmt: skip
            self._keyring.revoke(kid, last_valid_index=last, reason=reason)
        return next(key for key in self.list() if key.kid == kid)

    def reconcile(self) -> int:
        """Leave an entry for each key that has none: made at first use, or by a service.

        Keys lie in files and the log in a database; whoever is killed between the two leaves a
        key without its entry, which is made up for here.

        Returns:
            How many entries were missing.
        """
        keys = self.list()
        subjects = {f"signing-key:{key.kid}": key for key in keys}
        with self._db.read() as session:
            known: set[tuple[str, str]] = set()
            for row in (AuditRow, OutboxRow):
                chosen = select(row.subject, row.action).where(row.subject.in_(subjects))
                known |= {(found.subject, found.action) for found in session.execute(chosen)}
        missing = [
            (subject, action, details)
            for subject, key in subjects.items()
            for action, details in _expected(key)
            if not any((subject, same) in known for same in _same(action))
        ]
        if missing:
            with self._db.write() as session:
                for subject, action, details in missing:
                    record(session, _KEEPER, action, subject, tenant_id=None, details=details)
        return len(missing)

    def _shown(self, key: TrustedKey) -> SigningKey:
        purpose = _purpose(key)
        return SigningKey(
            kid=key.kid,
            purpose=purpose,
            not_before=key.not_before,
            not_after=key.not_after,
            last_valid_index=key.last_valid_index,
            revoked_reason=key.revoked_reason,
            is_in_use=key.not_after is None,
            is_elsewhere=key.not_after is None and self._keyring.is_served(purpose),
        )


def _purpose(key: TrustedKey) -> Purpose:
    return next(purpose for purpose in PURPOSES if purpose == key.purpose)


def _expected(key: SigningKey) -> list[tuple[str, dict[str, Any]]]:
    """The entries that a key must have."""
    expected: list[tuple[str, dict[str, Any]]] = [
        ("signing_key.made", {"purpose": key.purpose, "elsewhere": key.is_elsewhere})
    ]
    if key.last_valid_index is not None:
        details = {
            "purpose": key.purpose,
            "last_valid_index": key.last_valid_index,
            "reason": key.revoked_reason or "",
        }
        expected.append(("signing_key.revoked", details))
    return expected


def _same(action: str) -> tuple[str, ...]:
    """A rotation tells of the new key as well."""
    return (action, "signing_key.rotated") if action == "signing_key.made" else (action,)


def _reason(text: str) -> str:
    reason = " ".join(text.split())
    if not 1 <= len(reason) <= MOST_REASON:
        raise InvalidInput(f"reason: expected 1 to {MOST_REASON} characters, found {len(reason)}")
    return reason
