"""The backends that a cluster offers."""

from __future__ import annotations

from services.clusters.connection import Cluster
from services.rollouts.backends import SplitBackend
from services.rollouts.backends.kserve_knative import KServeKnative
from services.rollouts.backends.kserve_standard import KServeStandard
from services.rollouts.backends.llmd import LlmdRewrite


def cluster_backends(cluster: Cluster) -> dict[str, SplitBackend]:
    """By name; nothing is asked of the cluster yet."""
    found: list[SplitBackend] = [
        KServeStandard(cluster),
        KServeKnative(cluster),
        LlmdRewrite(cluster),
    ]
    return {one.name: one for one in found}
