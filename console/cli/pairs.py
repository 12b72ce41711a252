"""`param pairs`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.opened import TenantOption, actor, opened
from console.cli.output import AsJson, print_json, say, show_facts, show_table
from console.exit_status import CHECK_FAILED
from services.errors import InvalidInput

if TYPE_CHECKING:
    from services.preferences.models import ImportReport

app = typer.Typer()


class Format(StrEnum):
    """The formats that are read."""

    AUTO = "auto"
    TRL = "trl"
    HH = "hh"
    CSV = "csv"
    ALPACA_EVAL = "alpaca-eval"
    LABEL_STUDIO = "label-studio"


@app.command("import")
def import_pairs(
    file: Annotated[Path, typer.Argument(help="The file, packed with gzip or not.")],
    tenant: TenantOption,
    format: Annotated[Format, typer.Option(help="`auto` tells it by the first row.")] = Format.AUTO,
    source: Annotated[
        str | None, typer.Option(help="Kept with each pair; the file's name by default.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check only; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import preference pairs. Good rows are taken; exit status 1 tells that some were not."""
    with opened() as services:
        services.tenants.get(actor(), tenant)
        try:
            stream = file.open("rb")
        except OSError as error:
            raise InvalidInput(
                f"{file}: expected a file that can be read, found {error.strerror}"
            ) from error
        with stream:
            report = services.preferences.import_pairs(
                actor(), tenant, stream,
                format=format.value, source=source or file.name, dry_run=dry_run,
            )  # fmt: skip
    if as_json:
        print_json(report.as_json())
    else:
        _show_import(file, report, dry_run)
    if report.rejected:
        raise typer.Exit(CHECK_FAILED)


def _show_import(file: Path, report: ImportReport, dry_run: bool) -> None:
    say(f"{file.name} ({report.format}){': checked, nothing written' if dry_run else ''}")
    show_facts(
        {
            "read": report.read,
            "imported": report.imported,
            "duplicates": report.duplicates,
            "rejected": report.rejected,
        }
    )
    if report.errors:
        show_table((">Line", "Not taken because"), ((e.line, e.reason) for e in report.errors))
    if report.rejected > len(report.errors):
        say(f"... and {report.rejected - len(report.errors)} more.")
    if report.contradictions:
        show_table((">Line", "Contradiction"), ((e.line, e.reason) for e in report.contradictions))


@app.command("export")
def export_pairs(
    tenant: TenantOption,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Unreviewed pairs too, marked so in the manifest.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write train.jsonl, eval.jsonl, dropped.jsonl and manifest.json."""
    with opened() as services:
        services.tenants.get(actor(), tenant)
        manifest = services.preferences.export(actor(), tenant, out, include_unreviewed=everything)
    if as_json:
        print_json(manifest)
        return
    show_facts(
        {
            "Folder": manifest.folder,
            "Training pairs": manifest.n_train,
            "Held-out pairs": manifest.n_eval,
            "Dropped": manifest.n_dropped,
            "sha256": manifest.sha256,
        }
    )


@app.command("stats")
def stats(tenant: TenantOption, as_json: AsJson = False) -> None:
    """Counts of a tenant's pairs."""
    with opened() as services:
        services.tenants.get(actor(), tenant)
        found = services.preferences.stats(actor(), tenant)
    if as_json:
        print_json(found)
        return
    show_facts(
        {"Pairs": found.total}
        | {str(status): count for status, count in found.by_status.items()}
        | {f"in {language}": count for language, count in found.by_language.items()}
        | {"edited": found.edited, "demo decisions": found.demo, "reviews": found.reviews}
    )
