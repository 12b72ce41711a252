"""KServe in Knative ("Serverless") mode: `canaryTrafficPercent` of an InferenceService's predictor.

A change of the model makes a new revision; the percentage decides how much of the traffic it gets,
the rest stays with the revision that was rolled out last.

    start     storageUri and canaryTrafficPercent in ONE patch: apart, all traffic would move
    step      replace canaryTrafficPercent
    promote   remove canaryTrafficPercent
    restore   in three patches, each only when the one before is seen in the status:
              0 % (which pins the stable revision), the captured model still at 0 %, then the
              captured percentage. In one patch the newest revision, which is the bad one until the
              restored model has started, would get everything.

In Standard mode the field is ignored without a word and everything is rolled out at once:
`probe` refuses.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from services.clusters.changes import carry_out
from services.clusters.connection import Cluster, Operations
from services.clusters.kinds import INFERENCE_SERVICE
from services.clusters.refusals import ClusterUnavailable, ObjectChanged
from services.rollouts.backends import Applied, Capabilities, EffectiveSplit, Plan, Previous
from services.rollouts.backends.kserve import (
    about_model,
    about_permission,
    check_same,
    is_seen,
    mode_of,
    words,
)
from services.rollouts.backends.targets import Target, read_target, storage_uri

PERCENT = "canaryTrafficPercent"
_PERCENT = f"/spec/predictor/{PERCENT}"
_URI = "/spec/predictor/model/storageUri"


class KServeKnative:
    """Splits an InferenceService between its last two revisions.

    Args:
        cluster: The connection; nothing is asked of it before a method is called.
    """

    name = "kserve-knative"

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def probe(self, target: Mapping[str, str]) -> Capabilities:
        """See `SplitBackend`; a refusal says what would become of a patch here."""
        where = read_target(target, "storage_uri")
        service = self._cluster.find(INFERENCE_SERVICE, where.namespace, where.name)
        if self._cluster.schema(INFERENCE_SERVICE) is None:
            refusals = ["InferenceService is not installed on this cluster"]
        elif service is None:
            refusals = [f"there is no InferenceService {where.words}"]
        else:
            refusals = _about(service, where) + about_permission(self._cluster, where)
        return Capabilities(
            backend=self.name,
            target=where.words,
            is_sticky=False,
            refusals=tuple(refusals),
            notes=("each request is dealt anew: a conversation may change its revision",),
        )

    def capture(self, plan: Plan) -> Previous:
        """See `SplitBackend`."""
        service = self._service(read_target(plan.target, "storage_uri"))
        predictor = service["spec"]["predictor"]
        component = _component(service)
        return Previous(
            self.name,
            {
                "uid": service["metadata"]["uid"],
                "model": predictor["model"],
                "percent": predictor.get(PERCENT),
                "revision": component.get("latestRolledoutRevision")
                or component.get("latestReadyRevision"),
            },
        )

    def effective(self, plan: Plan) -> EffectiveSplit:
        """See `SplitBackend`; the share is the traffic of the candidate's revision."""
        where = read_target(plan.target, "storage_uri")
        service = self._service(where)
        source = f"status.components.predictor.traffic of {where.words}"
        predictor = service["spec"]["predictor"]
        if predictor["model"].get("storageUri") != storage_uri(where, plan.rollout):
            return EffectiveSplit(0, False, False, source)
        component = _component(service)
        latest = component.get("latestCreatedRevision")
        ready = latest is not None and component.get("latestReadyRevision") == latest
        percent = _share(component, latest) if ready else 0
        asked = 100 if plan.promote else plan.percent
        in_spec = predictor.get(PERCENT) == (None if plan.promote else plan.percent)
        settled = is_seen(service) and ready and in_spec and percent == asked
        return EffectiveSplit(percent, ready, settled, source)

    def apply(self, plan: Plan) -> Applied:
        """See `SplitBackend`."""
        where = read_target(plan.target, "storage_uri")
        service = self._service(where)
        uri = storage_uri(where, plan.rollout)
        _check_mode(service)
        predictor = copy.deepcopy(service["spec"]["predictor"])
        if plan.promote:
            predictor.pop(PERCENT, None)
        else:
            predictor[PERCENT] = plan.percent
        predictor["model"]["storageUri"] = uri
        evidence = self._bring(plan, service, predictor)
        return Applied(plan.percent, changed=evidence is not None, evidence=evidence or {})

    def restore(self, plan: Plan, previous: Previous) -> None:
        """See `SplitBackend`; returns only when the restored revision serves alone.

        Raises:
            ClusterUnavailable: The cluster has not followed yet. From the first call on, as soon
                as the cluster answers, the stable revision gets all the traffic.
        """
        where = read_target(plan.target, "storage_uri")
        service = self._service(where)
        saved = previous.state
        check_same(service, saved["uid"])
        predictor = copy.deepcopy(service["spec"]["predictor"])
        ours = predictor["model"].get("storageUri") == storage_uri(where, plan.rollout)
        if not ours and predictor["model"] != saved["model"]:
            raise ObjectChanged(
                f"InferenceService {where.words}: somebody else changed its model since the "
                "rollout began; look at it, then end the rollout by hand"
            )
        if ours:
            service = self._at_zero(plan, service, predictor, str(saved["revision"]))
            predictor = {**predictor, PERCENT: 0, "model": saved["model"]}
            self._bring(plan, service, predictor)
            service = self._service(where)
        if predictor.get(PERCENT) != saved["percent"]:
            _wait_for_restored(service, str(saved["revision"]))
            predictor.pop(PERCENT, None)
            if saved["percent"] is not None:
                predictor[PERCENT] = saved["percent"]
            self._bring(plan, service, predictor)

    def _at_zero(
        self, plan: Plan, service: dict[str, Any], predictor: Mapping[str, Any], stable: str
    ) -> dict[str, Any]:
        """Pin the stable revision, and see it pinned."""
        self._bring(plan, service, {**predictor, PERCENT: 0})
        metadata = service["metadata"]
        found = self._cluster.get(INFERENCE_SERVICE, metadata["namespace"], metadata["name"])
        component = _component(found)
        if not is_seen(found) or _share(component, stable) != 100:
            raise ClusterUnavailable(
                f"InferenceService {words(found)}: 0 % is asked for; waiting until the revision "
                f"{stable} has all the traffic before the model is put back"
            )
        return found

    def _bring(
        self, plan: Plan, service: Mapping[str, Any], predictor: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Patch what differs; evidence, or None where nothing did."""
        operations = _operations(service["spec"]["predictor"], predictor)
        if not operations:
            return None
        after = {**service, "spec": {**service["spec"], "predictor": predictor}}
        evidence = carry_out(self._cluster, INFERENCE_SERVICE, service, after, operations)
        plan.witness(evidence)
        return evidence

    def _service(self, where: Target) -> dict[str, Any]:
        return self._cluster.get(INFERENCE_SERVICE, where.namespace, where.name)


def _operations(now: Mapping[str, Any], then: Mapping[str, Any]) -> Operations:
    """The one patch from a predictor to another that differs in percentage and model only."""
    operations: Operations = []
    if now.get("model") != then.get("model"):
        operations.append({"op": "test", "path": _URI, "value": now["model"].get("storageUri")})
        operations.append(
            {"op": "replace", "path": "/spec/predictor/model", "value": then["model"]}
        )
    if now.get(PERCENT) != then.get(PERCENT):
        if PERCENT not in then:
            operations.append({"op": "remove", "path": _PERCENT})
        else:
            operations.append({"op": "add", "path": _PERCENT, "value": then[PERCENT]})
    return operations


def _about(service: Mapping[str, Any], where: Target) -> list[str]:
    refusals = about_model(service, where)
    mode = mode_of(service)
    if mode != "Knative":
        refusals.append(
            f"{where.words} is in {mode or 'an unknown'} mode, where KServe ignores {PERCENT} "
            "without a word and would move all traffic to the candidate at once"
            + ("; use kserve-standard" if mode == "Standard" else "")
        )
    percent = service["spec"].get("predictor", {}).get(PERCENT)
    if percent is not None:
        refusals.append(f"{where.words} has a canary already ({percent} %), of somebody else")
    component = _component(service)
    if component.get("latestReadyRevision") != component.get("latestCreatedRevision"):
        refusals.append(
            f"{where.words}: its newest revision is not ready, so KServe could not tell the "
            "candidate's from it; mend or undo the last change first"
        )
    return refusals


def _check_mode(service: Mapping[str, Any]) -> None:
    """Never send a percentage where it would mean everything.

    Raises:
        ObjectChanged: The service was moved to another mode since the probe.
    """
    if mode_of(service) != "Knative":
        raise ObjectChanged(
            f"InferenceService {words(service)}: expected Knative mode, found "
            f"{mode_of(service) or 'none'}; {PERCENT} would be ignored and all traffic moved"
        )


def _wait_for_restored(service: Mapping[str, Any], stable: str) -> None:
    """See that the revision of the restored model runs before it gets traffic.

    Raises:
        ClusterUnavailable: It does not yet; the stable revision serves meanwhile.
    """
    component = _component(service)
    latest = component.get("latestCreatedRevision")
    if not is_seen(service) or component.get("latestReadyRevision") != latest:
        raise ClusterUnavailable(
            f"InferenceService {words(service)}: the revision {stable} has all the traffic; "
            f"waiting until the restored model's revision {latest} is ready"
        )


def _component(service: Mapping[str, Any]) -> dict[str, Any]:
    found = service.get("status", {}).get("components", {}).get("predictor", {})
    return dict(found)


def _share(component: Mapping[str, Any], revision: str | None) -> int:
    """Percent of the traffic that one revision gets, all its entries together."""
    return sum(
        int(one.get("percent") or 0)
        for one in component.get("traffic", [])
        if one.get("revisionName") == revision
    )
