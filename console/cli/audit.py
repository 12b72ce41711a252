"""`param audit`: the log, its checkpoints and proofs, and the kept texts of tenants."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from console.cli.evidence import read_bytes, trusted_keys
from console.cli.opened import actor, opened
from console.cli.output import AsJson, plain, print_json, say, show_facts, show_table
from services.errors import InvalidInput, VerificationFailed

audit = typer.Typer()
AnyTenant = Annotated[
    str | None, typer.Option("--tenant", "-t", help="Only this tenant; everything without.")
]
Keys = Annotated[
    str | None,
    typer.Option(help="File or URL of the trusted keys; this installation's own without."),
]
Out = Annotated[Path | None, typer.Option(help="File to write; standard output else.")]


@audit.command("verify")
def verify_log(
    file: Annotated[
        Path | None, typer.Argument(help="An export, checked offline; the live log without.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="A signed checkpoint that was kept elsewhere; may be given again."),
    ] = None,
    jwks: Keys = None,
    part: Annotated[bool, typer.Option(help="The file is one tenant's export.")] = False,
    as_json: AsJson = False,
) -> None:
    """Recompute the whole chain and compare it with every checkpoint, those outside included.

    Exit status 1 comes with the first entry that does not hold.
    """
    notes = [read_bytes(path).decode("utf-8", "replace") for path in checkpoint or []]
    try:
        if file is None:
            facts = _verified_here(notes)
        elif part:
            facts = _verified_part(file)
        else:
            facts = _verified_file(file, notes, jwks)
    except VerificationFailed as error:
        if as_json:
            print_json({"ok": False, "error": error.message})
        raise
    if as_json:
        print_json({"ok": True} | facts)
        return
    say("The log holds.")
    show_facts({name.replace("_", " ").capitalize(): value for name, value in facts.items()})


def _verified_here(notes: list[str]) -> dict[str, Any]:
    with opened() as services:
        services.audit.sequence()
        last = services.evidence.outside.last()
        if last is not None:
            notes = [*notes, last[1]]
        verified = services.audit.verify(outside=notes)
        services.evidence.outside.compare()
    facts: dict[str, Any] = plain(verified)
    return facts | {"compared_outside": len(notes)}


def _verified_file(file: Path, notes: list[str], jwks: str | None) -> dict[str, Any]:
    from services.attestation.bundle import ORIGIN
    from services.attestation.notes import opener_of
    from services.audit.exports import verify_export

    open_note = None
    if notes:
        keys = trusted_keys(jwks)
        open_note = opener_of(lambda: keys, ORIGIN)
    with _lines(file) as lines:
        found = verify_export(lines, outside=notes, origin=ORIGIN, open_note=open_note)
    facts: dict[str, Any] = plain(found)
    return facts | {"compared_outside": len(notes)}


def _verified_part(file: Path) -> dict[str, Any]:
    from services.audit.exports import verify_part

    with _lines(file) as lines:
        return {"entries": verify_part(lines), "complete": "cannot be shown for a part"}


def _lines(file: Path) -> Any:
    try:
        return file.open("rb")
    except OSError as error:
        raise InvalidInput(
            f"{file}: expected a file that can be read, found {error.strerror}"
        ) from error


@audit.command("tail")
def tail(
    tenant: AnyTenant = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """The latest entries, newest first."""
    with opened() as services:
        services.audit.sequence()
        entries = services.audit.tail(actor(), tenant, limit=limit)
    if as_json:
        print_json(entries)
        return
    show_table(
        (">Seq", "At", "Actor", "Action", "Subject", "Tenant"),
        ((e.seq, e.at, e.actor_name, e.action, e.subject, e.tenant_id) for e in entries),
        empty="The log is empty.",
    )


@audit.command("export")
def export(tenant: AnyTenant = None, out: Out = None, as_json: AsJson = False) -> None:
    """Write the log as JSON lines, which can be verified without this installation."""
    with opened() as services:
        services.audit.sequence()
        if out is None:
            services.audit.export(actor(), tenant, sys.stdout)
            return
        half = out.with_name(f".{out.name}.half")
        try:
            with half.open("w", encoding="utf-8") as stream:
                written = services.audit.export(actor(), tenant, stream)
            half.replace(out)
        except OSError as error:
            raise _unwritable(out, error) from error
        finally:
            half.unlink(missing_ok=True)
    if as_json:
        print_json({"entries": written, "file": out})
    else:
        say(f"{written} entries are in {out}")


@audit.command("checkpoint")
def checkpoint_now(out: Out = None, as_json: AsJson = False) -> None:
    """Sign what the log is now, as a note to be kept elsewhere."""
    with opened() as services:
        services.audit.sequence()
        made = services.audit.checkpoint()
        services.evidence.proofs.keep_blocks()
    if made is None:
        raise InvalidInput("audit log: expected an entry to sign a checkpoint over, found none")
    if out is not None:
        _write(out, made.note)
    if as_json:
        print_json(made)
    elif out is None:
        sys.stdout.write(made.note)
    else:
        say(f"The checkpoint of size {made.size} is in {out}")


@audit.command("proof")
def proof(
    seq: Annotated[int | None, typer.Option(min=1, help="An entry: proof that it is in.")] = None,
    first: Annotated[int | None, typer.Option(min=0, help="A size: proof of growth.")] = None,
    size: Annotated[
        int | None, typer.Option(min=0, help="Of the tree; the newest checkpoint's without.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove that an entry is in the log, or that the log of one size begins that of another."""
    del as_json  # A proof is a JSON document anyway; the option makes errors one too.
    if (seq is None) == (first is None):
        raise InvalidInput("proof: expected either --seq or --first")
    with opened() as services:
        proofs = services.evidence.proofs
        if seq is not None:
            print_json(proofs.inclusion(seq, size).document())
        elif first is not None:
            print_json(proofs.consistency(first, size).document())


