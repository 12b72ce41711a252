"""The kinds of objects that are read or written, as their addresses name them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind in one version.

    Attributes:
        group: API group; empty for the core group.
        plural: As addresses name it.
        kind: As objects name it.
        namespaced: Whether its objects lie in namespaces.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As objects name it, such as `batch/v1`."""
        return f"{self.group}/{self.version}".lstrip("/")

    @property
    def full_name(self) -> str:
        """As the definition of a custom kind is called."""
        return f"{self.plural}.{self.group}"


INFERENCE_SERVICE = Kind("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService")
LLM_SERVICE = Kind("serving.kserve.io", "v1alpha2", "llminferenceservices", "LLMInferenceService")
MODEL_REWRITE = Kind("llm-d.ai", "v1alpha2", "inferencemodelrewrites", "InferenceModelRewrite")
INFERENCE_POOL = Kind("inference.networking.k8s.io", "v1", "inferencepools", "InferencePool")
HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
TRAIN_JOB = Kind("trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob")
TRAINING_RUNTIME = Kind(
    "trainer.kubeflow.org",
    "v1alpha1",
    "clustertrainingruntimes",
    "ClusterTrainingRuntime",
    namespaced=False,
)
JOB = Kind("batch", "v1", "jobs", "Job")
WORKLOAD = Kind("kueue.x-k8s.io", "v1beta1", "workloads", "Workload")
LOCAL_QUEUE = Kind("kueue.x-k8s.io", "v1beta1", "localqueues", "LocalQueue")
DEFINITION = Kind(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
