"""What the gateway is built from."""

from __future__ import annotations

from typing import Protocol

from services.attestation.evidence import Evidence
from services.attestation.keys import Keyring
from services.attestation.service import Receipts
from services.audit.service import AuditLog
from services.db import Database
from services.guardrails.service import Guardrails
from services.metering.service import Metering
from services.operations.service import Operations
from services.registry.service import Registry
from services.rollouts.samples.service import Feedback
from services.rollouts.service import Rollouts
from services.settings import Settings
from services.tenants.service import Tenants


class Parts(Protocol):
    """The domains that the gateway stands on; `bootstrap.Services` is one of these."""

    @property
    def settings(self) -> Settings:
        """Configuration."""
        ...

    @property
    def db(self) -> Database:
        """The database."""
        ...

    @property
    def tenants(self) -> Tenants:
        """Keys and aliases."""
        ...

    @property
    def audit(self) -> AuditLog:
        """The log."""
        ...

    @property
    def evidence(self) -> Evidence:
        """Proofs, bundles, kept texts."""
        ...

    @property
    def keyring(self) -> Keyring:
        """Signing keys."""
        ...

    @property
    def receipts(self) -> Receipts:
        """Issued receipts."""
        ...

    @property
    def metering(self) -> Metering:
        """Prices and usage rows."""
        ...

    @property
    def operations(self) -> Operations:
        """Which tenants a second engine may answer."""
        ...

    @property
    def guardrails(self) -> Guardrails:
        """The tenants' policies."""
        ...

    @property
    def registry(self) -> Registry:
        """Adapters."""
        ...

    @property
    def rollouts(self) -> Rollouts:
        """Routes."""
        ...

    @property
    def feedback(self) -> Feedback:
        """What people thought of answers."""
        ...
