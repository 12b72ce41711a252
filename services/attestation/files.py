"""Receipts and key sets as files: what the command line verifies offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.x509 import Certificate

from services.attestation.bundle import (
    MAX_BUNDLE_BYTES,
    Logged,
    is_bundle,
    read_bundle,
    read_salt,
    verify_bundle,
)
from services.attestation.jwks import public_jwks
from services.attestation.receipts import VerifiedReceipt, verify
from services.attestation.strict import MAX_BYTES, exact_keys, read_json
from services.attestation.words import Refused
from services.errors import InvalidInput, NotFound, VerificationFailed


@dataclass(frozen=True)
class Document:
    """A receipt as it travels: alone, with its salt, or in a proof bundle.

    Attributes:
        receipt_id: As it stands beside the envelope; not signed.
        bundle: The whole bundle; None for a receipt alone.
    """

    envelope: Any
    receipt_id: str | None = None
    salt: bytes | None = None
    bundle: dict[str, Any] | None = None

    def verify(
        self,
        jwks: Any,
        *,
        request: bytes | None = None,
        response: bytes | None = None,
        salt: bytes | None = None,
        roots: Sequence[Certificate] = (),
        logged: Logged | None = None,
    ) -> VerifiedReceipt:
        """Check it against keys that the caller trusts; see `receipts.verify` and `verify_bundle`.

        Raises:
            VerificationFailed: Form, signature or key do not hold, or another id stands beside
                the signed one.
        """
        if self.bundle is not None:
            return verify_bundle(
                self.bundle, jwks, request=request, response=response, salt=salt, roots=roots
            )
        found = verify(
            self.envelope,
            jwks,
            request=request,
            response=response,
            salt=salt or self.salt,
            logged=logged,
        )
        stated = found.statement["predicate"]["receiptId"]
        if self.receipt_id not in (None, stated):
            raise Refused("file.id", "receipt file")
        return found


def read_file(data: bytes) -> Document:
    """The receipt in these bytes: a proof bundle, a receipt document, or a bare DSSE envelope.

    Args:
        data: JSON of a bundle, of `{"receipt_id", "envelope", "salt"}`, the salt being 64 hex
            digits or null, or of the envelope alone.

    Raises:
        VerificationFailed: It is none of these.
    """
    most = MAX_BUNDLE_BYTES if b'"format"' in data else MAX_BYTES
    found = read_json(data, "receipt file", most=most)
    if is_bundle(found):
        bundle = read_bundle(data)
        return Document(bundle["receipt"], bundle=bundle)
    if not isinstance(found, dict) or "envelope" not in found:
        return Document(found)
    fields = {"salt": None, **found}
    exact_keys(fields, ("receipt_id", "envelope", "salt"), "receipt file")
    receipt_id = fields["receipt_id"]
    if not isinstance(receipt_id, str):
        raise Refused("text", "receipt file: receipt_id")
    return Document(fields["envelope"], receipt_id, read_salt(fields["salt"]))


def verify_file(
    path: Path,
    jwks: Any,
    *,
    request: bytes | None = None,
    response: bytes | None = None,
    salt: bytes | None = None,
    roots: Sequence[Certificate] = (),
) -> VerifiedReceipt:
    """Check a file without database or network.

    Args:
        path: See `read_file` for its forms.
        jwks: Trusted keys; see `load_jwks`.
        request: The exact bytes that were asked, to compare; likewise `response`.
        salt: Used instead of the file's.
        roots: Certificates that a time stamp must lead to.

    Raises:
        NotFound: There is no such file.
        VerificationFailed: Form, signature or key do not hold.
    """
    document = read_file(_read(path))
    return document.verify(jwks, request=request, response=response, salt=salt, roots=roots)


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
            return file.read(MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        raise NotFound(f"{path}: expected a readable file, found {error.strerror}") from error


def _fetch(url: str) -> bytes:
    import httpx

    try:
        answer = httpx.get(url, timeout=10, follow_redirects=False).raise_for_status()
    except httpx.HTTPError as error:
        raise NotFound(f"{url}: expected a key set, found {error}") from error
    return answer.content
