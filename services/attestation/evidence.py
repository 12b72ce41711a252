"""The parts of evidence put together from the settings: one value for `bootstrap`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from services.attestation.bundling import Bundles, FindStatements
from services.attestation.housekeeping import Housekeeping
from services.attestation.keys import PURPOSES, Keyring
from services.attestation.notes import note_opener
from services.attestation.service import Receipts
from services.attestation.signers import KeyService
from services.attestation.signing_keys import SigningKeys
from services.attestation.timestamps import Timestamps, load_roots
from services.audit.outside import OutsideCopies, place_of
from services.audit.proving import Proofs
from services.audit.retention.service import Retention
from services.audit.retention.vault import Vault
from services.audit.service import AuditLog
from services.db import Database
from services.settings import Settings


@dataclass(frozen=True)
class Evidence:
    """What shows that the log, its keys and its receipts are what they say."""

    proofs: Proofs
    outside: OutsideCopies
    timestamps: Timestamps
    signing_keys: SigningKeys
    bundles: Bundles
    retention: Retention
    housekeeping: Housekeeping


def keyring_of(settings: Settings) -> Keyring:
    """The signing keys as the settings place them: in a folder, or some in a key service."""
    if not settings.key_service_url:
        return Keyring(settings.keys_dir)
    asked = settings.key_service_purposes.split(",")
    return Keyring(
        settings.keys_dir,
        service=KeyService(settings.key_service_url, settings.key_service_token),
        served=tuple(purpose for purpose in PURPOSES if purpose in asked),
    )


def receipts_of(db: Database, settings: Settings, keyring: Keyring) -> Receipts:
    """The issued receipts; time stamps of bundles are held against the settings' roots.

    Raises:
        WrongConfiguration: The file of roots cannot be read.
    """
    roots = load_roots(Path(settings.timestamp_roots)) if settings.timestamp_roots else []
    return Receipts(db, keyring, roots=roots)


def evidence_of(
    db: Database,
    settings: Settings,
    audit: AuditLog,
    keyring: Keyring,
    receipts: Receipts,
    *,
    origin: str,
    custody: FindStatements = lambda _facts: (),
) -> Evidence:
    """All parts over one database.

    Args:
        origin: Name of the log in checkpoints.
        custody: Finds the further statements of a receipt.
    """
    proofs = Proofs(db)
    outside = OutsideCopies(
        db,
        proofs,
        place_of(settings.checkpoint_copy, settings.checkpoint_copy_token),
        origin=origin,
        open_note=note_opener(keyring, origin),
    )
    timestamps = Timestamps(db, settings.timestamp_url, roots=receipts.roots)
    signing_keys = SigningKeys(db, keyring)
    retention = Retention(db, Vault(settings.keys_dir))
    return Evidence(
        proofs=proofs,
        outside=outside,
        timestamps=timestamps,
        signing_keys=signing_keys,
        bundles=Bundles(db, receipts, audit, proofs, timestamps, keyring, custody),
        retention=retention,
        housekeeping=Housekeeping(
            proofs,
            outside,
            timestamps,
            signing_keys,
            retention,
            stamp_every=timedelta(minutes=settings.timestamp_every_min),
        ),
    )
