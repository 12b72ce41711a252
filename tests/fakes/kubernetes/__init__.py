"""A simulated Kubernetes API server on loopback, for the unmodified `kubernetes` client.

It speaks what an API server speaks as far as the product asks: discovery, GET, LIST, WATCH, POST,
PUT, PATCH in three forms, DELETE, `/status`, dry runs, field validation, `Status` bodies, warnings,
resource versions and generations; its schemas are the real CRDs. Around it are simulations of the
controllers that matter here (KServe, llm-d, Kubeflow Trainer, Kueue, Job, kubelet). It is a
simulation: that something works here proves that we speak the protocol, not that a cluster does
what its documentation says. `PARAM_TEST_KUBECONFIG` runs the same contract tests on a real one.

| module | what |
| --- | --- |
| `cluster`, `objects` | the objects, the way of a write through defaults, admission and validation, faults |
| `server` | HTTP |
| `schemas`, `patches`, `crds` | pruning, defaults, validation; patches; where the CRDs come from |
| `kserve`, `llmd`, `trainer`, `kubelet` | webhook rules and controllers |
"""

from tests.fakes.kubernetes.cluster import SimulatedCluster
from tests.fakes.kubernetes.objects import Fault
from tests.fakes.kubernetes.server import SimulatedApiServer

__all__ = ["Fault", "SimulatedApiServer", "SimulatedCluster"]
