"""What deploy/kubernetes holds, and what its roles grant."""

from __future__ import annotations

from typing import Any

import yaml

from tests.support import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"


def documents() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            found.append((path.name, document))
    return found


def permissions(*roles: str) -> set[tuple[str, str]]:
    return {
        (verb, resource)
        for _, document in documents()
        if document["kind"] in {"Role", "ClusterRole"} and document["metadata"]["name"] in roles
        for rule in document["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }
