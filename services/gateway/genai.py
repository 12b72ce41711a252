"""OpenTelemetry's names for generative AI, as Prometheus writes them.

Dashboards that are made for these names show this gateway without a change. Counted in plain
numbers on the event loop and put together only when somebody scrapes.

Source: github.com/open-telemetry/semantic-conventions-genai, metrics (status: development).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from services.gateway.outcome import Outcome, Status
from services.rollouts.models import Arm

OWN, OTHER = "param_console", "fallback"

_SECONDS = tuple(0.01 * 2**power for power in range(14))
_TOKENS = tuple(4**power for power in range(14))
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_EACH = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
_LABELS = (
    "gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model",
    "gen_ai_response_model",
)  # fmt: skip
Labels = tuple[str, ...]


@dataclass(slots=True)
class _Counts:
    """One histogram's one child."""

    buckets: list[int]
    total: float = 0.0


@dataclass
class _Histogram:
    """A histogram without locks; only the event loop writes and reads it."""

    name: str
    text: str
    bounds: Sequence[float]
    labels: Labels
    children: dict[Labels, _Counts] = field(default_factory=dict)

    def observe(self, labels: Labels, value: float) -> None:
        """Count one value."""
        child = self.children.get(labels)
        if child is None:
            child = self.children[labels] = _Counts([0] * (len(self.bounds) + 1))
        child.buckets[bisect_left(self.bounds, value)] += 1
        child.total += value

    def family(self) -> HistogramMetricFamily:
        """As Prometheus takes it: buckets that include the smaller ones."""
        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for labels, child in self.children.items():
            so_far, buckets = 0, []
            names = [*(f"{float(bound):g}" for bound in self.bounds), "+Inf"]
            for name, count in zip(names, child.buckets, strict=True):
                so_far += count
                buckets.append((name, so_far))
            family.add_metric(labels, buckets, sum_value=child.total)
        return family


class GenAi(Collector):  # type: ignore[misc]
    """The `gen_ai_*` histograms."""

    def __init__(self) -> None:
        self._duration = _Histogram(
            "gen_ai_server_request_duration_seconds", "GenAI request duration", _SECONDS,
            (*_LABELS, "error_type"),
        )  # fmt: skip
        self._first = _Histogram(
            "gen_ai_server_time_to_first_token_seconds", "Time to the first token of a stream",
            _FIRST, _LABELS,
        )  # fmt: skip
        self._each = _Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time for each output token after the first", _EACH, _LABELS,
        )  # fmt: skip
        self._tokens = _Histogram(
            "gen_ai_client_token_usage", "Tokens as they are billed", _TOKENS,
            (*_LABELS, "gen_ai_token_type"),
        )  # fmt: skip

    def answered(self, outcome: Outcome) -> None:
        """Count a recorded outcome."""
        chosen = outcome.chosen
        provider = OTHER if chosen.arm is Arm.FALLBACK else OWN
        labels = ("chat", provider, chosen.alias, chosen.model.served)
        error = ""
        if outcome.status is not Status.OK:
            error = outcome.problem or outcome.finish_reason
        seconds = outcome.latency_ms / 1000
        self._duration.observe((*labels, error), seconds)
        if outcome.status is Status.ERROR:
            return
        self._tokens.observe((*labels, "input"), outcome.prompt_tokens)
        self._tokens.observe((*labels, "output"), outcome.completion_tokens)
        if outcome.ttft_ms is None:
            return
        first = outcome.ttft_ms / 1000
        self._first.observe(labels, first)
        if outcome.completion_tokens > 1:
            self._each.observe(labels, (seconds - first) / (outcome.completion_tokens - 1))

    def collect(self) -> Iterator[Metric | Any]:
        """All families, for one scrape."""
        for histogram in (self._duration, self._first, self._each, self._tokens):
            yield histogram.family()
