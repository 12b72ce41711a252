"""What a cluster can do for us: which kinds it has, and what the console's account may do there."""

from __future__ import annotations

from dataclasses import dataclass

from services.clusters.connection import Cluster
from services.clusters.kinds import (
    INFERENCE_SERVICE,
    JOB,
    LLM_SERVICE,
    MODEL_REWRITE,
    TRAIN_JOB,
    Kind,
)

ASKED: tuple[tuple[Kind, tuple[str, ...], str], ...] = (
    (INFERENCE_SERVICE, ("get", "patch"), "rollouts by kserve-standard and kserve-knative"),
    (MODEL_REWRITE, ("get", "patch"), "rollouts by llmd"),
    (LLM_SERVICE, ("get",), "rollouts by llmd: which adapters are loaded"),
    (TRAIN_JOB, ("get", "create", "delete"), "runs through Kubeflow Trainer"),
    (JOB, ("get", "create", "delete"), "runs without Kubeflow Trainer"),
)
_BUILT_IN = {JOB}


@dataclass(frozen=True)
class Finding:
    """One kind on one cluster.

    Attributes:
        kind: Its name with its version.
        purpose: What it is needed for here.
        is_installed: Whether the cluster knows it in that version.
        lacking: What the account would have to be granted.
    """

    kind: str
    purpose: str
    is_installed: bool
    lacking: tuple[str, ...]


def survey(cluster: Cluster, namespace: str) -> list[Finding]:
    """Ask the cluster about one namespace; changes nothing.

    Raises:
        ClusterUnavailable: It does not answer.
    """
    found = []
    for kind, verbs, purpose in ASKED:
        is_installed = kind in _BUILT_IN or cluster.schema(kind) is not None
        lacking = [verb for verb in verbs if not cluster.may(verb, kind, namespace)]
        name = f"{kind.full_name}/{kind.version}"
        found.append(Finding(name, purpose, is_installed, tuple(lacking)))
    return found