@audit.command("bundle")
def bundle(
    receipt: Annotated[str, typer.Argument(help="Id of a receipt.")],
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Write the proof bundle of a receipt: everything that others need to check it."""
    with opened() as services:
        services.audit.sequence()
        found = services.evidence.bundles.make(actor(), receipt)
    if out is None:
        print_json(found)
        return
    _write(out, json.dumps(found, indent=1) + "\n")
    if as_json:
        print_json({"receipt": receipt, "file": out})
    else:
        say(f"The proof bundle is in {out}")


@audit.command("copy")
def copy(as_json: AsJson = False) -> None:
    """Do now what the gateway does by itself: copy the checkpoint out, have it stamped, clean up."""
    with opened() as services:
        services.audit.sequence()
        services.audit.checkpoint()
        problems = services.evidence.housekeeping.once()
        place = services.evidence.outside.newest_copy()
        stamp = services.evidence.timestamps.newest()
    facts = {
        "copied_size": None if place is None else place.size,
        "copied_to": None if place is None else place.place,
        "stamped_size": None if stamp is None else stamp.size,
        "stamped_at": None if stamp is None else stamp.said_at,
        "problems": problems,
    }
    if as_json:
        print_json(facts)
    else:
        show_facts({name.replace("_", " ").capitalize(): value for name, value in facts.items()})
    if problems:
        raise VerificationFailed("; ".join(problems.values()))


@audit.command("retention")
def retention(
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Id of the tenant.")],
    days: Annotated[
        int | None, typer.Option(min=0, max=3650, help="Keep texts so long; 0 keeps none.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Whether a tenant's requests and answers are kept, encrypted, and for how long."""
    with opened() as services:
        services.tenants.get(actor(), tenant)
        kept = services.evidence.retention
        if days is not None:
            kept.choose(actor(), tenant, days=days)
        choice, held = kept.choice(actor(), tenant), kept.kept(actor(), tenant)
    if as_json:
        print_json({"days": choice.days, "since": choice.since, "kept": held})
        return
    show_facts({"Days": choice.days, "Since": choice.since})
    show_table(
        ("Request", ">Bytes", "Kept", "Erased"),
        ((one.request_id, one.size, one.kept_at, one.erase_at) for one in held),
        empty="No texts are kept.",
    )


@audit.command("text")
def text(
    request: Annotated[str, typer.Argument(help="Id of a request.")],
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Id of the tenant.")],
    as_json: AsJson = False,
) -> None:
    """Show the kept texts of one request; doing so leaves an entry in the log."""
    del as_json  # What is shown are bodies in JSON, in one document with their times, anyway.
    with opened() as services:
        found = services.evidence.retention.read(actor(), tenant, request)
    print_json(
        {
            "request_id": found.request_id,
            "kept_at": found.kept_at,
            "request": found.request.decode("utf-8", "replace"),
            "response": found.response.decode("utf-8", "replace"),
        }
    )


def _write(out: Path, content: str) -> None:
    try:
        out.write_text(content, encoding="utf-8")
    except OSError as error:
        raise _unwritable(out, error) from error


def _unwritable(out: Path, error: OSError) -> InvalidInput:
    return InvalidInput(f"{out}: expected a file that can be written, found {error.strerror}")
