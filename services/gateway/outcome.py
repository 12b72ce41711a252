"""What became of one request: the facts that go into the log, the usage row and the receipt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any

import orjson

from services.attestation.receipts import commitment
from services.metering.models import Price
from services.metering.service import cost_micro
from services.rollouts.models import Arm
from services.tenants.models import Actor, Role


class Status(StrEnum):
    """How a request ended; the words of the usage rows."""

    OK = "ok"
    PARTIAL = "partial"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Model:
    """What answers: an adapter on its base, or the base alone.

    Attributes:
        served: The adapter's immutable name, or the base model's name.
        adapter_digest: Full sha256 of the adapter; None for the base alone.
        base_digest: sha256 of the base model's files; empty where they are not on this machine.
    """

    served: str
    adapter_digest: str | None
    base_model: str
    base_digest: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which model answers a request, and why.

    Attributes:
        alias: The alias that was asked for, or that the pinned adapter belongs to.
        percent: The candidate's share at that moment, 0 to 100.
        place: The user's place in the split, 0 to 9999; None where nothing is split.
        is_split_outside: A cluster behind the engine's address splits the alias: it is asked for
            the alias itself, and `model` names no adapter, since nobody here knows which answers.
        instead_of: What was chosen and failed, where a second engine answers; None elsewhere.
    """

    alias: str
    model: Model
    arm: Arm
    rollout_id: str | None = None
    percent: int = 0
    place: int | None = None
    is_split_outside: bool = False
    instead_of: Chosen | None = None


@dataclass(slots=True)  # one for each request: freezing would double the price of making it
class Outcome:
    """One request from its arrival to its end; the writer turns it into durable rows.

    Its receipt bears the id of the request, so a client that left early finds it as well.

    Attributes:
        request_digest: sha256 of the exact request body; likewise the response's. A stream's
            response is every byte of the body before the receipt line.
        latency_ms: From the request's last byte to the engine's last.
        ttft_ms: To the first bytes of a stream; None without a stream.
        is_estimated: The engine did not say how many tokens it made; they were counted here.
        has_receipt: Whether the outcome is signed; a request without an answer is only logged.
        policy_version: Of the guardrails that were applied; 0 is the built-in default.
        findings: What they found: counts by `check.kind.action`.
        price: Version of the price table at admission, and its price of what answered.
        texts: Request and answer, and the days for which the tenant keeps them; None where it
            keeps none.
    """

    request_id: str
    tenant_id: str
    actor: Actor
    chosen: Chosen
    stream: bool
    received_at: datetime
    completed_at: datetime
    request_digest: bytes
    response_digest: bytes
    status: Status
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    latency_ms: int
    ttft_ms: int | None
    policy_version: int
    policy_digest: str
    findings: Mapping[str, int]
    price: tuple[str, Price]
    is_estimated: bool = False
    problem: str = ""
    texts: tuple[bytes, bytes, int] | None = field(default=None, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its line, which takes a quarter of the time, or else as its fields.

        Outcomes travel to the process that writes them.
        """
        return (Outcome, _FIELDS(self)) if self.texts else (_read_line, (self.line(),))

    def line(self) -> bytes:
        """The outcome as JSON without a line break; see `read_outcome`.

        Raises:
            TypeError: It has texts, which stand nowhere unencrypted.
        """
        if self.texts:
            raise TypeError("texts are kept encrypted or not at all")
        return orjson.dumps(self, default=_plain)

    @property
    def key_id(self) -> str:
        """Id of the API key that asked."""
        return self.actor.id.removeprefix("key:")

    @property
    def has_receipt(self) -> bool:
        """Whether something was answered that a receipt can bind."""
        return self.status is not Status.ERROR

    @property
    def is_partial(self) -> bool:
        """Whether the answer ended before the model did."""
        return self.status is Status.PARTIAL

    def cost_micro(self) -> int:
        """What it costs at the prices of its admission, micro-USD."""
        return cost_micro(self.price[1], self.prompt_tokens, self.completion_tokens)

    def commitments(self, salt: bytes) -> tuple[str, str]:
        """Salted commitments to request and response, hex.

        Args:
            salt: 32 random bytes; kept with the receipt, deleted to forget.
        """
        request = commitment("request", salt, self.request_digest)
        return request, commitment("response", salt, self.response_digest)

    def action(self) -> str:
        """The verb of the audit event."""
        verbs = {Status.OK: "answered", Status.PARTIAL: "cut_off", Status.ERROR: "failed"}
        return f"inference.{verbs[self.status]}"

    def details(self, salt: bytes) -> dict[str, Any]:
        """The audit event's details: digests and counts, no content."""
        request, response = self.commitments(salt)
        chosen = self.chosen
        details: dict[str, Any] = {
            "alias": chosen.alias,
            "served": chosen.model.served,
            "adapter_digest": chosen.model.adapter_digest,
            "arm": chosen.arm.value,
            "rollout_id": chosen.rollout_id,
            "percent": chosen.percent,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_micro": self.cost_micro(),
            "price_version": self.price[0],
            "finish_reason": self.finish_reason,
            "stream": self.stream,
            "request_commitment": request,
            "policy_version": self.policy_version,
        }
        if self.findings:
            details["findings"] = dict(self.findings)
        if self.has_receipt:
            details["response_commitment"] = response
        if self.is_estimated:
            details["tokens_counted_by"] = "gateway"
        if self.problem:
            details["problem"] = self.problem
        return details


def read_outcome(told: Mapping[str, Any]) -> Outcome:
    """The outcome that a line tells of.

    Args:
        told: The parsed JSON of `Outcome.line`.

    Raises:
        KeyError, TypeError, ValueError: It is none.
    """
    actor, (version, price) = told["actor"], told["price"]
    grants = {
        tenant_id: frozenset(Role(role) for role in roles)
        for tenant_id, roles in actor["grants"].items()
    }
    return Outcome(
        **{
            **told,
            "actor": Actor(**{**actor, "grants": grants}),
            "chosen": _chosen(told["chosen"]),
            "received_at": datetime.fromisoformat(told["received_at"]),
            "completed_at": datetime.fromisoformat(told["completed_at"]),
            "request_digest": bytes.fromhex(told["request_digest"]),
            "response_digest": bytes.fromhex(told["response_digest"]),
            "status": Status(told["status"]),
            "price": (version, Price(**price)),
        }
    )


def _chosen(told: Mapping[str, Any]) -> Chosen:
    instead_of = told["instead_of"]
    return Chosen(
        **{
            **told,
            "model": Model(**told["model"]),
            "arm": Arm(told["arm"]),
            "instead_of": None if instead_of is None else _chosen(instead_of),
        }
    )


def _plain(value: object) -> object:
    """What JSON has no word for."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _read_line(line: bytes) -> Outcome:
    return read_outcome(orjson.loads(line))


_FIELDS = attrgetter(*(one.name for one in fields(Outcome)))
