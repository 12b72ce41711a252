"""`param custody`: from an answer back to the people who decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.opened import actor, opened
from console.cli.output import AsJson, cell, plain, print_json, say, terminal
from console.exit_status import CHECK_FAILED

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from services.attestation.chain import Link

app = typer.Typer()


@app.callback()
def custody() -> None:
    """From an answer back to the people who decided."""


@app.command("show")
def show(
    reference: Annotated[
        str,
        typer.Argument(metavar="ADAPTER|RECEIPT", help="Name of an adapter or id of a receipt."),
    ],
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", "-t", help="Whose adapter, where several tenants have it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The chain of signed statements, each link checked.

    Exit status 1 tells that a link is missing or does not hold.
    """
    from services.attestation.chain import PROBLEMS

    with opened() as services:
        found = services.chains.of(actor(), reference, tenant_id=tenant)
    broken = found.broken
    if as_json:
        print_json({"ok": not broken, "broken": len(broken), "chain": plain(found)})
    else:
        terminal().print(_tree(found))
        for link in broken:
            detail = f" ({link.detail})" if link.detail else ""
            say(f"{link.kind} {link.name}: {PROBLEMS[link.problem]}{detail}")
    if broken:
        raise typer.Exit(CHECK_FAILED)


def _tree(link: Link) -> Tree:
    from rich.tree import Tree

    tree = Tree(_line(link))
    for part in link.parts:
        tree.add(_tree(part))
    return tree


def _line(link: Link) -> Text:
    from rich.text import Text

    line = Text.assemble(
        ("\u2717 " if link.problem else "\u2713 ", "red" if link.problem else "green"),
        (f"{link.kind} ", "dim"),
        cell(link.name),
    )
    if link.statement:
        line.append(f"  statement {link.statement[:12]}", "dim")
        line.append(
            "  not in the log yet" if link.entry is None else f"  entry {link.entry}", "dim"
        )
    return line
