"""People and their roles: who may appoint whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from argon2 import PasswordHasher
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.audit import record
from services.db import Clock, Database, new_id
from services.errors import Conflict, InvalidInput, NotFound, NotPermitted
from services.tenants import store
from services.tenants.models import EVERY_TENANT, Actor, Permission, Role, User
from services.tenants.names import (
    checked_label,
    checked_password,
    checked_username,
    generate_password,
)
from services.tenants.scope import tenants_where
from services.tenants.store import SessionRow, UserRow

PERSONAL_ROLES = frozenset({Role.ANNOTATOR, Role.ENGINEER, Role.MANAGER, Role.ADMIN})
LANGUAGES = ("en", "tr")

Grants = Mapping[str, frozenset[Role]]


class Accounts:
    """Users and their grants.

    Nobody appoints, disables or resets beyond the tenants that they administer: a user with a
    grant outside is out of reach, since whoever resets a password can act as its owner.
    """

    def __init__(self, db: Database, clock: Clock, hasher: PasswordHasher) -> None:
        self._db = db
        self._clock = clock
        self._hasher = hasher

    def create_user(
        self,
        actor: Actor,
        username: str,
        *,
        display_name: str,
        grants: Grants,
        password: str | None = None,
        language: str = "en",
    ) -> tuple[User, str]:
        """Make a local account.

        Args:
            grants: Roles by tenant id; `*` only for administrators.
            password: 10 to 256 characters; generated where None.
            language: `en` or `tr`.

        Returns:
            The user and the password, which is nowhere else to be had.

        Raises:
            NotPermitted: The actor does not administer every tenant of the grants.
            InvalidInput: A name, password, role or language cannot be used.
            NotFound: A tenant of the grants does not exist.
            Conflict: The username is taken.
        """
        _may_grant(actor, grants)
        secret = checked_password(generate_password() if password is None else password)
        row = UserRow(
            id=new_id(),
            username=checked_username(username),
            display_name=checked_label("display name", display_name),
            password_hash=self._hasher.hash(secret),
            language=_checked_language(language),
            disabled=False,
            created_at=self._clock(),
        )
        with self._db.write() as session:
            _refuse_missing(session, grants)
            _insert_user(session, row)
            store.replace_grants(session, row.id, grants)
            self._record(session, actor, "user.created", row.id, grants)
            return row.user(dict(grants)), secret

    def list_users(self, actor: Actor) -> list[User]:
        """Users with a role in a tenant that the actor administers, by username.

        Roles that they hold elsewhere are left out.

        Raises:
            NotPermitted: The actor administers no tenant.
        """
        administered = _administered(actor)
        with self._db.read() as session:
            users = store.users_in(session, administered)
        if EVERY_TENANT in administered:
            return users
        return [
            replace(user, grants={t: r for t, r in user.grants.items() if t in administered})
            for user in users
        ]

    def set_user_disabled(self, actor: Actor, user_id: str, disabled: bool) -> User:
        """Shut a user out, ending all sign-ins, or let the user in again.

        Raises:
            NotPermitted: The user holds a role that the actor may not administer.
            NotFound: There is no such user in the actor's scope.
            Conflict: It is the last enabled administrator of every tenant.
        """
        with self._db.write() as session:
            row, grants = _managed(session, actor, user_id)
            if disabled:
                _keep_an_admin(session, user_id)
                session.execute(delete(SessionRow).where(SessionRow.user_id == user_id))
            row.disabled = disabled
            verb = "user.disabled" if disabled else "user.enabled"
            self._record(session, actor, verb, user_id, grants)
            return row.user(grants)

    def reset_password(self, actor: Actor, user_id: str) -> str:
        """Give a user a fresh password and end all of the user's sign-ins.

        Returns:
            The password, which is nowhere else to be had.

        Raises:
            NotPermitted: The user holds a role that the actor may not administer.
            NotFound: There is no such user in the actor's scope.
        """
        secret = generate_password()
        password_hash = self._hasher.hash(secret)
        with self._db.write() as session:
            row, grants = _managed(session, actor, user_id)
            row.password_hash = password_hash
            session.execute(delete(SessionRow).where(SessionRow.user_id == user_id))
            self._record(session, actor, "user.password_reset", user_id, grants)
        return secret

    def set_grants(self, actor: Actor, user_id: str, grants: Grants) -> User:
        """Replace all roles of a user; seen by the user's next request.

        Raises:
            NotPermitted: The old or the new roles reach beyond what the actor administers.
            InvalidInput: A role cannot be given to a person, or none is left.
            NotFound: The user or a tenant does not exist.
            Conflict: The last administrator of every tenant would be lost.
        """
        _may_grant(actor, grants)
        with self._db.write() as session:
            row, _old = _managed(session, actor, user_id)
            _refuse_missing(session, grants)
            if Role.ADMIN not in grants.get(EVERY_TENANT, frozenset()):
                _keep_an_admin(session, user_id)
            store.replace_grants(session, user_id, grants)
            self._record(session, actor, "user.granted", user_id, grants)
            return row.user(dict(grants))

    def set_language(self, actor_user_id: str, language: str) -> None:
        """Choose the language of one's own pages.

        Raises:
            InvalidInput: It is neither `en` nor `tr`.
            NotFound: There is no such user.
        """
        checked = _checked_language(language)
        with self._db.write() as session:
            row = session.get(UserRow, actor_user_id)
            if row is None:
                raise NotFound(f"user {actor_user_id!r}: expected a user id, found no such user")
            row.language = checked
            user = row.user({})
            record(
                session, user.actor(), "user.language_set", f"user:{row.id}",
                tenant_id=None, details={"language": checked}, at=self._clock(),
            )  # fmt: skip

    def _record(
        self, session: Session, actor: Actor, action: str, user_id: str, grants: Grants
    ) -> None:
        """One event; it belongs to a tenant only where all of the user's roles do."""
        tenants = sorted(grants)
        only = tenants[0] if len(tenants) == 1 and tenants[0] != EVERY_TENANT else None
        details = {tenant: sorted(role.value for role in grants[tenant]) for tenant in tenants}
        record(
            session, actor, action, f"user:{user_id}",
            tenant_id=only, details={"grants": details}, at=self._clock(),
        )  # fmt: skip


