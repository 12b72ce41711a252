"""`param pairs`."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from console.cli import pairs_export
from console.cli.opened import TenantOption, actor, opened
from console.cli.output import AsJson, print_json, say, show_facts, show_table
from console.exit_status import CHECK_FAILED
from services.errors import InvalidInput

if TYPE_CHECKING:
    from services.preferences.models import ImportReport

app = typer.Typer()
SHOWN_ERRORS = 100


class Format(StrEnum):
    """The formats that are read."""

    AUTO = "auto"
    TRL = "trl"
    HH = "hh"
    CSV = "csv"
    ALPACA_EVAL = "alpaca-eval"
    LABEL_STUDIO = "label-studio"
    CANDIDATES = "candidates"
    SELF_INSTRUCT = "self-instruct"


class Purpose(StrEnum):
    """What imported prompts are for."""

    TRAINING = "training"
    EVALUATION = "evaluation"


@app.command("import")
def import_pairs(
    files: Annotated[
        list[Path],
        typer.Argument(help="The file, packed with gzip or not; several of self-instruct."),
    ],
    tenant: TenantOption,
    format: Annotated[Format, typer.Option(help="`auto` tells it by the first row.")] = Format.AUTO,
    source: Annotated[
        str | None, typer.Option(help="Kept with each pair; the file's name by default.")
    ] = None,
    purpose: Annotated[
        Purpose, typer.Option(help="`evaluation` keeps the prompts out of every training set.")
    ] = Purpose.TRAINING,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing if any row is bad.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check only; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import preference pairs. Good rows are taken; exit status 1 tells that some were not."""
    from services.preferences.self_instruct import models_of, source_of

    names = [file.name for file in files]
    with opened() as services, ExitStack() as open_files:
        services.tenants.get(actor(), tenant)
        streams = [open_files.enter_context(_opened(file)) for file in files]
        report = services.preferences.import_pairs(
            actor(), tenant,
            streams[0] if len(streams) == 1 else dict(zip(models_of(names), streams, strict=True)),
            format=format.value, source=source or source_of(names), dry_run=dry_run,
            strict=strict, purpose=purpose.value,
        )  # fmt: skip
    if as_json:
        print_json(report.as_json())
    else:
        _show_import(", ".join(names), report, dry_run or (strict and report.rejected > 0))
    if report.rejected:
        raise typer.Exit(CHECK_FAILED)


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise InvalidInput(
            f"{file}: expected a file that can be read, found {error.strerror}"
        ) from error


def _show_import(name: str, report: ImportReport, dry_run: bool) -> None:
    say(f"{name} ({report.format}){': checked, nothing written' if dry_run else ''}")
    show_facts(
        {
            "read": report.read,
            "imported": report.imported,
            "duplicates": report.duplicates,
            "rejected": report.rejected,
        }
    )
    if shown := report.errors[:SHOWN_ERRORS]:
        show_table((">Line", "Not taken because"), ((e.line, e.reason) for e in shown))
    if report.rejected > len(shown):
        say(f"... and {report.rejected - len(shown)} more; `--json` lists them.")
    if report.contradictions:
        show_table((">Line", "Contradiction"), ((e.line, e.reason) for e in report.contradictions))


app.command("export")(pairs_export.export_pairs)


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
