"""A simulated cluster for every test that asks for one."""

from tests.fakes.kubernetes.fixtures import any_cluster, cluster, simulated

__all__ = ["any_cluster", "cluster", "simulated"]
