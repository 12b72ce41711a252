"""Receipts and key sets as files: what the command line verifies offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.attestation.keys import public_jwks
from services.attestation.receipts import VerifiedReceipt, verify
from services.attestation.strict import MAX_BYTES, exact_keys, read_json
from services.errors import InvalidInput, NotFound, VerificationFailed


def read_document(data: bytes) -> tuple[Any, bytes | None]:
    """The envelope and, where it is there, the salt of a receipt document.

    Args:
        data: JSON of either a bare DSSE envelope or `{"receipt_id", "envelope", "salt"}`, the
            salt being 64 hex digits or null.

    Raises:
        VerificationFailed: It is neither.
    """
    found = read_json(data, "receipt file")
    if not isinstance(found, dict) or "envelope" not in found:
        return found, None
    fields = {"salt": None, **found}
    exact_keys(fields, ("receipt_id", "envelope", "salt"), "receipt file")
    salt = fields["salt"]
    if salt is None:
        return fields["envelope"], None
    try:
        raw = bytes.fromhex(salt)
    except (TypeError, ValueError):
        raw = b""
    if len(raw) != 32 or raw.hex() != salt:
        raise VerificationFailed("receipt file: expected a salt of 64 hex digits, found another")
    return fields["envelope"], raw


def verify_file(
    path: Path,
    jwks: Any,
    *,
    request: bytes | None = None,
    response: bytes | None = None,
    salt: bytes | None = None,
) -> VerifiedReceipt:
    """Check a receipt file without database or network.

    Args:
        path: See `read_document` for the two forms.
        jwks: Trusted keys; see `load_jwks`.
        request: The exact bytes that were asked, to compare; likewise `response`.
        salt: Used instead of the file's.

    Raises:
        NotFound: There is no such file.
        VerificationFailed: Form, signature or key do not hold.
    """
    data = _read(path)
    envelope, own_salt = read_document(data)
    found = verify(envelope, jwks, request=request, response=response, salt=salt or own_salt)
    stated = found.statement["predicate"]["receiptId"]
    document = read_json(data, "receipt file")
    if document.get("receipt_id", stated) != stated:
        raise VerificationFailed(
            f"receipt file: expected the signed receipt id {stated!r}, found another beside it"
        )
    return found


def load_jwks(source: str | Path) -> Any:
    """A key set: from a JSON file, from a folder of keys, or from an http(s) URL.

    Raises:
        NotFound: There is no such file, or it cannot be fetched.
        InvalidInput: It is no JSON.
    """
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        data = _fetch(source)
    elif Path(source).is_dir():
        return public_jwks(Path(source))
    else:
        data = _read(Path(source))
    try:
        return read_json(data, "key set")
    except VerificationFailed as error:
        raise InvalidInput(str(error)) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotFound(f"{path}: expected a readable file, found {error.strerror}") from error


def _fetch(url: str) -> bytes:
    import httpx

    try:
        answer = httpx.get(url, timeout=10, follow_redirects=False).raise_for_status()
    except httpx.HTTPError as error:
        raise NotFound(f"{url}: expected a key set, found {error}") from error
    return answer.content
