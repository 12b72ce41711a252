"""`param tenants`, `param keys`, `param users`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.cli.limits import (
    Concurrent,
    DailyTokens,
    MonthlyBudget,
    Rpm,
    Tps,
    changed,
    facts,
    micro,
)
from console.cli.opened import actor, opened
from console.cli.output import AsJson, dollars, print_json, say, show_facts, show_table
from services.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from services.tenants.models import ApiKey, Role, Tenant, User

tenants = typer.Typer()
keys = typer.Typer()
users = typer.Typer()

_OPEN = frozenset({"concurrent", "monthly_micro"})

TenantArgument = Annotated[str, typer.Argument(help="Id of the tenant, such as ailydian-hq.")]


@tenants.command("create")
def create_tenant(
    name: Annotated[str, typer.Argument(help="As people write it; the id is made from it.")],
    tps: Annotated[int, typer.Option(help="Requests a second.")] = 10,
    rpm: Annotated[int, typer.Option(help="Requests a minute.")] = 300,
    daily_tokens: Annotated[int, typer.Option(help="Tokens a day.")] = 10_000_000,
    concurrent: Concurrent = None,
    monthly_budget: MonthlyBudget = None,
    tenant_id: Annotated[str | None, typer.Option("--id", help="Another id.")] = None,
    timezone: Annotated[str, typer.Option(help="Where its day begins.")] = "Europe/Istanbul",
    as_json: AsJson = False,
) -> None:
    """Make a tenant; until an adapter is promoted, it is served the base model."""
    from services.tenants.models import Limits

    limits = Limits(tps, rpm, daily_tokens, concurrent or None, micro(monthly_budget) or None)
    with opened() as services:
        tenant = services.tenants.create(
            actor(), name, limits=limits, tenant_id=tenant_id, timezone=timezone
        )
    if as_json:
        print_json(_tenant(tenant))
    else:
        say(f"Tenant {tenant.id} is there; give it a key with: param keys create {tenant.id}")


@tenants.command("limits")
def limit_tenant(
    tenant: TenantArgument,
    tps: Tps = None,
    rpm: Rpm = None,
    daily_tokens: DailyTokens = None,
    concurrent: Concurrent = None,
    monthly_budget: MonthlyBudget = None,
    as_json: AsJson = False,
) -> None:
    """Show how much a tenant may ask for and what it has used, or change what is named."""
    wanted = {
        "tps": tps, "rpm": rpm, "daily_tokens": daily_tokens, "concurrent": concurrent,
        "monthly_micro": micro(monthly_budget),
    }  # fmt: skip
    with opened() as services:
        found = services.tenants.get(actor(), tenant)
        limits = changed(found.limits, wanted, may_be_open=_OPEN)
        if limits != found.limits:
            found = services.tenants.set_limits(actor(), tenant, limits)
        budget = services.metering.budget(actor(), tenant)
        used = services.metering.used(found)
    if as_json:
        print_json(_tenant(found) | {"used_today": used.tokens, "budget": budget})
        return
    show_facts(
        facts(found.limits)
        | {"Used today": used.tokens, "Spent this month": f"{dollars(budget.spent_micro)} USD"}
        | {f"Reached {one.percent} %": one.at for one in budget.warnings}
    )


@tenants.command("list")
def list_tenants(as_json: AsJson = False) -> None:
    """All tenants and their limits."""
    with opened() as services:
        found = services.tenants.list(actor())
    if as_json:
        print_json([_tenant(tenant) for tenant in found])
        return
    show_table(
        ("Tenant", "Name", ">A second", ">A minute", ">Tokens a day"),
        (
            (t.id, t.name, t.limits.tps, t.limits.rpm, t.limits.daily_tokens)
            for t in found
        ),
        empty="No tenants yet; make one with: param tenants create NAME",
    )  # fmt: skip


@tenants.command("show")
def show_tenant(tenant: TenantArgument, as_json: AsJson = False) -> None:
    """One tenant: limits, what its aliases mean, its keys."""
    with opened() as services:
        found = services.tenants.get(actor(), tenant)
        aliases = services.tenants.aliases(actor(), tenant)
        issued = services.tenants.list_keys(actor(), tenant)
    live = [key for key in issued if key.revoked_at is None]
    if as_json:
        print_json(_tenant(found) | {"aliases": aliases, "live_keys": len(live)})
        return
    show_facts(
        {
            "Tenant": found.id,
            "Name": found.name,
            **facts(found.limits),
            "Time zone": found.timezone,
            "Live keys": len(live),
        }
        | {f"Alias {a.alias}": a.adapter or "the base model" for a in aliases}
    )


@keys.command("create")
def create_key(
    tenant: TenantArgument,
    name: Annotated[str, typer.Option(help="What it is for.")] = "cli",
    tps: Tps = None,
    rpm: Rpm = None,
    daily_tokens: DailyTokens = None,
    concurrent: Concurrent = None,
    as_json: AsJson = False,
) -> None:
    """Issue an API key; its text is shown this once and stored hashed.

    Limits of its own hold beside those of its tenant; without them only the tenant's do.
    """
    from services.tenants.models import KeyLimits

    limits = KeyLimits(tps, rpm, daily_tokens, concurrent or None)
    with opened() as services:
        issued = services.tenants.create_key(actor(), tenant, name, limits=limits)
    if as_json:
        print_json({"key": issued.key} | _key(issued.info))
        return
    say(issued.key)
    say(f"Key {issued.info.prefix}… of {tenant}. Keep it now: it cannot be shown again.")


@keys.command("limits")
def limit_key(
    tenant: TenantArgument,
    key: Annotated[str, typer.Argument(help="Id of the key, or its first characters.")],
    tps: Tps = None,
    rpm: Rpm = None,
    daily_tokens: DailyTokens = None,
    concurrent: Concurrent = None,
    as_json: AsJson = False,
) -> None:
    """Show how much one key may ask for, or change what is named; 0 leaves it to the tenant."""
    wanted = {"tps": tps, "rpm": rpm, "daily_tokens": daily_tokens, "concurrent": concurrent}
    with opened() as services:
        issued = services.tenants.list_keys(actor(), tenant)
        key_id = _one_key(issued, tenant, key)
        found = next(one for one in issued if one.id == key_id)
        limits = changed(found.limits, wanted, may_be_open=frozenset(wanted))
        if limits != found.limits:
            found = services.tenants.set_key_limits(actor(), tenant, key_id, limits)
    if as_json:
        print_json(_key(found))
    else:
        show_facts({"Key": f"{found.prefix}… ({found.name})"} | facts(found.limits))


@keys.command("revoke")
def revoke_key(
    tenant: TenantArgument,
    key: Annotated[str, typer.Argument(help="Id of the key, or its first characters.")],
    as_json: AsJson = False,
) -> None:
    """Make a key useless from now on."""
    with opened() as services:
        issued = services.tenants.list_keys(actor(), tenant)
        revoked = services.tenants.revoke_key(actor(), tenant, _one_key(issued, tenant, key))
    if as_json:
        print_json(_key(revoked))
    else:
        say(f"Key {revoked.prefix}… of {tenant} is revoked.")


@keys.command("list")
def list_keys(tenant: TenantArgument, as_json: AsJson = False) -> None:
    """The keys of a tenant, without their text."""
    with opened() as services:
        services.tenants.get(actor(), tenant)
        issued = services.tenants.list_keys(actor(), tenant)
    if as_json:
        print_json([_key(key) for key in issued])
        return
    show_table(
        ("Key", "Name", "Begins with", "Issued", "Revoked"),
        ((key.id, key.name, key.prefix, key.created_at, key.revoked_at) for key in issued),
        empty=f"No keys yet; issue one with: param keys create {tenant}",
    )


@users.command("create")
def create_user(
    username: str,
    role: Annotated[
        list[str],
        typer.Option(help="annotator, engineer, manager or admin; may be given more than once."),
    ],
    tenant: Annotated[
        list[str] | None,
        typer.Option(help="May be given more than once; administrators may do without."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="As it is shown.")] = None,
    language: Annotated[str, typer.Option(help="en or tr.")] = "en",
    as_json: AsJson = False,
) -> None:
    """Make an account with a generated password, which is shown this once."""
    from services.tenants.models import EVERY_TENANT

    roles = _roles_named(role)
    if not tenant and roles != {"admin"}:
        raise InvalidInput(f"--tenant: expected the tenants of {username!r}, found none")
    grants = {tenant_id: roles for tenant_id in tenant or [EVERY_TENANT]}
    with opened() as services:
        user, password = services.tenants.create_user(
            actor(), username, display_name=name or username, grants=grants, language=language
        )
    if as_json:
        print_json(_user(user) | {"password": password})
        return
    say(f"{user.username}   {password}")
    say("Keep the password now: it cannot be shown again.")


@users.command("reset-password")
def reset_password(username: str, as_json: AsJson = False) -> None:
    """Give an account another generated password, which is shown this once."""
    with opened() as services:
        known = {user.username: user.id for user in services.tenants.list_users(actor())}
        if username not in known:
            raise NotFound(
                f"user {username!r}: expected an account, found none; see param users list"
            )
        password = services.tenants.reset_password(actor(), known[username])
    if as_json:
        print_json({"username": username, "password": password})
        return
    say(f"{username}   {password}")
    say("Keep the password now: it cannot be shown again.")


@users.command("list")
def list_users(as_json: AsJson = False) -> None:
    """All accounts and their roles."""
    with opened() as services:
        found = services.tenants.list_users(actor())
    if as_json:
        print_json([_user(user) for user in found])
        return
    show_table(
        ("User", "Name", "Roles", "Disabled"),
        ((user.username, user.display_name, _roles(user), user.disabled) for user in found),
        empty="No users yet; make one with: param users create NAME --role admin",
    )


def _roles_named(names: list[str]) -> frozenset[Role]:
    from services.tenants.models import Role

    for_people = [role for role in Role if role not in {Role.SYSTEM, Role.CUSTOMER}]
    if unknown := [name for name in names if name not in for_people]:
        raise InvalidInput(f"--role: expected one of {', '.join(for_people)}, found {unknown[0]!r}")
    return frozenset(Role(name) for name in names)


def _roles(user: User) -> str:
    from services.tenants.models import EVERY_TENANT

    return ", ".join(
        f"{'+'.join(sorted(roles))} in {'all tenants' if tenant == EVERY_TENANT else tenant}"
        for tenant, roles in sorted(user.grants.items())
    )


def _one_key(issued: list[ApiKey], tenant: str, wanted: str) -> str:
    found = [key.id for key in issued if wanted == key.id or wanted == key.prefix]
    if len(found) != 1:
        raise NotFound(
            f"tenant {tenant}: expected one key {wanted[:12]!r}, found {len(found) or 'none'}; "
            f"see param keys list {tenant}"
        )
    return found[0]


def _tenant(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": tenant.id,
        "name": tenant.name,
        "limits": tenant.limits,
        "timezone": tenant.timezone,
        "created_at": tenant.created_at,
    }


def _key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant_id": key.tenant_id,
        "name": key.name,
        "prefix": key.prefix,
        "limits": key.limits,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }


def _user(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "username": user.username,
        "display_name": user.display_name,
        "grants": user.grants,
        "language": user.language,
        "disabled": user.disabled,
        "created_at": user.created_at,
    }
