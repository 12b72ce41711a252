"""KServe in Standard mode: the list `spec.canary` of an InferenceService (KServe 0.20 and later).

The candidate gets a Deployment of its own beside the stable one; the share is a weight of the
HTTPRoute that KServe owns. The stable variant's model is copied for it, with another `storageUri`:
KServe refuses to promote a variant that has the stable one's.

    start     add spec.canary = [{trafficPercent, predictor: {name, model}}]
    step      test the name, replace trafficPercent
    promote   replace spec.predictor by the candidate's, remove spec.canary (no pod restarts)
    restore   put the captured spec.predictor and spec.canary back

The percentage in the status is the one asked for, even while a canary that is not ready is left
out of the route; the effective one is read from the route's weights.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from services.clusters.changes import carry_out, pointer
from services.clusters.connection import Cluster, Operations
from services.clusters.kinds import HTTP_ROUTE, INFERENCE_SERVICE
from services.clusters.refusals import ClusterForbids, ObjectChanged
from services.clusters.schema import Schema
from services.rollouts.backends import Applied, Capabilities, EffectiveSplit, Plan, Previous
from services.rollouts.backends.kserve import (
    MODE,
    about_model,
    about_permission,
    annotated_mode,
    check_same,
    holds,
    is_seen,
    mode_of,
    words,
)
from services.rollouts.backends.targets import Target, read_target, storage_uri, variant_of

CONTAINER = "kserve-container"
"""Name of the model's container: the full CRD asks for it in a canary, though not elsewhere."""


