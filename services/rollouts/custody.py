"""The signed steps of rollouts that belong to a receipt: how its adapter came to answer."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from services.attestation.bundle import MOST_STATEMENTS
from services.attestation.bundling import Custody, Further
from services.attestation.receipts import ReceiptFacts
from services.attestation.strict import from_base64, read_json
from services.db import Database
from services.rollouts.driving import store as drives
from services.rollouts.store import RolloutRow


def custody_of(db: Database) -> Custody:
    """What finds those steps in a database."""

    def find(facts: ReceiptFacts) -> Sequence[Further]:
        if facts.adapter_digest is None:
            return ()
        brought_in = (
            select(RolloutRow.id)
            .where(RolloutRow.tenant_id == facts.tenant_id, RolloutRow.candidate == facts.served)
            .order_by(RolloutRow.id)
        )
        found: list[Further] = []
        with db.read() as session:
            for rollout_id in session.scalars(brought_in).all():
                for seq, _digest, envelope in drives.statements(session, rollout_id):
                    name = f"rollout {rollout_id}, step {seq}"
                    found.append(Further(name, envelope, f"rollout:{rollout_id}"))
        mine = [one for one in found if _is_about(one, facts.adapter_digest)]
        return mine[-MOST_STATEMENTS:]

    return find


def _is_about(one: Further, digest: str) -> bool:
    """Whether a step speaks of these weights: a name alone is no evidence."""
    statement = read_json(from_base64(one.envelope["payload"], "statement"), "statement")
    return any(subject["digest"]["sha256"] == digest for subject in statement["subject"])
