"""What a plan says about its target is checked before a cluster is asked."""

from __future__ import annotations

import pytest

from services.clusters.connection import Cluster
from services.errors import InvalidInput
from services.rollouts.backends.on_clusters import cluster_backends
from services.rollouts.backends.targets import (
    ASKED,
    NEEDED,
    planned_target,
    read_target,
    storage_uri,
    variant_of,
)
from tests.services.rollouts.backends.scenes import TARGET, rollout


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "expected a value for name"),
        ({"storage_uri": ""}, "expected a value for storage_uri"),
        ({"namespace": "../kube-system"}, "what Kubernetes takes as a name"),
        ({"name": "Support"}, "what Kubernetes takes as a name"),
        ({"storageUri": "x"}, "found the unknown 'storageUri'"),
    ],
)
def test_a_wrong_target_is_refused_in_words(changes: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_target({**TARGET, **changes}, "storage_uri")


def test_the_place_of_the_adapter_is_filled_in() -> None:
    target = read_target({**TARGET, "storage_uri": "s3://adapters/{adapter}/"}, "storage_uri")
    assert storage_uri(target, rollout()) == "s3://adapters/support-3fa2c1d09b7e/"


def test_a_variant_is_named_by_the_digest_of_its_adapter() -> None:
    assert variant_of("a-very-long-alias-of-somebody-0123456789ab") == "v-0123456789ab"
    with pytest.raises(InvalidInput, match="12 hex digits"):
        variant_of("support")


def test_the_backends_of_a_cluster_are_those_that_people_may_plan_with() -> None:
    known = set(cluster_backends(Cluster("in-cluster")))
    assert set(NEEDED) == set(ASKED) == known
    for name in known:
        assert {"namespace", "name", *NEEDED[name]} <= set(ASKED[name])


def test_a_plan_that_would_never_do_is_refused_before_anything_begins() -> None:
    where = {"namespace": "prod", "name": " support ", "storage_uri": ""}
    assert planned_target("gateway", {}) == {}
    assert planned_target("llmd", where) == {"namespace": "prod", "name": "support"}
    for backend, given, complaint in (
        ("kserve-standard", where, "expected a value for storage_uri"),
        ("llmd", {"name": "support"}, "expected a value for namespace"),
        ("gateway", where, "expected none"),
        ("istio", where, "expected one of gateway, kserve-standard"),
    ):
        with pytest.raises(InvalidInput, match=complaint):
            planned_target(backend, given)
