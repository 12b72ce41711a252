"""Who acts, what they may do, and for which tenant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

EVERY_TENANT = "*"
"""Tenant id in a grant that covers all tenants; held by the system, and by administrators."""


class Role(StrEnum):
    """What a person is in one tenant."""

    ANNOTATOR = "annotator"
    ENGINEER = "engineer"
    MANAGER = "manager"
    ADMIN = "admin"
    CUSTOMER = "customer"
    SYSTEM = "system"


class Permission(StrEnum):
    """What an operation asks for."""

    REVIEW = "review pairs"
    READ_PAIRS = "read pairs"
    EDIT_PAIRS = "import, export and decide pairs"
    READ_MODELS = "read runs, evaluations and rollouts"
    TRAIN = "train and evaluate"
    ROLL_OUT = "change what users are served"
    READ_COST = "read cost"
    READ_AUDIT = "read the audit log"
    READ_TENANT = "read tenant settings"
    MANAGE_TENANT = "change tenants, limits and keys"
    OPERATE = "see how the gateway runs"
    MANAGE_USERS = "change users"
    CHAT = "ask the model"
    READ_CONTENT = "read kept requests and answers"


_P = Permission
GRANTED: Mapping[Role, frozenset[Permission]] = {
    Role.ANNOTATOR: frozenset({_P.REVIEW}),
    Role.ENGINEER: frozenset(
        {_P.REVIEW, _P.READ_PAIRS, _P.EDIT_PAIRS, _P.READ_MODELS, _P.TRAIN, _P.ROLL_OUT}
        | {_P.READ_COST, _P.READ_AUDIT, _P.READ_TENANT, _P.CHAT, _P.OPERATE}
        | {_P.READ_CONTENT}
    ),
    Role.MANAGER: frozenset(
        {_P.READ_PAIRS, _P.READ_MODELS, _P.READ_COST, _P.READ_AUDIT, _P.READ_TENANT}
    ),
    Role.ADMIN: frozenset(
        {_P.READ_COST, _P.READ_AUDIT, _P.READ_TENANT, _P.MANAGE_TENANT, _P.MANAGE_USERS}
        | {_P.OPERATE}
    ),
    Role.CUSTOMER: frozenset({_P.CHAT}),
    Role.SYSTEM: frozenset(Permission),
}


@dataclass(frozen=True)
class Actor:
    """Who asks: a person, an API key, or the program itself.

    Attributes:
        kind: `user`, `key` or `system`.
        id: Stable id; what audit events and append-only rows name.
        name: Shown to people; never an authority.
        grants: Roles by tenant id; `*` covers every tenant.
    """

    kind: Literal["user", "key", "system"]
    id: str
    name: str
    grants: Mapping[str, frozenset[Role]] = field(default_factory=dict)

    @classmethod
    def system(cls, name: str) -> Actor:
        """The program itself, or whoever has a shell on its machine (`cli`, `worker` …)."""
        grants = {EVERY_TENANT: frozenset({Role.SYSTEM})}
        return cls(kind="system", id=f"system:{name}", name=name, grants=grants)

    def roles_in(self, tenant_id: str) -> frozenset[Role]:
        """The roles held in one tenant, those for every tenant included."""
        return self.grants.get(tenant_id, frozenset()) | self.grants.get(EVERY_TENANT, frozenset())

    def may(self, permission: Permission, tenant_id: str) -> bool:
        """Whether some role grants the permission in the tenant."""
        return any(permission in GRANTED[role] for role in self.roles_in(tenant_id))


@dataclass(frozen=True)
class Limits:
    """How much a tenant may ask for.

    Attributes:
        tps: Requests a second.
        rpm: Requests a minute.
        daily_tokens: Prompt and completion tokens a day, the tenant's day.
        concurrent: Requests that run at one time; None for any number.
        monthly_micro: Budget of a month, the tenant's month, micro-USD; None for none.
    """

    tps: int
    rpm: int
    daily_tokens: int
    concurrent: int | None = None
    monthly_micro: int | None = None


@dataclass(frozen=True)
class KeyLimits:
    """How much one key may ask for, within what its tenant may; None leaves it to the tenant.

    Attributes:
        tps: Requests a second.
        rpm: Requests a minute.
        daily_tokens: Prompt and completion tokens a day, the tenant's day.
        concurrent: Requests that run at one time.
    """

    tps: int | None = None
    rpm: int | None = None
    daily_tokens: int | None = None
    concurrent: int | None = None


UNLIMITED = KeyLimits()


@dataclass(frozen=True)
class Tenant:
    """One organisation.

    Attributes:
        id: Slug, `[a-z0-9-]{1,48}`; also the name of its default alias.
        name: As people write it.
        limits: See `Limits`.
        timezone: IANA name; where its day begins.
    """

    id: str
    name: str
    limits: Limits
    timezone: str
    created_at: datetime


@dataclass(frozen=True)
class User:
    """One person with a local account.

    Attributes:
        grants: Roles by tenant id.
    """

    id: str
    username: str
    display_name: str
    grants: Mapping[str, frozenset[Role]]
    language: Literal["en", "tr"]
    disabled: bool
    created_at: datetime

    def actor(self) -> Actor:
        """This person as the one who asks."""
        return Actor(kind="user", id=self.id, name=self.display_name, grants=self.grants)


@dataclass(frozen=True)
class ApiKey:
    """What may be known of an API key after it was shown once.

    Attributes:
        prefix: The first characters, enough to recognise it.
    """

    id: str
    tenant_id: str
    name: str
    prefix: str
    created_at: datetime
    revoked_at: datetime | None
    limits: KeyLimits = UNLIMITED


@dataclass(frozen=True)
class IssuedKey:
    """A fresh API key: the only moment at which its text exists outside the caller."""

    info: ApiKey
    key: str = field(repr=False)


@dataclass(frozen=True)
class SignedIn:
    """A fresh sign-in.

    Attributes:
        token: Goes into the browser's cookie; stored hashed.
    """

    user: User
    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True)
class AliasTarget:
    """What an alias means at one time.

    Attributes:
        adapter: Immutable adapter name, or None for the bare base model.
    """

    tenant_id: str
    alias: str
    adapter: str | None
    since: datetime
