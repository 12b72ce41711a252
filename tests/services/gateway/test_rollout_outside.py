"""Where a cluster splits an alias, the gateway asks for the alias, and claims to know no adapter."""

from __future__ import annotations

import base64
import json

from services.rollouts.models import Planned, RolloutState
from services.rollouts.moving import Change
from services.rollouts.policy import DEFAULT_SOURCE
from services.rollouts.samples import store as samples
from tests.services.gateway.conftest import SYSTEM, Edge, eventually

TARGET = {"namespace": "prod", "name": "legal", "storage_uri": "pvc://adapters/{adapter}"}
USERS = 12


def _asked_for(edge: Edge, key: str) -> set[str]:
    """The models that the engine is asked for on behalf of different users."""
    edge.engine.requests.clear()
    for user in range(USERS):
        answer = edge.chat(key, stream=user % 2 == 0, headers={"x-param-user": f"user-{user}"})
        assert answer.status_code == 200
    return {body["model"] for body in edge.engine.requests}


def test_a_split_on_a_cluster_is_not_split_again_here(edge: Edge) -> None:
    key, rollouts = edge.key("legal"), edge.services.rollouts
    stable, candidate = edge.adapter("legal", 1), edge.adapter("legal", 2)
    edge.services.tenants.set_alias(SYSTEM, "legal", "legal", stable)
    eventually(lambda: _asked_for(edge, key) == {stable})
    edge.engine.adapters["legal"] = "/mnt/models"  # As the cluster serves it.
    begun = rollouts.start(
        SYSTEM, "legal", "legal", candidate,
        plan=Planned(DEFAULT_SOURCE, "kserve-standard", TARGET),
    )  # fmt: skip
    assert not rollouts.routes()["legal", "legal"].is_split_outside, "nothing was changed there yet"
    moved = rollouts.follow(SYSTEM, begun, Change("rollout.preloading", RolloutState.PRELOADING, 0))
    rollouts.follow(SYSTEM, moved, Change("rollout.stepped", RolloutState.STEPPING, 50))
    eventually(lambda: _asked_for(edge, key) == {"legal"})
    answer = edge.chat(key)
    assert answer.headers["x-param-model"] == "legal"
    receipt = edge.services.receipts.get(SYSTEM, answer.headers["x-request-id"])
    found = json.loads(base64.b64decode(receipt.envelope["payload"]))["predicate"]
    assert found["model"]["served"] == "legal"
    assert found["model"]["adapter"] is None, "nobody here knows which adapter answered"
    with edge.services.db.read() as session:
        counted = samples.counts(session, begun.id, begun.started_at)
    assert set(counted.values()) == {0}, "and so no arm is charged with it"
    rollouts.rollback(SYSTEM, begun.id, reason="enough")
    assert rollouts.routes()["legal", "legal"].is_split_outside, "it is still served there"
    assert _asked_for(edge, key) == {"legal"}
    rollouts.start(SYSTEM, "legal", "legal", candidate, percent=100)
    eventually(lambda: _asked_for(edge, key) == {candidate})
