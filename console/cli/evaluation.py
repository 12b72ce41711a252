"""`param eval`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.opened import TenantOption, actor, opened
from console.cli.output import AsJson, print_json, say, show_facts, show_table
from console.cli.waiting import follow, status_of
from services.errors import NotFound

if TYPE_CHECKING:
    from services.evaluation.models import Evaluation, Summary

app = typer.Typer()

AdapterArgument = Annotated[str, typer.Argument(help="Name of the adapter.")]


@app.command("run")
def run(
    adapter: AdapterArgument,
    tenant: TenantOption,
    dataset: Annotated[
        str | None, typer.Option(help="Id of another dataset than the one it was held out of.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue an evaluation of an adapter against its base, on held-out pairs."""
    with opened() as services:
        found = services.evaluations.launch(actor(), tenant, adapter, dataset_id=dataset)
        if wait:
            follow(lambda: services.evaluations.get(actor(), found.id).job, quiet=as_json)
            found = services.evaluations.get(actor(), found.id)
    _show(found, as_json)
    if wait:
        raise typer.Exit(status_of(found.job))


@app.command("compare")
def compare(
    adapter: AdapterArgument,
    tenant: TenantOption,
    as_json: AsJson = False,
) -> None:
    """The latest evaluation of an adapter: base and adapter side by side, and the verdict."""
    with opened() as services:
        services.registry.get(actor(), tenant, adapter)
        found = services.evaluations.latest_for(actor(), tenant, adapter)
    if found is None:
        raise NotFound(
            f"adapter {adapter!r}: expected an evaluation, found none; start one with: "
            f"param eval run {adapter} --tenant {tenant} --wait"
        )
    _show(found, as_json)


def _show(found: Evaluation, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    show_facts({"Evaluation": found.id, "Adapter": found.adapter, "Status": found.job.status.value})
    if found.summary is None:
        say(found.job.error or "No result yet.")
        return
    _show_summary(found.summary)


def _show_summary(summary: Summary) -> None:
    show_table(
        ("On held-out pairs", ">Base", ">Adapter"),
        (
            ("accuracy", f"{summary.base_accuracy:.1%}", f"{summary.adapter_accuracy:.1%}"),
            ("accuracy, per token", f"{summary.base_accuracy_per_token:.1%}",
             f"{summary.adapter_accuracy_per_token:.1%}"),
            ("mean margin (nats)", f"{summary.base_margin:.2f}", f"{summary.adapter_margin:.2f}"),
            ("answers that repeat themselves", f"{summary.base_degenerate} of {summary.n_answers}",
             f"{summary.adapter_degenerate} of {summary.n_answers}"),
        ),
    )  # fmt: skip
    say(f"Verdict: {summary.verdict.value}. {summary.sentence}")
