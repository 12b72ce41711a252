"""`param rollout`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.cli.opened import TenantOption, actor, opened
from console.cli.output import AsJson, plain, print_json, say, show_facts, show_table
from services.errors import InvalidInput, VerificationFailed
from services.rollouts.backends import GATEWAY
from services.rollouts.backends.targets import planned_target
from services.rollouts.models import Planned
from services.rollouts.policy import DEFAULT_SOURCE, read_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.rollouts.models import Rollout
    from services.rollouts.overview import Signed

app = typer.Typer()

RolloutArgument = Annotated[str, typer.Argument(help="Id of the rollout.")]


@app.command("start")
def start(
    tenant: TenantOption,
    candidate: Annotated[str, typer.Argument(help="Name of the adapter to try.")],
    percent: Annotated[
        int | None,
        typer.Option(help="First share of the candidate, 0 to 100; 10 without a policy."),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="YAML by which it moves itself; `default` for the built-in one."),
    ] = None,
    backend: Annotated[str, typer.Option(help="What splits the traffic.")] = GATEWAY,
    target: Annotated[
        list[str] | None, typer.Option(help="Where, for a cluster: NAME=VALUE, again for each.")
    ] = None,
    alias: Annotated[
        str | None, typer.Option(help="What users ask for; the adapter's own by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Begin to try an adapter on a share of an alias's users, by hand or by a policy."""
    plan = (
        None
        if policy is None
        else Planned(_policy(policy), backend, planned_target(backend, _target(target or [])))
    )
    if plan is not None and percent is not None:
        raise typer.BadParameter("expected --percent or --policy, found both")
    if plan is None and (target or backend != GATEWAY):
        raise typer.BadParameter("--backend and --target: expected --policy beside them")
    first = 0 if plan is not None else 10 if percent is None else percent
    with opened() as services:
        wanted = alias or services.registry.get(actor(), tenant, candidate).alias
        rollout = services.rollouts.start(
            actor(), tenant, wanted, candidate, percent=first, plan=plan
        )
    _show(rollout, as_json)


@app.command("policy")
def policy(as_json: AsJson = False) -> None:
    """Print the built-in policy, to be changed and given to `start --policy`."""
    if as_json:
        print_json({"policy": DEFAULT_SOURCE})
        return
    typer.echo(DEFAULT_SOURCE, nl=False)


@app.command("simulate")
def simulate(
    policy: Annotated[
        Path, typer.Option(help="YAML of a policy; `default` for the built-in one.")
    ] = Path("default"),
    per_second: Annotated[
        float, typer.Option(min=0, max=1_000_000, help="Requests a second of both arms.")
    ] = 20.0,
    error_rate: Annotated[
        float, typer.Option(min=0, max=0.5, help="Of the stable arm; candidates try its double.")
    ] = 0.02,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="Rollouts of each kind.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Try a policy on made-up traffic: what becomes of equal, better and worse candidates."""
    from services.rollouts.simulation import table, truths

    found = table(
        read_policy(_policy(policy)),
        truths(per_second=per_second, error_rate=error_rate),
        runs=runs,
    )
    if as_json:
        print_json([plain(one) for one in found])
        return
    show_table(
        ("Candidate", ">Promoted", ">Rolled back", ">Paused", ">Median hours"),
        (
            (one.name, f"{one.promoted} %", f"{one.rolled_back} %", f"{one.paused} %", one.hours)
            for one in found
        ),
    )


@app.command("pause")
def pause(
    rollout: RolloutArgument,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit log.")] = "",
    as_json: AsJson = False,
) -> None:
    """Go no further; what fails still goes back."""
    with opened() as services:
        _show(services.rollouts.pause(actor(), rollout, reason=reason), as_json)


@app.command("resume")
def resume(rollout: RolloutArgument, as_json: AsJson = False) -> None:
    """Go on after a pause."""
    with opened() as services:
        _show(services.rollouts.resume(actor(), rollout), as_json)


@app.command("drill")
def drill(rollout: RolloutArgument, as_json: AsJson = False) -> None:
    """Rehearse a rollback: everybody to the stable arm, then back; a worker must be running."""
    with opened() as services:
        _show(services.rollouts.drill(actor(), rollout), as_json)


@app.command("history")
def history(rollout: RolloutArgument, as_json: AsJson = False) -> None:
    """Every step with its reason, compared with the log; with --json the signed statements."""
    from services.rollouts.history import History
    from services.rollouts.overview import Overview

    with opened() as services:
        found = services.rollouts.get(actor(), rollout)
        signed = Overview(services.db, services.rollouts).signed(actor(), rollout)
        kept = History(services.db, services.rollouts, services.keyring.jwks)
        checked, changes = kept.check(actor(), rollout), kept.changes(actor(), rollout)
    flaws = [one.sentence() for one in checked.flaws]
    if as_json:
        print_json(
            {
                "rollout": found.id,
                "statements": [one.envelope for one in signed],
                "logged": checked.logged,
                "flaws": flaws,
                "changes": [plain(one) for one in changes],
            }
        )
    else:
        _show_history(found, signed, checked.logged)
    if flaws:
        raise VerificationFailed(f"the signed history is not whole: {'; '.join(flaws)}")


def _show_history(found: Rollout, signed: Sequence[Signed], logged: int) -> None:
    digests = {one.seq: one.sha256[:16] for one in signed}
    show_table(
        (">Step", "State", ">Share", "By", "At", "Signed", "Reason"),
        (
            (s.seq, s.state, f"{s.percent} %", s.actor_name, s.at, digests.get(s.seq), s.reason)
            for s in found.steps
        ),
    )
    if logged:
        say(f"The audit log names {logged} signed steps.")


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


def _policy(path: Path) -> str:
    """The text of a policy."""
    if str(path) == "default":
        return DEFAULT_SOURCE
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"policy: expected a text file, found none at {path}") from error


def _target(pairs: list[str]) -> dict[str, str]:
    """Where a cluster splits, from NAME=VALUE."""
    found = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    if len(found) != len(pairs):
        raise typer.BadParameter("--target: expected NAME=VALUE, each name once")
    return found


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