def _administered(actor: Actor) -> frozenset[str]:
    tenants = tenants_where(actor, Permission.MANAGE_USERS)
    if not tenants:
        raise NotPermitted(f"{actor.name} may not {Permission.MANAGE_USERS.value} in any tenant")
    return tenants


def _may_grant(actor: Actor, grants: Grants) -> None:
    administered = _administered(actor)
    if not grants or not all(grants.values()):
        raise InvalidInput(
            "grants: expected at least one role in each named tenant, found none; "
            "disable the user to shut them out"
        ).because("role_needed")
    for tenant_id, roles in grants.items():
        if EVERY_TENANT not in administered and tenant_id not in administered:
            raise NotPermitted(f"{actor.name} may not change users in tenant {tenant_id!r}")
        allowed = PERSONAL_ROLES if tenant_id != EVERY_TENANT else frozenset({Role.ADMIN})
        if refused := sorted(role.value for role in roles - allowed):
            raise InvalidInput(
                f"grants in tenant {tenant_id!r}: expected "
                f"{', '.join(sorted(role.value for role in allowed))}, found {refused[0]!r}"
            )


def _managed(
    session: Session, actor: Actor, user_id: str
) -> tuple[UserRow, dict[str, frozenset[Role]]]:
    """The user's row, locked, and grants, if all of them lie within the actor's reach."""
    administered = _administered(actor)
    row = session.scalar(select(UserRow).where(UserRow.id == user_id).with_for_update())
    grants = store.grants_of(session, [user_id])[user_id]
    everywhere = EVERY_TENANT in administered
    if row is None or not (everywhere or administered & set(grants)):
        raise NotFound(f"user {user_id!r}: expected a user of your tenants, found none").because(
            "no_such_user"
        )
    if not everywhere and not set(grants) <= administered:
        raise NotPermitted(
            f"{actor.name} may not change user {row.username!r}, "
            "who also has roles in tenants that you do not administer"
        ).because("user_of_others", name=row.username)
    return row, grants


def _refuse_missing(session: Session, grants: Grants) -> None:
    if missing := store.missing_tenants(session, grants):
        raise NotFound(f"tenant {missing[0]!r}: expected an existing tenant, found none")


def _insert_user(session: Session, row: UserRow) -> None:
    session.add(row)
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict(f"username {row.username!r}: expected a free name, found it taken").because(
            "username_taken", name=row.username
        ) from error


def _keep_an_admin(session: Session, leaving: str) -> None:
    """Refuse to lose the last person who can administer everything."""
    if store.every_tenant_admins(session) == [leaving]:
        raise Conflict(
            "administrators of every tenant: expected at least one to remain, "
            "found that this change would shut out the last"
        ).because("last_administrator")


def _checked_language(language: str) -> str:
    if language not in LANGUAGES:
        raise InvalidInput(f"language: expected en or tr, found {str(language)[:20]!r}")
    return language
