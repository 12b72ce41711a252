"""llm-d: what its controller writes about an InferenceModelRewrite."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fakes.kubernetes.cluster import SimulatedCluster


def reconcile(cluster: SimulatedCluster) -> None:
    """Accept each rewrite whose pool is there."""
    pools = {
        (pool["metadata"]["namespace"], pool["metadata"]["name"])
        for pool in cluster.all("inferencepools")
    }
    for rewrite in cluster.all("inferencemodelrewrites"):
        metadata = rewrite["metadata"]
        name = rewrite["spec"]["poolRef"]["name"]
        found = (metadata["namespace"], name) in pools and metadata["name"] not in cluster.unready
        old = {c["type"]: c for c in rewrite.get("status", {}).get("conditions", [])}
        condition = {
            "type": "Accepted",
            "status": "True" if found else "False",
            "reason": "Accepted" if found else "PoolNotFound",
            "message": "" if found else f"InferencePool {name} was not found",
            "observedGeneration": metadata["generation"],
            "lastTransitionTime": old.get("Accepted", {}).get(
                "lastTransitionTime", metadata["creationTimestamp"]
            ),
        }
        cluster.change(rewrite, status={"conditions": [condition]})
