"""`param policy`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.cli.opened import TenantOption, actor, opened
from console.cli.output import AsJson, print_json, say, show_facts, show_table
from console.exit_status import CHECK_FAILED
from services.errors import InvalidInput

if TYPE_CHECKING:
    from services.guardrails.regression import Score

app = typer.Typer()
PolicyFile = Annotated[
    Path,
    typer.Argument(help="A policy in YAML; `default` in place of a file names the built-in one."),
]
LEAST = 0.97
"""Precision and recall below which a check is said to have failed its cases."""


class Where(StrEnum):
    """Where a text stands."""

    INPUT = "input"
    TOOLS = "tools"
    OUTPUT = "output"


@app.command("show")
def show(tenant: TenantOption, as_json: AsJson = False) -> None:
    """The policy that holds for a tenant."""
    with opened() as services:
        found = services.guardrails.current(actor(), tenant)
    if as_json:
        print_json({"version": found.version, "sha256": found.digest, "policy": found.source})
    else:
        typer.echo(found.source, nl=False)


@app.command("set")
def set_policy(file: PolicyFile, tenant: TenantOption, as_json: AsJson = False) -> None:
    """Make a file a tenant's policy; gateways follow within a second."""
    source = _read(file)
    with opened() as services:
        services.tenants.get(actor(), tenant)
        saved = services.guardrails.save(actor(), tenant, source)
    if as_json:
        print_json({"version": saved.version, "sha256": saved.digest})
        return
    say(f"Version {saved.version} holds for {tenant}.")


@app.command("test")
def try_policy(
    file: PolicyFile,
    text: Annotated[
        str | None, typer.Option(help="Try this text instead of the labelled cases.")
    ] = None,
    place: Annotated[Where, typer.Option(help="Where the text stands.")] = Where.INPUT,
    as_json: AsJson = False,
) -> None:
    """Try a policy on a text, or each of its checks on the labelled cases that come with it.

    Exit status 1 tells that the text is stopped, or that a check finds too little or too much.
    """
    from services.guardrails.policy import read_policy

    policy = read_policy(_read(file))
    if text is not None:
        _try_text(policy.source, place, text, as_json)
        return
    from services.guardrails.regression import run

    scores = run(policy)
    if as_json:
        print_json([_row(score) for score in scores])
    else:
        rows = [list(_row(score).values()) for score in scores]
        show_table(("Check", "Cases", "Precision", "Recall"), rows, empty="It has no check.")
        for score in scores:
            for failed in score.failed:
                say(f"{score.check}: {failed}")
    if any(min(score.precision, score.recall) < LEAST for score in scores):
        raise typer.Exit(CHECK_FAILED)


def _try_text(source: str, place: Where, text: str, as_json: bool) -> None:
    from services.guardrails.guards import try_out
    from services.guardrails.models import Place

    verdict = try_out(source, Place(place.value), text)
    stopped = verdict.blocked_by
    found = [
        {
            "check": one.check, "kind": one.kind, "action": one.action.value,
            "from": one.span.start, "to": one.span.end,
        }
        for one in verdict.findings
    ]  # fmt: skip
    if as_json:
        goes_on = None if stopped else verdict.text
        print_json({"blocked": stopped is not None, "text": goes_on, "findings": found})
    else:
        columns = ("Check", "Kind", "Action", "From", "To")
        show_table(columns, [list(one.values()) for one in found], empty="Nothing was found.")
        show_facts({"Stopped": "yes"} if stopped else {"Goes on as": verdict.text})
    if stopped is not None:
        raise typer.Exit(CHECK_FAILED)


def _row(score: Score) -> dict[str, Any]:
    return {
        "check": score.check,
        "cases": score.cases,
        "precision": round(score.precision, 3),
        "recall": round(score.recall, 3),
    }


def _read(file: Path) -> str:
    from services.guardrails.policy import DEFAULT_FILE

    try:
        return (DEFAULT_FILE if str(file) == "default" else file).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{file}: expected a readable file, found: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file}: expected text in UTF-8, found other bytes") from error
