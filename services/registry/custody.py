"""The chain of custody of what people name: an adapter, or a receipt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from services.attestation.bundling import Further
from services.attestation.chain import Link, Origin, chain
from services.attestation.custody import Custody
from services.attestation.receipts import facts_of
from services.attestation.service import Receipts
from services.errors import InvalidInput, VerificationFailed
from services.registry.service import Registry
from services.tenants.models import Actor

Steps = Callable[[str, str], Sequence[Further]]
"""The signed steps of the rollouts that brought an adapter in, by tenant and adapter."""


class Chains:
    """Draws chains of custody.

    Args:
        custody: The statements.
        registry: Knows what made an adapter, also where nothing was stated of it.
        receipts: The issued receipts.
        steps: Finds the steps of rollouts.
    """

    def __init__(
        self, custody: Custody, registry: Registry, receipts: Receipts, steps: Steps
    ) -> None:
        self._custody = custody
        self._registry = registry
        self._receipts = receipts
        self._steps = steps

    def of(self, actor: Actor, reference: str, *, tenant_id: str | None = None) -> Link:
        """The chain of whatever a receipt's id or an adapter's name names.

        Args:
            tenant_id: Whose adapter; needed only where several tenants have one of this name.

        Raises:
            NotPermitted: The actor may not read the tenant's models.
            NotFound: There is neither within the actor's scope.
            InvalidInput: Several tenants have the adapter, and none was named.
        """
        if tenant_id is not None:
            return self.of_adapter(actor, tenant_id, reference)
        holders = self._registry.holders(actor, reference)
        if len(holders) > 1:
            raise InvalidInput(
                f"adapter {reference}: expected one tenant that has it, found "
                f"{', '.join(holders)}; name one"
            )
        if holders:
            return self.of_adapter(actor, holders[0], reference)
        return self.of_receipt(actor, reference)

    def of_adapter(self, actor: Actor, tenant_id: str, name: str) -> Link:
        """The chain of an adapter.

        Raises:
            NotPermitted: The actor may not read the tenant's models.
            NotFound: The tenant has no such adapter.
        """
        lineage = self._registry.lineage(actor, tenant_id, name)
        return chain(
            self._custody,
            actor,
            tenant_id,
            name=lineage.adapter,
            digest=lineage.digest,
            origins=[Origin(*one) for one in lineage.runs],
            steps=self._steps(tenant_id, lineage.adapter),
        )

    def of_receipt(self, actor: Actor, receipt_id: str) -> Link:
        """The chain of an answer: its receipt, and the adapter that gave it.

        Raises:
            NotPermitted: The actor may not read the models of the receipt's tenant.
            NotFound: There is no such receipt within the actor's scope.
        """
        stored = self._receipts.get(actor, receipt_id)
        root = Link("receipt", stored.receipt_id)
        try:
            found = self._receipts.verify(stored.envelope)
        except VerificationFailed as error:
            return replace(root, problem="receipt", detail=error.message)
        facts = facts_of(found.statement)
        if failed := [check.detail for check in found.checks if not check.ok]:
            root = replace(root, problem="receipt", detail=failed[0])
        root = replace(
            root,
            digest=facts.adapter_digest or facts.base_digest,
            entry=facts.audit_seq,
            facts={"served": facts.served, "arm": facts.arm},
        )
        if facts.adapter_digest is None:
            return root
        below = self.of_adapter(actor, stored.tenant_id, facts.served)
        if below.digest != facts.adapter_digest:
            below = replace(below, problem="other", detail="the receipt names other weights")
        return replace(root, parts=(below,))
