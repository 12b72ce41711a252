"""`param rollout`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.cli.opened import TenantOption, actor, opened
from console.cli.output import AsJson, plain, print_json, say, show_facts, show_table

if TYPE_CHECKING:
    from services.rollouts.models import Rollout

app = typer.Typer()

RolloutArgument = Annotated[str, typer.Argument(help="Id of the rollout.")]


@app.command("start")
def start(
    tenant: TenantOption,
    candidate: Annotated[str, typer.Argument(help="Name of the adapter to try.")],
    percent: Annotated[int, typer.Option(help="First share of the candidate, 0 to 100.")] = 10,
    alias: Annotated[
        str | None, typer.Option(help="What users ask for; the adapter's own by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Begin to try an adapter on a share of an alias's users."""
    with opened() as services:
        wanted = alias or services.registry.get(actor(), tenant, candidate).alias
        rollout = services.rollouts.start(actor(), tenant, wanted, candidate, percent=percent)
    _show(rollout, as_json)


@app.command("step")
def step(
    rollout: RolloutArgument,
    percent: Annotated[int, typer.Argument(help="The candidate's new share, 0 to 100.")],
    as_json: AsJson = False,
) -> None:
    """Give the candidate another share of the users."""
    with opened() as services:
        _show(services.rollouts.step(actor(), rollout, percent), as_json)


@app.command("promote")
def promote(
    rollout: RolloutArgument,
    reason: Annotated[
        str, typer.Option(help="Needed where the evaluation does not prove the candidate better.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Make the candidate what the alias means."""
    with opened() as services:
        _show(services.rollouts.promote(actor(), rollout, reason=reason), as_json)


@app.command("rollback")
def rollback(
    rollout: RolloutArgument,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit log.")],
    as_json: AsJson = False,
) -> None:
    """Go back to what the alias meant when the rollout began."""
    with opened() as services:
        _show(services.rollouts.rollback(actor(), rollout, reason=reason), as_json)


@app.command("status")
def status(
    rollout: Annotated[str | None, typer.Argument(help="Id; all of the tenant without.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Id of the tenant.")] = None,
    as_json: AsJson = False,
) -> None:
    """One rollout with its traffic, or all of a tenant."""
    if (rollout is None) == (tenant is None):
        raise typer.BadParameter("expected either the id of a rollout or --tenant")
    if tenant is not None:
        _show_all(tenant, as_json)
        return
    with opened() as services:
        found = services.rollouts.get(actor(), rollout or "")
        traffic = services.rollouts.traffic(actor(), found.id)
    if as_json:
        print_json(_rollout(found) | {"traffic": plain(traffic)})
        return
    _show(found, as_json=False)
    show_table(
        ("Arm", ">Requests", ">Errors", ">Cut off", ">Tokens", ">Mean ms"),
        (
            (a.arm, a.requests, a.errors, a.partial, a.prompt_tokens + a.completion_tokens,
             a.mean_latency_ms)
            for a in (traffic.stable, traffic.canary)
        ),
    )  # fmt: skip
    if traffic.observed_percent is not None:
        say(
            f"Asked {traffic.asked_percent} %, observed {traffic.observed_percent:.1f} % "
            f"(95 % interval {traffic.low_percent:.1f} to {traffic.high_percent:.1f})"
        )


def _show_all(tenant: str, as_json: bool) -> None:
    with opened() as services:
        services.tenants.get(actor(), tenant)
        found = services.rollouts.list(actor(), tenant)
    if as_json:
        print_json([_rollout(rollout) for rollout in found])
        return
    show_table(
        ("Rollout", "Alias", "State", ">Share", "Candidate", "Stable", "Started"),
        (
            (r.id, r.alias, r.state, f"{r.percent} %", r.candidate, r.stable, r.started_at)
            for r in found
        ),
        empty="No rollouts yet; start one with: param rollout start ADAPTER --tenant T",
    )


def _rollout(rollout: Rollout) -> dict[str, Any]:
    shown: dict[str, Any] = plain(rollout)
    return shown | {"state": rollout.state.value, "percent": rollout.percent}


def _show(rollout: Rollout, as_json: bool) -> None:
    if as_json:
        print_json(_rollout(rollout))
        return
    show_facts(
        {
            "Rollout": rollout.id,
            "Alias": f"{rollout.alias} of {rollout.tenant_id}",
            "State": f"{rollout.state.value}, candidate at {rollout.percent} %",
            "Candidate": rollout.candidate,
            "Stable": rollout.stable or "the base model",
        }
    )
    if rollout.steps[-1].reason:
        say(f"Reason: {rollout.steps[-1].reason}")
