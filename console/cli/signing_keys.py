"""`param signing-keys`: what receipts, checkpoints and events are signed with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.cli.evidence import read_bytes
from console.cli.opened import actor, opened
from console.cli.output import AsJson, print_json, say, show_table
from services.errors import InvalidInput

app = typer.Typer()


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """All public keys: those in use, replaced and revoked."""
    with opened() as services:
        services.evidence.signing_keys.reconcile()
        found = services.evidence.signing_keys.list()
    if as_json:
        print_json(found)
        return
    show_table(
        ("Purpose", "Key", "From", "To", "Counts up to entry", "Reason"),
        (
            (one.purpose, one.kid, one.not_before, one.not_after or "in use",
             one.last_valid_index, one.revoked_reason)
            for one in found
        ),
    )  # fmt: skip


@app.command("rotate")
def rotate(
    purpose: Annotated[str, typer.Argument(help="receipt, checkpoint or event.")],
    key_file: Annotated[
        Path | None,
        typer.Option("--from", help="An Ed25519 key in PEM, made elsewhere; a fresh one without."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replace a key; what the old one signed goes on to verify."""
    from services.attestation.keys import PURPOSES, read_seed

    known = next((one for one in PURPOSES if one == purpose), None)
    if known is None:
        raise InvalidInput(f"purpose: expected {', '.join(PURPOSES)}, found {purpose[:40]!r}")
    seed = None if key_file is None else read_seed(read_bytes(key_file), str(key_file))
    with opened() as services:
        new = services.evidence.signing_keys.rotate(actor(), known, seed=seed)
    if as_json:
        print_json(new)
    else:
        say(f"{new.kid} signs {purpose}s from now on")


@app.command("revoke")
def revoke(
    kid: Annotated[str, typer.Argument(help="Id of the key.")],
    reason: Annotated[str, typer.Option(help="Why; everyone who verifies reads it.")],
    last_valid: Annotated[
        int | None,
        typer.Option(
            min=0, help="Last entry of the log that it may have signed for; the end without."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Declare that a key counts only up to an entry of the log; one in use is replaced first."""
    with opened() as services:
        services.audit.sequence()
        found = services.evidence.signing_keys.revoke(
            actor(), kid, reason=reason, last_valid_index=last_valid
        )
    if as_json:
        print_json(found)
    else:
        say(f"{found.kid} counts up to entry {found.last_valid_index} of the log")
