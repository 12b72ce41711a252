"""What a rollout's plan says about its target on a cluster, read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.errors import InvalidInput
from services.rollouts.backends import GATEWAY
from services.rollouts.models import Rollout

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_DIGEST = re.compile(r"[0-9a-f]{12}$")
ADAPTER = "{adapter}"
"""In a `storage_uri`, the place of the candidate's immutable name."""


@dataclass(frozen=True)
class Target:
    """One object on the cluster, as a plan names it.

    Attributes:
        storage_uri: Where the candidate's weights lie for the cluster; empty where the backend
            needs none. `{adapter}` in it stands for the candidate's name.
        base_model: What the engine serves the base model as; empty where nobody said.
        llm_service: Name of the LLMInferenceService whose adapters are looked at; may be empty.
    """

    namespace: str
    name: str
    storage_uri: str = ""
    base_model: str = ""
    llm_service: str = ""

    @property
    def words(self) -> str:
        """As people write it."""
        return f"{self.namespace}/{self.name}"


NEEDED: Mapping[str, tuple[str, ...]] = {
    "kserve-standard": ("storage_uri",),
    "kserve-knative": ("storage_uri",),
    "llmd": (),
}
"""What each backend of a cluster needs of a target, besides `namespace` and `name`."""

ASKED: Mapping[str, tuple[str, ...]] = {
    "kserve-standard": ("namespace", "name", "storage_uri"),
    "kserve-knative": ("namespace", "name", "storage_uri"),
    "llmd": ("namespace", "name", "base_model", "llm_service"),
}
"""What each of them reads of one."""


def planned_target(backend: str, given: Mapping[str, str]) -> dict[str, str]:
    """What a plan is to say about where a backend splits; the cluster is not asked.

    Raises:
        InvalidInput: There is no such backend, or its target would never do.
    """
    target = {name: value.strip() for name, value in given.items() if value.strip()}
    if backend == GATEWAY:
        if target:
            raise InvalidInput(f"target: expected none for the backend {GATEWAY}, found one")
        return {}
    if backend not in NEEDED:
        known = ", ".join((GATEWAY, *NEEDED))
        raise InvalidInput(f"backend: expected one of {known}, found {backend!r}")
    read_target(target, *NEEDED[backend])
    return target


def read_target(target: Mapping[str, str], *needed: str) -> Target:
    """The target of a plan.

    Args:
        target: Strings by name.
        needed: Names without which this backend cannot work, besides `namespace` and `name`.

    Raises:
        InvalidInput: Something is missing, unknown, or no name that a cluster could know.
    """
    known = Target.__dataclass_fields__
    if unknown := sorted(set(target) - set(known)):
        raise InvalidInput(f"target: expected {', '.join(known)}, found the unknown {unknown[0]!r}")
    for name in ("namespace", "name", *needed):
        if not target.get(name):
            raise InvalidInput(f"target: expected a value for {name}, found none")
    for name in ("namespace", "name", "llm_service"):
        value = target.get(name, "")
        if value and not _NAME.fullmatch(value):
            raise InvalidInput(
                f"target: expected for {name} what Kubernetes takes as a name, found {value!r}"
            )
    return Target(**dict(target))


def variant_of(adapter: str) -> str:
    """The short name of an adapter's variant of a service, such as `v-3fa2c1d09b7e`.

    The service's and this name together must fit the 63 characters of a Service's name, so only
    the digest of the adapter's immutable name is used.
    """
    found = _DIGEST.search(adapter)
    if found is None:
        raise InvalidInput(
            f"adapter {adapter!r}: expected a name that ends in 12 hex digits of its digest"
        )
    return f"v-{found.group()}"


def storage_uri(target: Target, rollout: Rollout) -> str:
    """Where the candidate's weights lie."""
    return target.storage_uri.replace(ADAPTER, rollout.candidate)