class KServeStandard:
    """Splits an InferenceService between two variants of its predictor.

    Args:
        cluster: The connection; nothing is asked of it before a method is called.
    """

    name = "kserve-standard"

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def probe(self, target: Mapping[str, str]) -> Capabilities:
        """See `SplitBackend`; a refusal says what would become of a patch here."""
        where = read_target(target, "storage_uri")
        schema = self._cluster.schema(INFERENCE_SERVICE)
        service = self._cluster.find(INFERENCE_SERVICE, where.namespace, where.name)
        notes: list[str] = ["each request is dealt anew: a conversation may change its variant"]
        refusals = _about_version(schema, notes)
        if service is None:
            refusals.append(f"there is no InferenceService {where.words}")
        else:
            refusals += _about_service(service, where)
            refusals += self._about_routing(service, where, notes)
        return Capabilities(
            backend=self.name,
            target=where.words,
            is_sticky=False,
            refusals=tuple(refusals),
            notes=tuple(notes),
        )

    def capture(self, plan: Plan) -> Previous:
        """See `SplitBackend`."""
        service = self._service(read_target(plan.target, "storage_uri"))
        return Previous(
            self.name,
            {
                "uid": service["metadata"]["uid"],
                "predictor": service["spec"]["predictor"],
                "canary": service["spec"].get("canary"),
            },
        )

    def effective(self, plan: Plan) -> EffectiveSplit:
        """See `SplitBackend`; the share is the sum of the route's weights for the candidate."""
        where = read_target(plan.target, "storage_uri")
        service = self._service(where)
        variant = variant_of(plan.rollout.candidate)
        status, seen = service.get("status", {}), is_seen(service)
        if service["spec"]["predictor"].get("name") == variant:
            ready = holds(status, "Ready")
            source = f"spec.predictor.name of {where.words}"
            return EffectiveSplit(100 if ready else None, ready, seen and ready, source)
        found = {one["name"]: one for one in status.get("canaryStatuses", [])}
        is_there = _canary(service, variant) is not None
        ready = is_there and bool(found.get(variant, {}).get("ready"))
        percent, source = self._routed(where, variant, ready, service)
        asked = plan.percent == percent and not plan.promote
        return EffectiveSplit(percent, ready, seen and asked and ready, source)

    def apply(self, plan: Plan) -> Applied:
        """See `SplitBackend`."""
        where = read_target(plan.target, "storage_uri")
        service = self._service(where)
        operations = _operations(service, plan, self._canary_for(service, plan, where))
        if not operations:
            return Applied(plan.percent, changed=False)
        after = _applied(service, operations)
        evidence = carry_out(self._cluster, INFERENCE_SERVICE, service, after, operations)
        plan.witness(evidence)
        return Applied(plan.percent, changed=True, evidence=evidence)

    def restore(self, plan: Plan, previous: Previous) -> None:
        """See `SplitBackend`."""
        where = read_target(plan.target, "storage_uri")
        service = self._service(where)
        saved, spec = previous.state, service["spec"]
        check_same(service, saved["uid"])
        _check_ours(service, plan, saved, where)
        operations: Operations = []
        if spec["predictor"] != saved["predictor"]:
            operations.append(_set("replace", saved["predictor"], "spec", "predictor"))
        if spec.get("canary") != saved["canary"]:
            if saved["canary"] is None:
                operations.append({"op": "remove", "path": "/spec/canary"})
            else:
                operations.append(_set("add", saved["canary"], "spec", "canary"))
        if operations:
            after = _applied(service, operations)
            done = carry_out(self._cluster, INFERENCE_SERVICE, service, after, operations)
            plan.witness(done)

    def _service(self, where: Target) -> dict[str, Any]:
        return self._cluster.get(INFERENCE_SERVICE, where.namespace, where.name)

    def _canary_for(self, service: Any, plan: Plan, where: Target) -> dict[str, Any]:
        """The candidate's entry: the stable model with other weights."""
        model = copy.deepcopy(service["spec"]["predictor"].get("model", {}))
        model["storageUri"] = storage_uri(where, plan.rollout)
        schema = self._cluster.schema(INFERENCE_SERVICE)
        if schema is not None and schema.requires("spec.canary.predictor.model", "name"):
            model.setdefault("name", CONTAINER)
        name = variant_of(plan.rollout.candidate)
        return {"trafficPercent": plan.percent, "predictor": {"name": name, "model": model}}

    def _about_routing(self, service: Any, where: Target, notes: list[str]) -> list[str]:
        refusals = about_permission(self._cluster, where)
        try:
            route = self._cluster.find(HTTP_ROUTE, where.namespace, where.name)
        except ClusterForbids:
            notes.append(
                "the console's account may not read httproutes: the split is believed from "
                "status.canaryStatuses alone"
            )
            return refusals
        owners = (route or {}).get("metadata", {}).get("ownerReferences", [])
        if not any(one.get("uid") == service["metadata"]["uid"] for one in owners):
            refusals.append(
                f"KServe keeps no HTTPRoute for {where.words} (Gateway API is off): a canary "
                "would be deployed, but no traffic would be split"
            )
        return refusals

    def _routed(
        self, where: Target, variant: str, ready: bool, service: Any
    ) -> tuple[int | None, str]:
        """The candidate's share by the weights of the route, in whole percent."""
        canary = _canary(service, variant)
        if canary is None:
            return 0, f"spec.canary of {where.words}"
        try:
            route = self._cluster.find(HTTP_ROUTE, where.namespace, where.name)
        except ClusterForbids:
            return canary["trafficPercent"] if ready else 0, (
                f"status.canaryStatuses of {where.words}"
            )
        backends = [
            one
            for rule in (route or {}).get("spec", {}).get("rules", [])
            for one in rule.get("backendRefs", [])
        ]
        total = sum(one.get("weight", 1) for one in backends)
        ours = [one for one in backends if one["name"] == f"{where.name}-{variant}-predictor"]
        share = sum(one.get("weight", 1) for one in ours)
        return round(100 * share / total) if total else None, f"HTTPRoute {where.words}"


def _about_version(schema: Schema | None, notes: list[str]) -> list[str]:
    if schema is None:
        return ["InferenceService is not installed on this cluster"]
    if schema.takes_anything("spec"):
        notes.append(
            "this cluster stores whatever is written into an InferenceService, typing errors too "
            "(a minimal definition): only status.canaryStatuses will tell whether it splits"
        )
        return []
    if not schema.is_list("spec.canary"):
        return [
            "this cluster's InferenceService has no list spec.canary (KServe before 0.20): "
            "the patch would be dropped and nothing would change"
        ]
    return []


