"""The objects of a simulated cluster, and the way of a write to them.

A write goes: decode, patch, prune (or refuse), defaults, mutating webhook, validation, validating
webhook, conflict check, and, unless it is a dry run, storage and controllers. What goes wrong on
purpose is asked for by `faults` and by the attributes of `SimulatedCluster`.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.kubernetes import crds, kserve, llmd, schemas, trainer
from tests.fakes.kubernetes.kubelet import Kubelet
from tests.fakes.kubernetes.objects import (
    BUILT_IN,
    CUSTOM,
    KEPT_EVENTS,
    USER,
    Fault,
    Key,
    Resource,
    body_of,
    fixed,
    is_selected,
    with_identity,
)
from tests.fakes.kubernetes.patches import PatchBroken, PatchRefused, json_patch, merge_patch
from tests.fakes.kubernetes.refusals import (
    Refused,
    bad_request,
    conflict,
    internal,
    invalid,
    not_found,
    refused,
)


@dataclass
class SimulatedCluster:
    """A cluster's state.

    Attributes:
        custom: Which of the custom kinds are installed; leave one out to do without its operator.
        default_mode: What KServe does with a service that says nothing: `Standard` or `Knative`.
        routes_canary: Whether KServe writes weights into its routes (from after v0.20.0 on).
        unready: Names of canaries and revisions whose pods never become ready.
        webhook_down: Whether KServe's admission webhook does not answer.
        lag: After how many reads the controllers act on a write; None for never.
        forbidden: Pairs of verb and plural that the console's account may not do.
        allowed: Likewise, all that it may do; None for everything.
        faults: See `Fault`.
        slots: How many workloads Kueue admits at once.
        images: Images that can be pulled; None for all.
        gpus: How many GPUs the nodes have.
    """

    custom: tuple[str, ...] = CUSTOM
    default_mode: str = "Standard"
    routes_canary: bool = True
    unready: set[str] = field(default_factory=set)
    webhook_down: bool = False
    lag: int | None = 0
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    allowed: set[tuple[str, str]] | None = None
    faults: list[Fault] = field(default_factory=list)
    slots: int = 1
    images: set[str] | None = None
    gpus: int = 8
    definitions: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.objects: dict[Key, dict[str, Any]] = {}
        self.events: list[tuple[int, str, Key, dict[str, Any]]] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.kubelet = Kubelet(self)
        self.version = 1000
        self.oldest = 0
        self._reads_left = 0
        self._settling = False
        self.resources: dict[tuple[str, str, str], Resource] = {}
        for resource in BUILT_IN:
            self._know(resource)
        for plural in self.custom:
            self.install(self.definitions.get(plural) or crds.load(plural))
        for namespace in ("default", "prod", "training"):
            self.put("", "namespaces", {"metadata": {"name": namespace}})

    # -- kinds -------------------------------------------------------------------------------

    def _know(self, resource: Resource) -> None:
        self.resources[resource.group, resource.version, resource.plural] = resource

    def install(self, crd: dict[str, Any]) -> None:
        """Make a kind known; again for another version of its definition."""
        spec = crd["spec"]
        for version in spec["versions"]:
            self._know(
                Resource(
                    spec["group"], version["name"], spec["names"]["plural"], spec["names"]["kind"],
                    version["schema"]["openAPIV3Schema"], spec["scope"] == "Namespaced",
                )
            )  # fmt: skip
        self.put("apiextensions.k8s.io", "customresourcedefinitions", crd)

    def resource(self, group: str, version: str, plural: str) -> Resource:
        try:
            return self.resources[group, version, plural]
        except KeyError:
            raise Refused(404, "NotFound", "404 page not found", plain=True) from None

    # -- tests and controllers: no admission, no faults -----------------------------------------

    def put(self, group: str, plural: str, thing: dict[str, Any], namespace: str = "") -> None:
        """Store an object as it is."""
        with self.lock:
            kind = next(
                r for r in self.resources.values() if (r.group, r.plural) == (group, plural)
            )
            made = {
                "apiVersion": f"{group}/{kind.version}" if group else kind.version,
                "kind": kind.kind,
                **(thing if plural == "customresourcedefinitions" else copy.deepcopy(thing)),
            }
            made["metadata"] = {**made.get("metadata", {})}
            if namespace:
                made["metadata"]["namespace"] = namespace
            key = (group, plural, namespace, made["metadata"]["name"])
            self._store(key, made, self.objects.get(key))

    def find(self, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        """A stored object itself, by its plural name."""
        with self.lock:
            for key, thing in self.objects.items():
                if key[1:] == (plural, namespace, name):
                    return thing
            return None

    def all(self, plural: str) -> list[dict[str, Any]]:
        with self.lock:
            return [thing for key, thing in self.objects.items() if key[1] == plural]

    def change(self, thing: dict[str, Any], **parts: Any) -> None:
        """Replace top-level parts of a stored object, such as its status."""
        with self.lock:
            key = self.key_of(thing)
            old = self.objects.get(key)
            if old is not None and any(old.get(name) != value for name, value in parts.items()):
                self._store(key, {**old, **copy.deepcopy(parts)}, old)

    def remove(self, thing: dict[str, Any]) -> None:
        with self.lock:
            key = self.key_of(thing)
            if self.objects.pop(key, None) is not None:
                self._note("DELETED", key, thing)

    def key_of(self, thing: dict[str, Any]) -> Key:
        group = thing["apiVersion"].rpartition("/")[0]
        kind = next(
            r for r in self.resources.values() if (r.group, r.kind) == (group, thing["kind"])
        )
        return (
            group,
            kind.plural,
            thing["metadata"].get("namespace", ""),
            thing["metadata"]["name"],
        )

    def settle(self) -> None:
        """Let all controllers act until nothing changes any more."""
        with self.lock:
            if self._settling:
                return
            self._settling = True
            try:
                for _ in range(20):
                    before = self.version
                    for controller in (kserve, llmd, trainer):
                        controller.reconcile(self)
                    if self.version == before:
                        return
                raise AssertionError("the simulated controllers never come to rest")
            finally:
                self._settling = False

    def close(self) -> None:
        self.kubelet.close()

    # -- requests -----------------------------------------------------------------------------

    def may(self, verb: str, plural: str) -> bool:
        if self.allowed is not None and (verb, plural) not in self.allowed:
            return False
        return (verb, plural) not in self.forbidden

    def check(self, verb: str, resource: Resource, name: str, namespace: str) -> None:
        """Refuse what the account may not do."""
        if not self.may(verb, resource.plural):
            raise refused(USER, verb, resource, name, namespace)

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        with self.lock:
            if self._reads_left:
                self._reads_left -= 1
                if not self._reads_left:
                    self.settle()
            found = self.objects.get((resource.group, resource.plural, namespace, name))
            if found is None:
                raise not_found(resource, name)
            return self._shown(found, resource)

    def list(self, resource: Resource, namespace: str, selector: str) -> dict[str, Any]:
        with self.lock:
            items = [
                self._shown(thing, resource)
                for key, thing in sorted(self.objects.items())
                if key[:2] == (resource.group, resource.plural)
                and namespace in {"", key[2]}
                and is_selected(thing, selector)
            ]
            version = str(self.version)
        return {
            "apiVersion": f"{resource.group}/{resource.version}".lstrip("/"),
            "kind": f"{resource.kind}List",
            "metadata": {"resourceVersion": version},
            "items": items,
        }

    def create(
        self, resource: Resource, namespace: str, body: Any, query: dict[str, str]
    ) -> tuple[dict[str, Any], list[str]]:
        with self.lock:
            if resource.namespaced and ("", "namespaces", "", namespace) not in self.objects:
                raise Refused(404, "NotFound", f'namespaces "{namespace}" not found')
            body, warnings = self._decoded(resource, body, query, patch=False)
            name = body.get("metadata", {}).get("name", "")
            if not name:
                raise invalid(resource, "", [("metadata.name", "FieldValueRequired",
                    "metadata.name: Required value: name or generateName is required")])  # fmt: skip
            key = (resource.group, resource.plural, namespace, name)
            if key in self.objects:
                raise Refused(409, "AlreadyExists", f'{resource.full_name} "{name}" already exists')
            if resource.namespaced:
                body["metadata"]["namespace"] = namespace
            body.pop("status", None)
            body = self._admitted(resource, None, body)
            return self._kept(key, body, None, query), warnings

    def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        query: dict[str, str],
        make: Callable[[dict[str, Any]], Any],
        *,
        patch: bool,
        status: bool = False,
    ) -> tuple[dict[str, Any], list[str]]:
        """PUT and PATCH: `make` gives the new object from the present one."""
        with self.lock:
            key = (resource.group, resource.plural, namespace, name)
            old = self.objects.get(key)
            if old is None:
                raise not_found(resource, name)
            shown = self._shown(old, resource)
            body, warnings = self._decoded(resource, make(shown), query, patch=patch)
            asked = body.get("metadata", {}).get("resourceVersion")
            if asked and asked != shown["metadata"]["resourceVersion"]:
                raise conflict(resource, name)
            if status:
                body = {**shown, "status": body.get("status", {})}
            else:
                body["metadata"] = {**body.get("metadata", {}), **fixed(shown["metadata"])}
                if "status" in shown:
                    body["status"] = shown["status"]
                body = self._admitted(resource, shown, body)
            return self._kept(key, body, old, query), warnings

    def delete(
        self, resource: Resource, namespace: str, name: str, query: dict[str, str]
    ) -> dict[str, Any]:
        with self.lock:
            key = (resource.group, resource.plural, namespace, name)
            thing = self.objects.get(key)
            if thing is None:
                raise not_found(resource, name)
            if query.get("dryRun") != "All":
                trainer.on_delete(self, thing)
                if self.objects.pop(key, None) is not None:
                    self._note("DELETED", key, thing)
                self._act()
        return {"apiVersion": "v1", "kind": "Status", "status": "Success"}

    def patched(self, content_type: str, body: Any) -> Callable[[dict[str, Any]], Any]:
        """What a patch makes of an object."""
        if content_type == "application/json-patch+json":
            return lambda old: _with_words(json_patch, old, body)
        return lambda old: merge_patch(old, body)

    # -- steps of a write ---------------------------------------------------------------------

    def _decoded(
        self, resource: Resource, body: Any, query: dict[str, str], *, patch: bool
    ) -> tuple[dict[str, Any], list[str]]:
        if not isinstance(body, dict) or body.get("kind") != resource.kind:
            raise bad_request(
                f"the object provided is unrecognized (must be of type {resource.kind})"
            )
        expected = f"{resource.group}/{resource.version}".lstrip("/")
        if body.get("apiVersion") != expected:
            raise bad_request(
                f"the API version in the data ({body.get('apiVersion')}) does not match the "
                f"expected API version ({expected})"
            )
        if resource.schema is None:
            return copy.deepcopy(body), []
        kept, dropped = schemas.prune(body, resource.schema)
        mode = query.get("fieldValidation", "Warn")
        words = [f'unknown field "{path}"' for path in dropped]
        if dropped and mode == "Strict":
            text = f"strict decoding error: {', '.join(words)}"
            if patch:
                raise invalid(None, "", [("patch", "FieldValueInvalid",
                    f"patch: Invalid value: {text}")])  # fmt: skip
            raise bad_request(
                f'{resource.kind} in version "{resource.version}" cannot be handled as a '
                f"{resource.kind}: {text}"
            )
        kept = schemas.with_defaults(copy.deepcopy(kept), resource.schema)
        return kept, words if mode == "Warn" else []

    def _admitted(
        self, resource: Resource, old: dict[str, Any] | None, new: dict[str, Any]
    ) -> dict[str, Any]:
        hooked = resource.plural in {"inferenceservices", "trainjobs"}
        if hooked and self.webhook_down:
            raise internal(
                'failed calling webhook "inferenceservice.kserve-webhook-server.defaulter": failed '
                'to call webhook: Post "https://kserve-webhook-server-service.kserve.svc:443/mutate'
                '?timeout=10s": dial tcp 10.0.0.7:443: connect: connection refused'
            )
        if resource.plural == "inferenceservices":
            new = kserve.defaulted(new)
        if resource.plural in {"trainjobs", "jobs"}:
            new = trainer.defaulted(self, old, new)
        if resource.schema is not None:
            wrong = schemas.problems(
                {k: v for k, v in new.items() if k != "status"}, resource.schema
            )
            if wrong:
                raise invalid(resource, new["metadata"]["name"], wrong)
        if resource.plural == "inferenceservices":
            kserve.validate(old, new)
        if resource.plural == "trainjobs":
            trainer.validate(self, resource, old, new)
        return new

    def _kept(
        self, key: Key, new: dict[str, Any], old: dict[str, Any] | None, query: dict[str, str]
    ) -> dict[str, Any]:
        manager = query.get("fieldManager", "unknown")
        if query.get("dryRun") == "All":
            return with_identity(new, old, self.version + 1)
        stored = self._store(key, new, old, manager=manager)
        self._act()
        return copy.deepcopy(stored)

    def _store(
        self, key: Key, new: dict[str, Any], old: dict[str, Any] | None, *, manager: str = ""
    ) -> dict[str, Any]:
        if old is not None and body_of(new) == body_of(old):
            return old
        self.version += 1
        stored = with_identity(new, old, self.version)
        if manager:
            others = [
                m for m in stored["metadata"].get("managedFields", []) if m["manager"] != manager
            ]
            stored["metadata"]["managedFields"] = [*others, {"manager": manager}]
        self.objects[key] = stored
        self._note("MODIFIED" if old is not None else "ADDED", key, stored)
        return stored

    def _act(self) -> None:
        if self.lag == 0:
            self.settle()
        elif self.lag is not None:
            self._reads_left = self.lag

    def _note(self, what: str, key: Key, thing: dict[str, Any]) -> None:
        self.events.append((self.version, what, key, thing))
        if len(self.events) > KEPT_EVENTS:
            self.oldest = self.events[len(self.events) - KEPT_EVENTS][0]
            del self.events[:-KEPT_EVENTS]
        self.changed.notify_all()

    def _shown(self, thing: dict[str, Any], resource: Resource) -> dict[str, Any]:
        api_version = f"{resource.group}/{resource.version}".lstrip("/")
        if resource.plural == "customresourcedefinitions":
            return {**thing, "apiVersion": api_version}
        return {**copy.deepcopy(thing), "apiVersion": api_version}


def _with_words(apply: Any, old: Any, body: Any) -> Any:
    try:
        return apply(old, body)
    except PatchBroken as error:
        raise bad_request(f"error decoding patch: {error}") from error
    except PatchRefused as error:
        raise Refused(
            422, "Invalid", "the server rejected our request due to an error in our request",
            {"causes": [{"reason": "UnexpectedServerResponse", "message": str(error)}]},
        ) from error  # fmt: skip
