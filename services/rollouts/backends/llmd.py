"""llm-d: an InferenceModelRewrite deals one model name to adapters on the same vLLM pods.

The only cluster backend that needs no second GPU: both adapters are loaded in the pool, and the
endpoint picker rewrites the requested alias into one of their names by weight. Weights below 1 are
not valid, so 0 % means that the candidate is not among the targets. The response's model name is
written back to the alias: only the gateway's own receipts and the picker's metrics tell which
adapter answered.

    start, step   replace the targets of the alias's rule
    promote       the candidate alone
    restore       the captured targets
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from services.clusters.changes import carry_out, pointer
from services.clusters.connection import Cluster
from services.clusters.kinds import INFERENCE_POOL, LLM_SERVICE, MODEL_REWRITE, Kind
from services.clusters.refusals import ClusterForbids, ObjectChanged
from services.errors import InvalidInput
from services.rollouts.backends import Applied, Capabilities, EffectiveSplit, Plan, Previous
from services.rollouts.backends.targets import Target, read_target
from services.rollouts.models import Rollout

OLD_KIND = Kind(
    "inference.networking.x-k8s.io", "v1alpha2", "inferencemodelrewrites", "InferenceModelRewrite"
)
"""Where the API lived before the Gateway API Inference Extension 1.6 gave it to llm-d."""


class LlmdRewrite:
    """Splits the requests for an alias between two adapters of one pool.

    The rule is the one that matches the rollout's alias exactly; `probe`, which knows no
    rollout, looks at everything else.

    Args:
        cluster: The connection; nothing is asked of it before a method is called.
    """

    name = "llmd"

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def probe(self, target: Mapping[str, str]) -> Capabilities:
        """See `SplitBackend`; a refusal says what would become of a patch here."""
        where = read_target(target)
        notes = [
            "each request is dealt anew: a conversation may change its adapter, and loses its "
            "prefix cache then",
            "both adapters must be loaded on every pod of the pool before the first step",
        ]
        rewrite = self._cluster.find(MODEL_REWRITE, where.namespace, where.name)
        if self._cluster.schema(MODEL_REWRITE) is None:
            refusals = [self._about_missing_kind()]
        elif rewrite is None:
            refusals = [f"there is no InferenceModelRewrite {where.words}"]
        else:
            refusals = self._about(rewrite, where, notes)
        return Capabilities(
            backend=self.name,
            target=where.words,
            is_sticky=False,
            refusals=tuple(refusals),
            notes=tuple(notes),
        )

    def capture(self, plan: Plan) -> Previous:
        """See `SplitBackend`.

        Raises:
            ObjectChanged: The alias is split already, or answered by another adapter than the
                rollout's stable one.
        """
        where = read_target(plan.target)
        rewrite = self._rewrite(where)
        _, rule = _rule(rewrite, plan.rollout.alias, where)
        stable = _stable(plan.rollout, where)
        found = [one["modelRewrite"] for one in rule.get("targets", [])]
        if found != [stable]:
            raise ObjectChanged(
                f"InferenceModelRewrite {where.words}: expected {plan.rollout.alias} to mean "
                f"{stable} alone, found {', '.join(found) or 'nothing'}"
            )
        self._check_loaded(plan.rollout, where)
        return Previous(self.name, {"uid": rewrite["metadata"]["uid"], "targets": rule["targets"]})

    def effective(self, plan: Plan) -> EffectiveSplit:
        """See `SplitBackend`; the picker follows the weights as they stand once it accepted them."""
        where = read_target(plan.target)
        rewrite = self._rewrite(where)
        _, rule = _rule(rewrite, plan.rollout.alias, where)
        accepted = _is_accepted(rewrite)
        percent = _share(rule.get("targets", []), plan.rollout.candidate)
        source = f"rules and Accepted condition of InferenceModelRewrite {where.words}"
        settled = accepted and percent == plan.percent
        return EffectiveSplit(percent if accepted else None, accepted, settled, source)

    def apply(self, plan: Plan) -> Applied:
        """See `SplitBackend`."""
        where = read_target(plan.target)
        rewrite = self._rewrite(where)
        number, rule = _rule(rewrite, plan.rollout.alias, where)
        ours = {_stable(plan.rollout, where), plan.rollout.candidate}
        foreign = [
            one["modelRewrite"] for one in rule["targets"] if one["modelRewrite"] not in ours
        ]
        if foreign:
            raise ObjectChanged(
                f"InferenceModelRewrite {where.words}: expected only {' and '.join(sorted(ours))} "
                f"for {plan.rollout.alias}, found {foreign[0]}"
            )
        asked = _targets(plan, where)
        if _weights(asked) == _weights(rule["targets"]):
            return Applied(plan.percent, changed=False)
        evidence = self._put(plan, rewrite, number, asked)
        return Applied(plan.percent, changed=True, evidence=evidence)

    def restore(self, plan: Plan, previous: Previous) -> None:
        """See `SplitBackend`."""
        where = read_target(plan.target)
        rewrite = self._rewrite(where)
        if rewrite["metadata"]["uid"] != previous.state["uid"]:
            raise ObjectChanged(
                f"InferenceModelRewrite {where.words}: it was made anew since the rollout began; "
                "look at it, then end the rollout by hand"
            )
        number, rule = _rule(rewrite, plan.rollout.alias, where)
        saved = list(previous.state["targets"])
        if rule["targets"] == saved:
            return
        known = {plan.rollout.candidate, *(one["modelRewrite"] for one in saved)}
        for one in rule["targets"]:
            if one["modelRewrite"] not in known:
                raise ObjectChanged(
                    f"InferenceModelRewrite {where.words}: somebody else added "
                    f"{one['modelRewrite']}; look at it, then end the rollout by hand"
                )
        self._put(plan, rewrite, number, saved)

    def _put(
        self, plan: Plan, rewrite: Mapping[str, Any], number: int, targets: list[dict[str, Any]]
    ) -> dict[str, Any]:
        at = pointer("spec", "rules", number)
        spec = copy.deepcopy(dict(rewrite["spec"]))
        matches = spec["rules"][number]["matches"]
        spec["rules"][number]["targets"] = targets
        operations = [
            {"op": "test", "path": f"{at}/matches", "value": matches},
            {"op": "replace", "path": f"{at}/targets", "value": targets},
        ]
        after = {**rewrite, "spec": spec}
        evidence = carry_out(self._cluster, MODEL_REWRITE, rewrite, after, operations)
        plan.witness(evidence)
        return evidence

    def _rewrite(self, where: Target) -> dict[str, Any]:
        return self._cluster.get(MODEL_REWRITE, where.namespace, where.name)

    def _about_missing_kind(self) -> str:
        if self._cluster.schema(OLD_KIND) is not None:
            return (
                f"this cluster has the former {OLD_KIND.full_name}, which nothing routes by any "
                "more; install llm-d's"
            )
        return "InferenceModelRewrite (llm-d.ai) is not installed on this cluster"

    def _about(self, rewrite: Mapping[str, Any], where: Target, notes: list[str]) -> list[str]:
        refusals = []
        if not self._cluster.may("patch", MODEL_REWRITE, where.namespace):
            refusals.append(
                f"the console's account may not patch inferencemodelrewrites in {where.namespace}"
            )
        for rule in rewrite["spec"]["rules"]:
            weighted = ["weight" in one for one in rule.get("targets", [])]
            if any(weighted) and not all(weighted):
                refusals.append(
                    f"{where.words}: some targets have a weight and some have none; those "
                    "without are never chosen"
                )
        refusals += self._about_pool(rewrite, where, notes)
        return refusals

    def _about_pool(self, rewrite: Mapping[str, Any], where: Target, notes: list[str]) -> list[str]:
        pool = rewrite["spec"]["poolRef"]["name"]
        try:
            if self._cluster.find(INFERENCE_POOL, where.namespace, pool) is None:
                return [
                    f"{where.words}: there is no InferencePool {where.namespace}/{pool}, so "
                    "nothing routes by this rewrite"
                ]
        except ClusterForbids:
            notes.append("the console's account may not read inferencepools: the pool is unproven")
        if not _is_accepted(rewrite):
            return [f"{where.words} is not accepted by llm-d, so nothing routes by it"]
        return []

    def _check_loaded(self, rollout: Rollout, where: Target) -> None:
        """Refuse a candidate that the named service does not serve; requests would fail.

        Raises:
            InvalidInput: The service lists adapters, and the candidate is not among them.
        """
        if not where.llm_service:
            return
        service = self._cluster.get(LLM_SERVICE, where.namespace, where.llm_service)
        lora = service["spec"].get("model", {}).get("lora") or {}
        adapters = [str(one.get("name")) for one in lora.get("adapters", [])]
        if rollout.candidate not in adapters:
            raise InvalidInput(
                f"LLMInferenceService {where.namespace}/{where.llm_service}: expected the adapter "
                f"{rollout.candidate} among its own, found {', '.join(adapters) or 'none'}"
            )


def _rule(rewrite: Mapping[str, Any], alias: str, where: Target) -> tuple[int, dict[str, Any]]:
    """The rule for exactly one alias, with its place."""
    for number, rule in enumerate(rewrite["spec"]["rules"]):
        names = [match["model"]["value"] for match in rule.get("matches", [])]
        if alias in names:
            if len(names) > 1:
                raise ObjectChanged(
                    f"InferenceModelRewrite {where.words}: the rule for {alias} is also for "
                    f"{', '.join(name for name in names if name != alias)}; give {alias} its own"
                )
            return number, dict(rule)
    raise ObjectChanged(f"InferenceModelRewrite {where.words}: there is no rule for {alias}")


def _stable(rollout: Rollout, where: Target) -> str:
    """What serves the alias before the rollout."""
    found = rollout.stable or where.base_model
    if not found:
        raise InvalidInput(
            "target: expected base_model, the name under which the pool serves the base model, "
            f"because {rollout.alias} meant the base model; found none"
        )
    return found


def _targets(plan: Plan, where: Target) -> list[dict[str, Any]]:
    stable, candidate = _stable(plan.rollout, where), plan.rollout.candidate
    if plan.promote or plan.percent == 100:
        return [{"modelRewrite": candidate, "weight": 100}]
    if plan.percent == 0:
        return [{"modelRewrite": stable, "weight": 100}]
    return [
        {"modelRewrite": stable, "weight": 100 - plan.percent},
        {"modelRewrite": candidate, "weight": plan.percent},
    ]


def _weights(targets: list[dict[str, Any]]) -> dict[str, float]:
    """Shares by adapter; where nobody has a weight, all are equal."""
    total = sum(one.get("weight", 1) for one in targets)
    return {one["modelRewrite"]: one.get("weight", 1) / total for one in targets}


def _share(targets: list[dict[str, Any]], candidate: str) -> int | None:
    if not targets:
        return None
    return round(100 * _weights(targets).get(candidate, 0.0))


def _is_accepted(rewrite: Mapping[str, Any]) -> bool:
    for one in rewrite.get("status", {}).get("conditions", []):
        if one.get("type") == "Accepted":
            seen = one.get("observedGeneration", 0) >= rewrite["metadata"].get("generation", 0)
            return bool(seen and one.get("status") == "True")
    return False
