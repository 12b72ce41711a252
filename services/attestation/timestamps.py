"""RFC 3161 time stamps on signed checkpoints: what was there at the latest when.

The signer's own clock is a claim. An authority that signs the digest of a checkpoint's note
shows that the checkpoint, and with it every entry below it, existed by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from cryptography.x509 import Certificate, load_pem_x509_certificates
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)
from sqlalchemy import Select, select

from services.attestation.der import stamped_at
from services.attestation.store import TimestampRow
from services.attestation.words import Refused
from services.audit.models import Checkpoint
from services.db import Clock, Database, utcnow
from services.errors import Unavailable, VerificationFailed, WrongConfiguration

TIMEOUT_S = 10.0
MAX_RESPONSE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Stamp:
    """What an authority said about one checkpoint.

    Attributes:
        size: Entries of the checkpoint.
        authority: Its address.
        response: TimeStampResp in DER, as `openssl ts -verify -in` reads it.
        said_at: The authority's time.
    """

    size: int
    authority: str
    response: bytes
    said_at: datetime


class Timestamps:
    """Asks an authority for time stamps, and keeps them.

    Args:
        db: Where they are kept.
        url: The authority's address; empty for none.
        roots: Certificates that its own must lead to; without them its signature is not checked.
        clock: Gives the present time.
    """

    def __init__(
        self,
        db: Database,
        url: str = "",
        *,
        roots: Sequence[Certificate] = (),
        clock: Clock = utcnow,
    ) -> None:
        self._db = db
        self.url = url
        self.roots = tuple(roots)
        self._clock = clock

    def stamp(self, checkpoint: Checkpoint) -> Stamp | None:
        """Have a checkpoint stamped, unless it is already.

        Returns:
            The stamp; None where no authority is set.

        Raises:
            Unavailable: The authority does not answer.
            VerificationFailed: Its answer is none to what was asked, or its certificate leads
                elsewhere.
        """
        if not self.url:
            return None
        kept = self.of(checkpoint.size)
        if kept is not None:
            return kept
        note = checkpoint.note.encode()
        request = TimestampRequestBuilder().data(note).hash_algorithm(HashAlgorithm.SHA256).build()
        response = self._ask(request.as_bytes())
        said_at = check_stamp(response, note, roots=self.roots, nonce=request.nonce)
        with self._db.write() as session:
            if session.get(TimestampRow, (checkpoint.size, self.url)) is None:
                session.add(
                    TimestampRow(
                        size=checkpoint.size,
                        authority=self.url,
                        response=response,
                        said_at=said_at,
                        at=self._clock(),
                    )
                )
        return Stamp(checkpoint.size, self.url, response, said_at)

    def of(self, size: int) -> Stamp | None:
        """The stamp of one checkpoint, by whichever authority came first."""
        return self._first(select(TimestampRow).where(TimestampRow.size == size))

    def covering(self, seq: int) -> Stamp | None:
        """The earliest stamp of a checkpoint that an entry is in."""
        return self._first(select(TimestampRow).where(TimestampRow.size >= seq))

    def newest(self) -> Stamp | None:
        """The stamp of the largest checkpoint."""
        with self._db.read() as session:
            row = session.scalar(select(TimestampRow).order_by(TimestampRow.size.desc()).limit(1))
            return None if row is None else _stamp(row)

    def _first(self, chosen: Select[TimestampRow]) -> Stamp | None:
        ordered = chosen.order_by(TimestampRow.size, TimestampRow.at).limit(1)
        with self._db.read() as session:
            row = session.scalar(ordered)
            return None if row is None else _stamp(row)

    def _ask(self, request: bytes) -> bytes:
        import httpx

        name = self.url.partition("?")[0]
        headers = {"content-type": "application/timestamp-query"}
        try:
            answer = httpx.post(self.url, content=request, headers=headers, timeout=TIMEOUT_S)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(
                f"time-stamping authority {name}: expected an answer, found {type(error).__name__}"
            ) from error
        if len(answer.content) > MAX_RESPONSE_BYTES:
            raise VerificationFailed(
                f"time-stamping authority {name}: expected at most {MAX_RESPONSE_BYTES} bytes, "
                f"found {len(answer.content)}"
            )
        return answer.content


def check_stamp(
    response: bytes,
    note: bytes,
    *,
    roots: Sequence[Certificate] = (),
    nonce: int | None = None,
) -> datetime:
    """The time that a stamp gives a note.

    Args:
        response: TimeStampResp in DER.
        note: The exact bytes that were stamped.
        roots: Certificates that the authority's must lead to, looked at as of the stamp's time;
            without them only the digest is compared.
        nonce: What the question held, where the answer is fresh.

    Raises:
        VerificationFailed: It is no such response, was not granted, is about other bytes, or its
            signature does not lead to a root.
    """
    said_at = stamped_at(response, sha256(note).digest())
    if not roots and nonce is None:
        return said_at
    found = _decoded(response)
    if nonce is not None and found.tst_info.nonce != nonce:
        raise Refused("stamp.nonce", "time stamp")
    if roots:
        builder = VerifierBuilder(nonce=nonce)
        for root in roots:
            builder = builder.add_root_certificate(root)
        try:
            builder.build().verify_message(found, note)
        except (VerificationError, ValueError) as error:
            raise Refused("stamp.root", "time stamp") from error
    return said_at


def load_roots(path: Path) -> list[Certificate]:
    """The certificates of a PEM file.

    Raises:
        WrongConfiguration: There is no such file, or it holds none.
    """
    try:
        return load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise WrongConfiguration(
            f"{path}: expected certificates of time-stamping authorities in PEM, found none"
        ) from error


def _decoded(response: bytes) -> TimeStampResponse:
    try:
        found = decode_timestamp_response(response)
        _ = found.tst_info.nonce  # parsed only now
    except ValueError as error:
        raise Refused("stamp.der", "time stamp") from error
    return found


def _stamp(row: TimestampRow) -> Stamp:
    return Stamp(row.size, row.authority, row.response, row.said_at)
