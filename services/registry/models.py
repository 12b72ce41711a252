"""What the registry speaks of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from services.errors import GateFailed, InvalidInput

ALIAS_RULE = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")
NAME_RULE = re.compile(r"[a-z0-9][a-z0-9-]{0,47}-[0-9a-f]{12}")
DIGEST_RULE = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Adapter:
    """One registered adapter; nothing of it ever changes.

    Attributes:
        name: `{alias}-{first 12 hex of the digest}`.
        digest: See `digest.adapter_digest`; 64 hex.
        base_model: Name of the base model that it was trained on.
        base_digest: Digest of that base model, sha256 hex.
        path: Its folder.
        run_id: The training run that made it (the first, where several made the same bytes).
        dataset_sha256: Digest of the dataset that the run learned from.
        config_sha256: Of the canonical `adapter_config.json`.
        size_bytes: Of the weights.
        metrics: What the run reported, by name.
        parameters: What the run was told (beta, learning rate …), as text, by name.
        mlflow_run_id: The run in MLflow; None where it has none.
        mlflow_model_uri: `models:/m-…`; None until MLflow was reached.
    """

    name: str
    tenant_id: str
    alias: str
    digest: str
    base_model: str
    base_digest: str
    path: Path
    run_id: str
    dataset_sha256: str
    config_sha256: str
    size_bytes: int
    metrics: Mapping[str, float] = field(repr=False)
    parameters: Mapping[str, str] = field(repr=False)
    mlflow_run_id: str | None
    mlflow_model_uri: str | None
    created_at: datetime


@dataclass(frozen=True)
class Champion:
    """The adapter that an alias holds as its best, from one time on.

    Attributes:
        adapter: Its immutable name.
        actor_name: Who chose it.
    """

    tenant_id: str
    alias: str
    adapter: str
    actor_name: str
    since: datetime


@dataclass(frozen=True)
class Admission:
    """Why an adapter may become champion: there is no other way than these three.

    Attributes:
        kind: `gate` (its evaluation passed), `override` (it did not, and somebody gave a reason)
            or `restored` (a promotion is taken back, with a reason).
        reason: What the person gave; empty only where the gate was passed.
        shortfalls: What the gate missed.
    """

    kind: Literal["gate", "override", "restored"]
    reason: str = ""
    shortfalls: tuple[str, ...] = ()

    @classmethod
    def by_gate(cls, *, passed: bool, shortfalls: Sequence[str], reason: str) -> Admission:
        """What the gate's answer and the person's reason amount to.

        Raises:
            GateFailed: The gate is not passed and there is no reason.
        """
        if passed:
            return cls("gate", reason.strip())
        if not reason.strip():
            raise GateFailed(
                f"champion: expected a passed gate or a reason, found neither: "
                f"{' '.join(shortfalls)}"
            ).because("champion_needs_reason")
        return cls("override", reason.strip(), tuple(shortfalls))

    @classmethod
    def restored(cls, reason: str) -> Admission:
        """A promotion is taken back: what served before it does so again.

        Raises:
            InvalidInput: There is no reason.
        """
        if not reason.strip():
            raise InvalidInput(
                "champion: expected a reason to restore it, found an empty one"
            ).because("empty", field="reason")
        return cls("restored", reason.strip())


@dataclass(frozen=True)
class Lineage:
    """Where an adapter comes from.

    Attributes:
        runs: Every run that made these bytes with what it learned from, oldest first, as
            (run id, dataset sha256).
    """

    adapter: str
    digest: str
    run_id: str
    dataset_sha256: str
    base_model: str
    base_digest: str
    runs: tuple[tuple[str, str], ...]
    mlflow_model_uri: str | None

    def as_json(self) -> dict[str, Any]:
        """The chain as commands print it."""
        return {
            "adapter": self.adapter,
            "digest": self.digest,
            "run_id": self.run_id,
            "dataset_sha256": self.dataset_sha256,
            "base_model": self.base_model,
            "base_digest": self.base_digest,
            "runs": [{"run_id": run, "dataset_sha256": data} for run, data in self.runs],
            "mlflow_model_uri": self.mlflow_model_uri,
        }


def valid_alias(alias: str) -> str:
    """The alias, if it may stand in a folder's name.

    Raises:
        InvalidInput: It is not 1 to 48 of `a-z`, `0-9` and `-`, beginning with one of the first two.
    """
    if not ALIAS_RULE.fullmatch(alias):
        raise InvalidInput(
            "alias: expected 1 to 48 characters of a-z, 0-9 and -, not beginning with -, "
            f"found {alias[:60]!r}"
        )
    return alias


def valid_name(name: str) -> str:
    """The adapter name, if it has the form of one; nothing else becomes part of a path.

    Raises:
        InvalidInput: It has not.
    """
    if not NAME_RULE.fullmatch(name):
        raise InvalidInput(
            f"adapter name: expected {{alias}}-{{12 hex digits}}, found {name[:80]!r}"
        )
    return name


def valid_digest(what: str, digest: str) -> str:
    """The digest, if it is a whole sha256.

    Args:
        what: What messages call it.

    Raises:
        InvalidInput: It is not 64 lower-case hex digits.
    """
    if not DIGEST_RULE.fullmatch(digest):
        raise InvalidInput(
            f"{what}: expected a sha256 of 64 lower-case hex digits, found {digest[:80]!r}"
        )
    return digest
