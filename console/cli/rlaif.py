"""`param rlaif`."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.cli.opened import TenantOption, actor, opened
from console.cli.output import AsJson, dollars, print_json, say, show_facts, show_table
from console.cli.waiting import follow
from console.exit_status import CHECK_FAILED, DONE
from services.errors import InvalidInput

if TYPE_CHECKING:
    from services.bootstrap import Services
    from services.preferences.models import Turn
    from services.rlaif.models import Run, Spec

app = typer.Typer()

File = Annotated[
    Path | None,
    typer.Argument(help="Prompts: .jsonl, .json, .csv, or one a line; none with --judge."),
]
Cap = Annotated[str, typer.Option("--cap", help="What it may spend at most, US dollars.")]
Judge = Annotated[
    str | None,
    typer.Option("--judge", help="Judge what is there instead: stale or unjudged pairs."),
]
FromSource = Annotated[str, typer.Option("--from", help="With --judge: only pairs of this import.")]
Limit = Annotated[int, typer.Option(help="Prompts of --traffic, pairs of --judge, at most.")]
FromTraffic = Annotated[
    bool, typer.Option("--traffic", help="Take what users asked, where the tenant keeps that.")
]
Model = Annotated[
    str, typer.Option(help="What answers: an adapter, base, or what users are served now.")
]
Temperatures = Annotated[str, typer.Option(help="One candidate each, with commas between.")]
Pairs = Annotated[int, typer.Option(help="Pairs of a prompt that are judged.")]
MaxTokens = Annotated[int, typer.Option(help="Longest candidate, tokens.")]
How = Annotated[str, typer.Option(help="auto, direct or batch (half the price, up to a day).")]
Concurrency = Annotated[int, typer.Option(help="Calls at one time.")]
Margin = Annotated[float, typer.Option(help="Distance of scores, of 10, that decides.")]
Source = Annotated[str, typer.Option(help="Where the pairs will say that they are from.")]
Evaluation = Annotated[bool, typer.Option(help="An evaluation set: never trained on.")]
RunArgument = Annotated[str, typer.Argument(help="Id of the run.")]
Wait = Annotated[bool, typer.Option("--wait", help="Stay until it has ended.")]
_TEMPERATURES = "0.3,0.5,0.7,0.9"


@app.command("estimate")
def estimate(
    tenant: TenantOption, file: File = None, judge: Judge = None, from_source: FromSource = "",
    limit: Limit = 1_000, traffic: FromTraffic = False, model: Model = "",
    temperatures: Temperatures = _TEMPERATURES, pairs: Pairs = 2, max_tokens: MaxTokens = 256,
    mode: How = "auto", as_json: AsJson = False,
) -> None:  # fmt: skip
    """What a run would do and cost. Nothing is asked and nothing is paid."""
    with opened() as services:
        services.tenants.get(actor(), tenant)
        spec = _spec(
            judge, "1", from_source=from_source, limit=limit, model=model,
            temperatures=temperatures, pairs_per_prompt=pairs, max_new_tokens=max_tokens, mode=mode,
        )  # fmt: skip
        prompts = _prompts(services, tenant, file, judge, traffic=traffic, limit=limit)
        found = services.rlaif.estimate(actor(), tenant, spec, prompts)
    if as_json:
        print_json(
            {**vars(found), "expected_micro": found.expected_micro, "pair_micro": found.pair_micro}
        )
        return
    lengths = f"learned from {found.measured_calls} verdicts" if found.measured_calls else "guessed"
    show_facts(
        {
            "Prompts": found.prompts,
            "Candidates": found.candidates,
            "Pairs": found.pairs,
            "Verdicts": f"{found.calls}, {'as batches' if found.is_batch else 'one by one'}",
            "Expected": f"{dollars(found.expected_micro)} USD, {dollars(found.pair_micro)} a pair",
            "At most": f"{dollars(found.most_micro)} USD",
            "Lengths": lengths,
            "Price": found.price_version,
        }
    )


@app.command("run")
def run(
    tenant: TenantOption, cap: Cap, file: File = None, judge: Judge = None,
    from_source: FromSource = "", limit: Limit = 1_000, traffic: FromTraffic = False,
    model: Model = "", temperatures: Temperatures = _TEMPERATURES, pairs: Pairs = 2,
    max_tokens: MaxTokens = 256, mode: How = "auto", concurrency: Concurrency = 4,
    margin: Margin = 0.5, source: Source = "", evaluation: Evaluation = False,
    wait: Wait = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Queue a run: candidates, verdicts in both orders, pairs; never beyond the cap."""
    with opened() as services:
        services.tenants.get(actor(), tenant)
        spec = _spec(
            judge, cap, from_source=from_source, limit=limit, model=model,
            temperatures=temperatures, pairs_per_prompt=pairs, max_new_tokens=max_tokens,
            mode=mode, concurrency=concurrency, margin=margin, is_evaluation=evaluation,
            source=source or (file.name if file else "generated"),
        )  # fmt: skip
        prompts = _prompts(services, tenant, file, judge, traffic=traffic, limit=limit)
        made = services.rlaif.launch(actor(), tenant, spec, prompts)
        made = _followed(services, made, wait=wait, quiet=as_json)
    _show(made, as_json)
    if wait:
        raise typer.Exit(_status(made))


