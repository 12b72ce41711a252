"""What the configuration says of a cluster is refused at the start where it cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest

from services import settings
from services.errors import WrongConfiguration
from services.training.manifests import place_of

WHOLE = {
    "PARAM_KUBECONFIG": "/etc/kubeconfig",
    "PARAM_CLUSTER_IMAGE": "registry.example/param:1",
    "PARAM_CLUSTER_VOLUME": "param-home",
}


def load(folder: Path, **variables: str) -> settings.Settings:
    return settings.load({"PARAM_HOME": str(folder), **variables}, directory=folder)


def test_a_place_is_what_the_variables_say(tmp_path: Path) -> None:
    more = {
        "PARAM_CLUSTER_HOME": "/home/param",
        "PARAM_CLUSTER_GPUS": "2",
        "PARAM_CLUSTER_NODES": "3",
    }
    place = place_of(load(tmp_path, **WHOLE, **more))
    assert (place.image, place.volume, place.gpus) == ("registry.example/param:1", "param-home", 2)
    assert place.nodes == 3
    assert place.inside(tmp_path / "runs" / "r") == "/home/param/runs/r"
    assert place_of(load(tmp_path, **WHOLE)).pod_home == tmp_path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PARAM_KUBECONFIG": ""}, "PARAM_KUBECONFIG: expected it beside PARAM_CLUSTER_IMAGE"),
        ({"PARAM_CLUSTER_VOLUME": ""}, "PARAM_CLUSTER_VOLUME: expected it beside"),
        ({"PARAM_CLUSTER_IMAGE": ""}, "PARAM_CLUSTER_IMAGE: expected it beside"),
        ({"PARAM_CLUSTER_QUEUE": "Mine!"}, "PARAM_CLUSTER_QUEUE: expected a name"),
        ({"PARAM_CLUSTER_MEMORY": "lots"}, "PARAM_CLUSTER_MEMORY: expected a quantity"),
        ({"PARAM_CLUSTER_GPUS": "-1"}, "PARAM_CLUSTER_GPUS: expected a whole number"),
        ({"PARAM_CLUSTER_NODES": "0"}, "PARAM_CLUSTER_NODES: expected a whole number"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(
    tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    with pytest.raises(WrongConfiguration, match=words):
        load(tmp_path, **(WHOLE | changes))
