"""Counters in Prometheus' text form, under vLLM's names: one dashboard reads either engine."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from services.inference.engine.scheduler import Scheduler


def exposition(model: str, scheduler: Scheduler) -> str:
    """The present counters as text."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(model, scheduler))
    text: str = generate_latest(registry).decode()
    return text


class _Snapshot:
    def __init__(self, model: str, scheduler: Scheduler) -> None:
        self._model = model
        self._scheduler = scheduler

    def collect(self) -> Iterable[Metric]:
        """Called by the registry."""
        counts = self._scheduler.counts
        for name, text, value in (
            ("num_requests_running", "Requests that run.", self._scheduler.running),
            ("num_requests_waiting", "Requests that wait.", self._scheduler.waiting),
        ):
            gauge = GaugeMetricFamily(f"vllm:{name}", text, labels=["model_name"])
            gauge.add_metric([self._model], value)
            yield gauge
        for name, text, value in (
            ("prompt_tokens", "Tokens of prompts that were read.", counts.prompt_tokens),
            ("generation_tokens", "Tokens that were drawn.", counts.generation_tokens),
        ):
            counter = CounterMetricFamily(f"vllm:{name}", text, labels=["model_name"])
            counter.add_metric([self._model], value)
            yield counter
        done = CounterMetricFamily(
            "vllm:request_success",
            "Requests that ended, by how.",
            labels=["finished_reason", "model_name"],
        )
        for reason, number in sorted(counts.finished.items()):
            done.add_metric([reason, self._model], number)
        yield done
