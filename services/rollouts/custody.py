"""The signed steps of rollouts that belong to an adapter: how it came to answer."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from services.attestation.bundle import MOST_STATEMENTS
from services.attestation.bundling import FindStatements, Further
from services.attestation.receipts import ReceiptFacts
from services.attestation.strict import from_base64, read_json
from services.db import Database
from services.registry.custody import Steps
from services.rollouts.driving import store as drives
from services.rollouts.store import RolloutRow


def steps_of(db: Database) -> Steps:
    """What finds the steps of the rollouts of an adapter, oldest first."""

    def find(tenant_id: str, adapter: str) -> Sequence[Further]:
        brought_in = (
            select(RolloutRow.id)
            .where(RolloutRow.tenant_id == tenant_id, RolloutRow.candidate == adapter)
            .order_by(RolloutRow.id)
        )
        found: list[Further] = []
        with db.read() as session:
            for rollout_id in session.scalars(brought_in).all():
                for seq, _digest, envelope in drives.statements(session, rollout_id):
                    name = f"rollout {rollout_id}, step {seq}"
                    found.append(Further(name, envelope, f"rollout:{rollout_id}"))
        return found

    return find


def custody_of(db: Database, stated: FindStatements = lambda _facts: ()) -> FindStatements:
    """What finds the statements of a receipt: those of its adapter, then the newest steps.

    Args:
        stated: Finds the former.
    """
    steps = steps_of(db)

    def find(facts: ReceiptFacts) -> Sequence[Further]:
        if facts.adapter_digest is None:
            return ()
        before = stated(facts)
        mine = [
            one
            for one in steps(facts.tenant_id, facts.served)
            if _is_about(one, facts.adapter_digest)
        ]
        return [*before, *mine[-(MOST_STATEMENTS - len(before)) :]]

    return find


def _is_about(one: Further, digest: str) -> bool:
    """Whether a step speaks of these weights: a name alone is no evidence."""
    statement = read_json(from_base64(one.envelope["payload"], "statement"), "statement")
    return any(subject["digest"]["sha256"] == digest for subject in statement["subject"])
