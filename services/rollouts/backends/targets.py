"""What a rollout's plan says about its target on a cluster, read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.errors import InvalidInput
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
