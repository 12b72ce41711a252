"""`param verify`, `param cost`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.cli.opened import actor, opened
from console.cli.output import AsJson, dollars, plain, print_json, say, show_facts, show_table
from console.exit_status import CHECK_FAILED
from services.errors import InvalidInput, VerificationFailed

if TYPE_CHECKING:
    from services.attestation.receipts import VerifiedReceipt
    from services.metering.models import PriceTable

cost = typer.Typer()

MAX_FILE_BYTES = 16 << 20


def verify(
    file: Annotated[Path, typer.Argument(help="A receipt or a bundle as the gateway gives it.")],
    jwks: Annotated[
        str | None,
        typer.Option(help="File or URL of the trusted keys; this installation's own without."),
    ] = None,
    request: Annotated[
        Path | None, typer.Option(help="The request's body, to check that it was this one.")
    ] = None,
    response: Annotated[
        Path | None, typer.Option(help="The response's body, to check that it was this one.")
    ] = None,
    timestamp_roots: Annotated[
        Path | None,
        typer.Option(help="PEM file of the authorities that a time stamp must lead to."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a receipt or a proof bundle, offline.

    Needs neither database nor network; exit status 1 tells that the receipt does not hold.
    """
    from services.attestation.files import read_file
    from services.attestation.timestamps import load_roots

    try:
        document = read_file(_receipt_in(read_bytes(file)))
        found = document.verify(
            trusted_keys(jwks),
            request=read_bytes(request) if request else None,
            response=read_bytes(response) if response else None,
            roots=load_roots(timestamp_roots) if timestamp_roots else (),
        )
    except VerificationFailed as error:
        if as_json:
            print_json({"ok": False, "error": error.message, "checks": []})
        raise
    if as_json:
        print_json({"ok": found.holds} | plain(found))
    else:
        _show_verified(found)
    if not found.holds:
        raise typer.Exit(CHECK_FAILED)


def _receipt_in(raw: bytes) -> bytes:
    """The receipt itself, where it is in what `param demo --json` printed."""
    if b'"ok"' not in raw:
        return raw
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return raw  # The reader of receipts says what is wrong with it.
    is_demo = isinstance(found, dict) and isinstance(found.get("ok"), bool)
    inner = found.get("receipt") if is_demo else None
    return json.dumps(inner).encode() if isinstance(inner, dict) else raw


def _show_verified(found: VerifiedReceipt) -> None:
    show_table(
        ("", "Check", "Detail"),
        (("✓" if check.ok else "✗", check.name, check.detail) for check in found.checks),
    )
    for open_question in found.not_established:
        say(f"Not established: {open_question}")
    say(f"Signed by {found.kid}")


def trusted_keys(jwks: str | None) -> Any:
    """The key set that an option names, or this installation's own public keys.

    Raises:
        InvalidInput: There is none.
        Unavailable: The address does not give one.
        VerificationFailed: It cannot be read in one way only.
    """
    from services.attestation.strict import read_json

    if jwks is None:
        return _own_keys()
    if jwks.startswith(("http://", "https://")):
        return read_json(_fetched(jwks), "key set")
    return read_json(read_bytes(Path(jwks)), "key set")


def _own_keys() -> Any:
    """What verifies makes nothing: a key that a service holds would be replaced by a new one."""
    from services.attestation.jwks import public_jwks
    from services.settings import load

    keys_dir = load().keys_dir
    found = public_jwks(keys_dir)
    if not found["keys"]:
        raise InvalidInput(
            f"--jwks: expected the trusted keys, found none, and {keys_dir} has none either"
        )
    return found


def _fetched(url: str) -> bytes:
    import httpx

    from services.errors import Unavailable

    try:
        return httpx.get(url, timeout=10).raise_for_status().content
    except httpx.HTTPError as error:
        raise Unavailable(f"--jwks {url}: expected a JSON Web Key Set, found {error}") from error


def read_bytes(path: Path) -> bytes:
    """A file that was named on the command line.

    Raises:
        InvalidInput: It cannot be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            found = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(
            f"{path}: expected a file that can be read, found {error.strerror}"
        ) from error
    if len(found) > MAX_FILE_BYTES:
        raise InvalidInput(f"{path}: expected at most {MAX_FILE_BYTES:,} bytes, found more")
    return found


@cost.command("report")
def report(
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Id of the tenant.")],
    days: Annotated[int, typer.Option(min=1, max=3660, help="The last so many days.")] = 30,
    as_json: AsJson = False,
) -> None:
    """What a tenant's answers cost, by day, model and arm."""
    until = datetime.now(UTC)
    with opened() as services:
        services.tenants.get(actor(), tenant)
        found = services.metering.report(
            actor(), tenant, since=until - timedelta(days=days), until=until
        )
    if as_json:
        print_json(found)
        return
    show_facts(
        {
            "Requests": found.requests,
            "Prompt tokens": found.prompt_tokens,
            "Completion tokens": found.completion_tokens,
            "Cost (USD)": dollars(found.total_micro),
        }
    )
    for what, lines in (("Model", found.by_model), ("Arm", found.by_arm), ("Day", found.by_day)):
        if lines:
            show_table(
                (what, ">Requests", ">In", ">Out", ">USD"),
                (
                    (line.name, line.requests, line.prompt_tokens, line.completion_tokens,
                     dollars(line.cost_micro))
                    for line in lines
                ),
            )  # fmt: skip


@cost.command("prices")
def prices(
    new: Annotated[
        Path | None,
        typer.Option("--set", help="JSON file of all prices; makes a new version of the table."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What tokens cost from now on; requests that were answered keep the price they had."""
    from services.metering.price_files import read_prices

    wanted = None if new is None else read_prices(read_bytes(new))
    with opened() as services:
        if wanted is not None:
            services.metering.add_prices(actor(), wanted)
        table = services.metering.prices_now()
    if as_json:
        print_json(table)
        return
    _show_prices(table)


def _show_prices(table: PriceTable) -> None:
    show_facts({"Version": table.version, "Since": table.created_at, "Set by": table.created_by})
    show_table(
        ("Model", ">USD per million prompt tokens", ">USD per million answer tokens"),
        (
            (
                pattern,
                dollars(price.prompt_micro_per_mtok),
                dollars(price.completion_micro_per_mtok),
            )
            for pattern, price in table.ordered()
        ),
    )
