"""Numbers for Prometheus. Labels name tenants, arms and outcomes, never users or content."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from services.errors import ConsoleError
from services.gateway.answers import Refused
from services.gateway.breaker import Breaker, State
from services.gateway.exchange import Exchange
from services.gateway.genai import GenAi
from services.gateway.outcome import Outcome

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_STATES = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "param_gateway_requests", "Requests by how they ended", ["tenant", "arm", "status"],
            registry=registry,
        )  # fmt: skip
        self._refusals = Counter(
            "param_gateway_refusals", "Requests refused or failed, by error code",
            ["tenant", "code"], registry=registry,
        )  # fmt: skip
        self._tokens = Counter(
            "param_gateway_tokens", "Tokens as the engine counted them", ["tenant", "kind"],
            registry=registry,
        )  # fmt: skip
        self._cost = Counter(
            "param_gateway_cost_micro", "Cost in micro-units", ["tenant"], registry=registry
        )
        self._latency = Histogram(
            "param_gateway_request_seconds", "From the request's last byte to the engine's last",
            ["arm"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._ttft = Histogram(
            "param_gateway_first_byte_seconds", "From the request's last byte to a stream's first",
            ["arm"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._findings = Counter(
            "param_gateway_findings", "What the guardrails found", ["tenant", "check", "action"],
            registry=registry,
        )  # fmt: skip
        self._batch = Histogram(
            "param_gateway_commit_outcomes", "Outcomes that shared one commit", buckets=_BATCH,
            registry=registry,
        )  # fmt: skip
        self._commit = Histogram(
            "param_gateway_commit_seconds", "Duration of one commit", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._failures = Counter(
            "param_gateway_upstream_failures", "Requests that an engine failed at, by reason",
            ["upstream", "reason"], registry=registry,
        )  # fmt: skip
        self._fallbacks = Counter(
            "param_gateway_fallbacks", "Requests that the second engine answered", ["tenant"],
            registry=registry,
        )  # fmt: skip
        self._breakers = Gauge(
            "param_gateway_breaker_state", "0 closed, 1 half open, 2 open", ["upstream"],
            registry=registry,
        )  # fmt: skip
        self._genai = GenAi()
        registry.register(self._genai)
        # A look-up of a labelled child takes a lock and builds a key; children live for ever.
        self._request = cache(self._requests.labels)
        self._token = cache(self._tokens.labels)
        self._cost_of = cache(self._cost.labels)
        self._latency_of = cache(self._latency.labels)
        self._ttft_of = cache(self._ttft.labels)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read when somebody asks."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def watch_breaker(self, breaker: Breaker) -> None:
        """Show the state of an engine's breaker."""
        self._breakers.labels(breaker.name).set_function(lambda: _STATES[breaker.state])

    def failed(self, upstream: str, reason: str) -> None:
        """Count a request that an engine failed at."""
        self._failures.labels(upstream, reason).inc()

    def fell_back(self, tenant_id: str) -> None:
        """Count a request that the second engine answers."""
        self._fallbacks.labels(tenant_id).inc()

    def answered(self, outcome: Outcome) -> None:
        """Count a recorded outcome."""
        tenant, arm = outcome.tenant_id, outcome.chosen.arm.value
        self._request(tenant, arm, outcome.status.value).inc()
        self._token(tenant, "prompt").inc(outcome.prompt_tokens)
        self._token(tenant, "completion").inc(outcome.completion_tokens)
        self._cost_of(tenant).inc(outcome.cost_micro())
        self._genai.answered(outcome)
        self._latency_of(arm).observe(outcome.latency_ms / 1000)
        for found, number in outcome.findings.items():
            check, *_, action = found.split(".")
            self._findings.labels(tenant, check, action).inc(number)
        if outcome.ttft_ms is not None:
            self._ttft_of(arm).observe(outcome.ttft_ms / 1000)

    def refused(self, exchange: Exchange, error: ConsoleError) -> None:
        """Count a request that was answered with an error."""
        tenant = exchange.tenant.id if exchange.tenant is not None else ""
        # An engine's own codes are free text, and a label must not be.
        code = f"engine_{error.http_status}" if isinstance(error, Refused) else error.code
        self._refusals.labels(tenant, code).inc()

    def gone(self, exchange: Exchange) -> None:
        """Count a client that went away."""
        tenant = exchange.tenant.id if exchange.tenant is not None else ""
        self._refusals.labels(tenant, "client_gone").inc()

    def committed(self, outcomes: int, seconds: float) -> None:
        """Count one group commit."""
        self._batch.observe(outcomes)
        self._commit.observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return bytes(generate_latest(self.registry))
