"""A change of an object that proves itself: schema check, dry run, patch, evidence.

The order matters. The cluster's own schema tells, before anything is sent, what a lenient or
"minimal" server would drop or store without a word. The dry run passes every webhook. Its result
must hold what was asked for: a server that answers 200 and keeps nothing is found out there. The
patch tests the object's identity and generation, so it changes what was read or nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from services.clusters.connection import Cluster, Operations
from services.clusters.kinds import Kind
from services.clusters.refusals import ClusterRefused

GENERATION = "/metadata/generation"


def carry_out(
    cluster: Cluster,
    kind: Kind,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    operations: Operations,
) -> dict[str, Any]:
    """Bring an object from `before` to `after`.

    Args:
        before: The object as it was read.
        after: The object as it shall be; only its `spec` counts.
        operations: The JSON Patch that does it, without the tests of identity.

    Returns:
        Evidence for a signed history: JSON without floats or secrets.

    Raises:
        ClusterRefused: The cluster does not know a field, refuses the change, or would not keep
            what was asked for.
        ObjectChanged: The object is no longer the one in `before`.
        ClusterUnavailable: The cluster does not answer or does not let us.
    """
    metadata = before["metadata"]
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    where = f"{kind.kind} {namespace}/{name}"
    _check_schema(cluster, kind, after, where)
    patch = [
        {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
        {"op": "test", "path": GENERATION, "value": metadata["generation"]},
        *operations,
    ]
    rehearsed = cluster.patch(kind, namespace, name, patch, dry_run=True)
    _check_kept(rehearsed.thing, after, where, "a dry run")
    written = cluster.patch(kind, namespace, name, patch, dry_run=False)
    _check_kept(written.thing, after, where, "the change")
    return {
        "object": f"{kind.api_version} {where}",
        "uid": metadata["uid"],
        "patch": recorded(patch),
        "spec_sha256_before": spec_sha256(before),
        "spec_sha256_after": spec_sha256(written.thing),
        "generation": str(written.thing["metadata"].get("generation", "")),
        "resource_version": str(written.thing["metadata"].get("resourceVersion", "")),
        "warnings": list(written.warnings),
    }


def spec_sha256(thing: Mapping[str, Any]) -> str:
    """Digest of an object's specification, over its JSON with sorted keys."""
    text = json.dumps(thing.get("spec", {}), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def recorded(value: Any, *, within_env: bool = False) -> Any:
    """What may go into a history that is signed and kept: no variable's value, no float."""
    if isinstance(value, Mapping):
        return {
            name: "(not recorded)"
            if within_env and name == "value"
            else recorded(item, within_env=name == "env")
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [recorded(item, within_env=within_env) for item in value]
    return str(value) if isinstance(value, float) else value


def pointer(*parts: str | int) -> str:
    """A JSON Pointer of the parts of a path (RFC 6901)."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def missing(found: Any, asked: Any, path: str = "spec") -> str | None:
    """Where `found` does not hold what was asked for; None where it does.

    A server may add defaults anywhere; what was asked for must be there, lists in full length.
    """
    if isinstance(asked, Mapping):
        if not isinstance(found, Mapping):
            return path
        for name, value in asked.items():
            if name not in found:
                return f"{path}.{name}"
            if (gap := missing(found[name], value, f"{path}.{name}")) is not None:
                return gap
        return None
    if isinstance(asked, list):
        if not isinstance(found, list) or len(found) != len(asked):
            return path
        for number, (one, other) in enumerate(zip(found, asked, strict=True)):
            if (gap := missing(one, other, f"{path}[{number}]")) is not None:
                return gap
        return None
    return None if found == asked else path


def _check_schema(cluster: Cluster, kind: Kind, after: Mapping[str, Any], where: str) -> None:
    schema = cluster.schema(kind)
    if schema is None:
        raise ClusterRefused(f"{where}: {kind.full_name} {kind.version} is not installed there")
    if problems := schema.problems({"spec": after["spec"]}):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ClusterRefused(f"{where}: {problems[0]}{more}")


def _check_kept(thing: Mapping[str, Any], after: Mapping[str, Any], where: str, when: str) -> None:
    if (gap := missing(thing.get("spec"), after["spec"])) is not None:
        raise ClusterRefused(
            f"{where}: {when} was answered with success, but {gap} is not what was asked for; "
            "this cluster would not do it"
        )