@app.command("status")
def status(
    tenant: Annotated[
        str | None, typer.Option("--tenant", "-t", help="Id of the tenant, for all its runs.")
    ] = None,
    run: Annotated[str | None, typer.Argument(help="Id of one run.")] = None,
    as_json: AsJson = False,
) -> None:
    """One run and the calls without a verdict, or all runs of a tenant."""
    if (tenant is None) == (run is None):
        raise InvalidInput("expected a run, or --tenant, found neither or both")
    with opened() as services:
        if run is not None:
            found = services.rlaif.get(actor(), run)
            calls = services.rlaif.calls(actor(), run, limit=20, only_failed=True)
            _show(found, as_json, calls=[vars(call) for call in calls])
            return
        assert tenant is not None, "one of the two is given"
        services.tenants.get(actor(), tenant)
        runs = services.rlaif.list(actor(), tenant)
    if as_json:
        print_json([_facts(one) for one in runs])
        return
    show_table(
        ("Run", "Kind", "Status", ">Pairs", ">Spent USD", ">Cap USD", "Created"),
        (
            (one.id, one.spec.kind, one.outcome or one.job.status, one.counts.published,
             dollars(one.spent_micro), dollars(one.cap_micro), one.created_at)
            for one in runs
        ),
        empty=f"No runs yet; start one with: param rlaif run FILE --tenant {tenant} --cap USD",
    )  # fmt: skip


@app.command("stop")
def stop(run: RunArgument, as_json: AsJson = False) -> None:
    """Ask a run to end; calls on their way come back first, a batch is cancelled."""
    with opened() as services:
        found = services.rlaif.stop(actor(), run)
    _show(found, as_json)


@app.command("resume")
def resume(
    run: RunArgument,
    cap: Annotated[str | None, typer.Option("--cap", help="A new cap, US dollars.")] = None,
    ask_lost_again: Annotated[
        bool,
        typer.Option(help="Ask again what was sent and never answered; it may be paid twice."),
    ] = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a run that has ended, at the call where it was."""
    with opened() as services:
        found = services.rlaif.resume(
            actor(), run, cap_micro=None if cap is None else _micro(cap),
            ask_lost_again=ask_lost_again,
        )  # fmt: skip
        found = _followed(services, found, wait=wait, quiet=as_json)
    _show(found, as_json)
    if wait:
        raise typer.Exit(_status(found))


def _spec(judge: str | None, cap: str, **values: Any) -> Spec:
    from services.rlaif.models import Kind, Spec

    try:
        heat = [float(one) for one in values.pop("temperatures").split(",")]
    except ValueError as error:
        raise InvalidInput("temperatures: expected numbers with commas between") from error
    kind = Kind.GENERATE if judge is None else Kind.JUDGE
    selection = {} if judge is None else {"selection": judge}
    return Spec.from_json(
        {"kind": kind, "cap_micro": _micro(cap), "temperatures": heat, **selection, **values}
    )


def _prompts(
    services: Services, tenant: str, file: Path | None, judge: str | None, *, traffic: bool,
    limit: int,
) -> tuple[tuple[Turn, ...], ...]:  # fmt: skip
    from services.rlaif import prompts

    if sum((file is not None, judge is not None, traffic)) != 1:
        raise InvalidInput("expected one of a file of prompts, --traffic and --judge")
    if traffic:
        return services.rlaif.traffic_prompts(actor(), tenant, limit=limit).prompts
    if file is None:
        return ()
    if not file.is_file():
        raise InvalidInput(f"expected a file of prompts, found none at {file}")
    return prompts.read(file.read_bytes(), file.name).prompts


def _micro(text: str) -> int:
    try:
        micro = Decimal(text) * 1_000_000
    except InvalidOperation as error:
        raise InvalidInput(f"cap: expected US dollars, such as 2.50, found {text!r}") from error
    if not micro.is_finite() or micro != micro.to_integral_value():
        raise InvalidInput(f"cap: expected at most six decimals, found {text!r}")
    return int(micro)


def _followed(services: Services, run: Run, *, wait: bool, quiet: bool) -> Run:
    if not wait:
        return run
    follow(lambda: services.rlaif.get(actor(), run.id).job, quiet=quiet)
    return services.rlaif.get(actor(), run.id)


def _status(run: Run) -> int:
    return DONE if run.outcome == "complete" else CHECK_FAILED


def _facts(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "tenant_id": run.tenant_id,
        "status": run.job.status,
        "outcome": run.outcome,
        "progress": run.job.progress,
        "message": run.job.message,
        "error": run.job.error,
        "judge": run.judge,
        "revision": run.revision,
        "cap_micro": run.cap_micro,
        "spent_micro": run.spent_micro,
        "reserved_micro": run.reserved_micro,
        "counts": run.counts,
        "spec": run.spec.as_json(),
        "created_at": run.created_at,
    }


def _show(run: Run, as_json: bool, *, calls: list[Any] | None = None) -> None:
    if as_json:
        print_json({**_facts(run), **({} if calls is None else {"without_verdict": calls})})
        return
    counts = run.counts
    show_facts(
        {
            "Run": run.id,
            "Status": f"{run.job.status.value}, {run.job.progress:.0%}: {run.job.message}",
            **({"Error": run.job.error} if run.job.error else {}),
            "Judge": f"{run.judge}, revision {run.revision}",
            "Spent": f"{dollars(run.spent_micro)} of {dollars(run.cap_micro)} USD",
            "Candidates": counts.candidates,
            "Pairs": f"{counts.published} of {counts.pairs} are in the queue",
            "Both orders": f"{counts.consistent} agree, {counts.inconsistent} do not",
            "Verdicts": ", ".join(f"{n} {state.value}" for state, n in counts.calls.items())
            or "none",
        }
    )
    for call in calls or ():
        say(f"{call['custom_id']}  {call['state'].value}: {call['note']}")
