"""Fixtures for tests that need a cluster; import them in a `conftest.py`.

`simulated` is the simulated server, `cluster` our connection to it. `any_cluster` is a connection
to the simulated server and, where `PARAM_TEST_KUBECONFIG` names one, to a real cluster too: what
takes it are the contract tests that hold both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest

from services.clusters.connection import Cluster
from services.clusters.refusals import ClusterUnavailable
from tests.fakes.kubernetes.server import SimulatedApiServer

REAL = os.environ.get("PARAM_TEST_KUBECONFIG", "")
T = TypeVar("T")


@pytest.fixture
def simulated() -> Iterator[SimulatedApiServer]:
    with SimulatedApiServer() as server:
        yield server


@pytest.fixture
def cluster(simulated: SimulatedApiServer, tmp_path: Path) -> Cluster:
    return Cluster(str(simulated.kubeconfig(tmp_path)))


@dataclass(frozen=True)
class AnyCluster:
    """A cluster that a contract test runs on.

    Attributes:
        simulated: None where the cluster is real.
        suffix: Makes the names of this test's objects its own.
    """

    cluster: Cluster
    simulated: SimulatedApiServer | None
    namespace: str
    storage_uris: tuple[str, str]
    suffix: str

    def until(self, look: Callable[[], T], holds: Callable[[T], bool]) -> T:
        """Look until what is seen holds; the simulated controllers act at once."""
        deadline = time.monotonic() + (10 if self.simulated else 900)
        while True:
            found = look()
            if holds(found):
                return found
            assert time.monotonic() < deadline, f"still {found!r}"
            time.sleep(0.02 if self.simulated else 2)

    def insist(self, act: Callable[[], None]) -> None:
        """Act again and again until the cluster has followed."""

        def once() -> bool:
            try:
                act()
            except ClusterUnavailable:
                return False
            return True

        self.until(once, bool)


@pytest.fixture(params=["simulated", "real"] if REAL else ["simulated"])
def any_cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyCluster]:
    suffix = uuid4().hex[:6]
    if request.param == "real":
        namespace = os.environ.get("PARAM_TEST_NAMESPACE", "param-test")
        first = os.environ.get("PARAM_TEST_STORAGE_URI", "pvc://models/support-v1")
        second = os.environ.get("PARAM_TEST_STORAGE_URI_2", "pvc://models/support-v2")
        yield AnyCluster(Cluster(REAL), None, namespace, (first, second), suffix)
        return
    server: SimulatedApiServer = request.getfixturevalue("simulated")
    connection = Cluster(str(server.kubeconfig(tmp_path)))
    uris = ("pvc://models/support-v1", "pvc://models/support-v2")
    yield AnyCluster(connection, server, "prod", uris, suffix)
