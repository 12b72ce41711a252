"""The custom resource definitions: real ones from the shared data, the Trainer's cut down here."""

from __future__ import annotations

import copy
import gzip
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support import SHARED_DATA, require

FOLDER = SHARED_DATA / "kserve"
OWN = Path(__file__).parent / "crds"


@cache
def load(plural: str) -> dict[str, Any]:
    """A definition by its plural name. Do not change what comes back."""
    own = OWN / f"{plural}.crd.yaml"
    if own.exists():
        text: str | bytes = own.read_bytes()
    else:
        shared = FOLDER / f"{plural}.crd.yaml.gz"
        require(shared.exists(), f"the CRD {shared.name} in shared/data/kserve")
        text = gzip.decompress(shared.read_bytes())
    found: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)
    return found


def minimal(crd: dict[str, Any]) -> dict[str, Any]:
    """The definition as a "minimal" installation has it: the spec takes anything."""
    changed = _opened(crd)
    for version in changed["spec"]["versions"]:
        version["schema"]["openAPIV3Schema"]["properties"]["spec"] = {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
        }
    return changed


def without(crd: dict[str, Any], *paths: str) -> dict[str, Any]:
    """The definition without some fields (`spec.canary`), as an older version has it."""
    changed = _opened(crd)
    for version in changed["spec"]["versions"]:
        for path in paths:
            *parents, last = path.split(".")
            at = version["schema"]["openAPIV3Schema"]
            for name in parents:
                properties = dict(at["properties"])
                properties[name] = dict(properties[name])
                at["properties"] = properties
                at = properties[name]
            at["properties"] = {k: v for k, v in at["properties"].items() if k != last}
    return changed


def _opened(crd: dict[str, Any]) -> dict[str, Any]:
    """A copy down to the schemas' first level: the rest is megabytes, and shared."""
    changed = {**crd, "spec": {**crd["spec"], "versions": []}}
    for version in crd["spec"]["versions"]:
        one = copy.copy(version)
        schema = dict(version["schema"]["openAPIV3Schema"])
        schema["properties"] = dict(schema["properties"])
        one["schema"] = {"openAPIV3Schema": schema}
        changed["spec"]["versions"].append(one)
    return changed
