"""Objects that tests begin from."""

from __future__ import annotations

from typing import Any

from services.clusters.connection import Cluster
from services.clusters.kinds import INFERENCE_POOL, INFERENCE_SERVICE, MODEL_REWRITE

V1, V2 = "pvc://models/support-v1", "pvc://models/support-v2"
STABLE, CANDIDATE = "support-0123456789ab", "support-3fa2c1d09b7e"
MODE = "serving.kserve.io/deploymentMode"


def service(
    name: str = "support", mode: str = "Standard", *, uri: str = V1, **predictor: Any
) -> dict[str, Any]:
    """An InferenceService with one vLLM that serves one adapter."""
    annotations = {MODE: mode, "serving.kserve.io/autoscalerClass": "none"} if mode else {}
    model = {
        "modelFormat": {"name": "vLLM"},
        "storageUri": uri,
        "args": ["--model=/mnt/base", "--enable-lora", "--lora-modules=support=/mnt/models"],
        "env": [{"name": "HF_TOKEN", "value": "hf_not-a-real-token"}],
    }
    return {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.kind,
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"predictor": {"name": "v1", "minReplicas": 2, "model": model, **predictor}},
    }


def rewrite(name: str = "support", *targets: dict[str, Any]) -> dict[str, Any]:
    """An InferenceModelRewrite whose alias `support` means the stable adapter."""
    return {
        "apiVersion": MODEL_REWRITE.api_version,
        "kind": MODEL_REWRITE.kind,
        "metadata": {"name": name},
        "spec": {
            "poolRef": {"name": "llm-pool"},
            "rules": [
                {
                    "matches": [{"model": {"value": "sales"}}],
                    "targets": [{"modelRewrite": "sales-aaaaaaaaaaaa"}],
                },
                {
                    "matches": [{"model": {"type": "Exact", "value": "support"}}],
                    "targets": list(targets) or [{"modelRewrite": STABLE, "weight": 100}],
                },
            ],
        },
    }


def pool(name: str = "llm-pool") -> dict[str, Any]:
    return {
        "apiVersion": INFERENCE_POOL.api_version,
        "kind": INFERENCE_POOL.kind,
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": "vllm"}}},
    }


def put_service(cluster: Cluster, *, namespace: str = "prod", **parts: Any) -> dict[str, Any]:
    cluster.create(INFERENCE_SERVICE, namespace, service(**parts))
    name = parts.get("name", "support")
    return cluster.get(INFERENCE_SERVICE, namespace, name)


def put_rewrite(cluster: Cluster, *targets: dict[str, Any]) -> dict[str, Any]:
    cluster.create(INFERENCE_POOL, "prod", pool())
    cluster.create(MODEL_REWRITE, "prod", rewrite("support", *targets))
    return cluster.get(MODEL_REWRITE, "prod", "support")