def _about_service(service: Mapping[str, Any], where: Target) -> list[str]:
    refusals = about_model(service, where)
    canaries, mode = service["spec"].get("canary"), mode_of(service)
    if mode != "Standard":
        refusals.append(
            f"{where.words} is in {mode or 'an unknown'} mode: KServe takes spec.canary in "
            "Standard mode only" + ("; use kserve-knative" if mode == "Knative" else "")
        )
    elif annotated_mode(service) != "Standard":
        refusals.append(
            f"{where.words} is in Standard mode by the cluster's default: KServe takes "
            f"spec.canary only where the annotation {MODE}: Standard is written"
        )
    if canaries:
        names = ", ".join(str(one["predictor"].get("name")) for one in canaries)
        refusals.append(f"{where.words} has a canary already ({names}), of somebody else")
    return refusals


def _canary(service: Mapping[str, Any], variant: str) -> dict[str, Any] | None:
    for one in service["spec"].get("canary") or []:
        if one["predictor"].get("name") == variant:
            return dict(one)
    return None


def _operations(service: Mapping[str, Any], plan: Plan, canary: Mapping[str, Any]) -> Operations:
    """The patch that brings the service to the plan; empty where it is there."""
    name = canary["predictor"]["name"]
    stable, canaries = service["spec"]["predictor"], service["spec"].get("canary") or []
    if stable.get("name") == name:
        if plan.promote and not canaries:
            return []
        raise ObjectChanged(
            f"InferenceService {words(service)}: the candidate {name} is the stable variant "
            "already; only a rollback leads back"
        )
    others = [one["predictor"].get("name") for one in canaries if one["predictor"]["name"] != name]
    if others:
        raise ObjectChanged(
            f"InferenceService {words(service)}: expected no canary but {name}, found {others[0]}"
        )
    if not canaries:
        return _first(plan, canary, stable)
    at = pointer("spec", "canary", 0)
    guard = {"op": "test", "path": f"{at}/predictor/name", "value": name}
    if plan.promote:
        promoted = {**stable, **canaries[0]["predictor"]}
        return [
            guard,
            _set("replace", promoted, "spec", "predictor"),
            {"op": "remove", "path": "/spec/canary"},
        ]
    if canaries[0]["trafficPercent"] == plan.percent:
        return []
    return [guard, {"op": "replace", "path": f"{at}/trafficPercent", "value": plan.percent}]


def _first(plan: Plan, canary: Mapping[str, Any], stable: Mapping[str, Any]) -> Operations:
    if plan.promote:
        promoted = {**stable, **canary["predictor"]}
        return [_set("replace", promoted, "spec", "predictor")]
    return [_set("add", [dict(canary)], "spec", "canary")]


def _set(op: str, value: Any, *path: str | int) -> dict[str, Any]:
    return {"op": op, "path": pointer(*path), "value": value}


def _applied(service: Mapping[str, Any], operations: Operations) -> dict[str, Any]:
    """The service after one of the patches of this module."""
    spec = copy.deepcopy(service["spec"])
    for one in operations:
        match one:
            case {"op": "remove"}:
                del spec["canary"]
            case {"op": "add" | "replace", "path": "/spec/predictor" | "/spec/canary" as path}:
                spec[path.rpartition("/")[2]] = one["value"]
            case {"op": "replace"}:
                spec["canary"][0]["trafficPercent"] = one["value"]
    return {**service, "spec": spec}


def _check_ours(
    service: Mapping[str, Any], plan: Plan, saved: Mapping[str, Any], where: Target
) -> None:
    """Refuse to undo what this rollout did not do."""
    variant = variant_of(plan.rollout.candidate)
    predictor, canaries = service["spec"]["predictor"], service["spec"].get("canary") or []
    before = [one["predictor"].get("name") for one in saved["canary"] or []]
    foreign = [
        one["predictor"].get("name")
        for one in canaries
        if one["predictor"].get("name") not in {variant, *before}
    ]
    if predictor != saved["predictor"] and predictor.get("name") != variant:
        foreign.append("spec.predictor")
    if foreign:
        raise ObjectChanged(
            f"InferenceService {where.words}: somebody else changed {foreign[0]} since the "
            "rollout began; look at it, then end the rollout by hand"
        )
