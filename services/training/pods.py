"""What a pod of a run tells: whether it lives, why it waits, of what it died."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.training.folder import ALREADY_RUNNING

MAX_WORDS = 300
KILLED = 137
"""Status of a process that SIGKILL ended, as shells and containers report it."""


class Pod:
    """One pod, as the cluster describes it.

    Args:
        found: The object.
    """

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._status = found.get("status", {})
        self.name = str(found["metadata"]["name"])

    @property
    def is_lively(self) -> bool:
        """Whether it runs or may still run; also while it is being ended."""
        return self._status.get("phase") in {"Pending", "Running", "Unknown"}

    @property
    def is_running(self) -> bool:
        """Whether its process has begun; one on a lost node counts, for it may live on."""
        return self._status.get("phase") in {"Running", "Unknown"}

    @property
    def why_waiting(self) -> str:
        """Why it has not begun; empty where nothing is said."""
        for one in self._states("waiting"):
            return _cut(f"{one.get('reason', '')}: {one.get('message', '')}".rstrip(": "))
        for condition in self._status.get("conditions", []):
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                return _cut(str(condition.get("message") or condition.get("reason", "")))
        return ""

    @property
    def death(self) -> tuple[str, bool] | None:
        """Of what it died, and whether trying again can help; None where it did not die."""
        if self._status.get("phase") != "Failed":
            return None
        if self._is_disrupted():
            words = self._status.get("message") or self._status.get("reason") or "disrupted"
            return f"the cluster took its pod away ({_cut(str(words))})", True
        for one in self._states("terminated"):
            return _death(one)
        return _cut(f"its pod failed: {self._status.get('reason') or 'no reason given'}"), True

    def _states(self, name: str) -> list[Mapping[str, Any]]:
        statuses = self._status.get("containerStatuses", [])
        return [one["state"][name] for one in statuses if name in one.get("state", {})]

    def _is_disrupted(self) -> bool:
        if self._status.get("reason") in {"Evicted", "Preempted", "NodeLost", "Shutdown"}:
            return True
        return any(
            one.get("type") == "DisruptionTarget" and one.get("status") == "True"
            for one in self._status.get("conditions", [])
        )


def verdict(final: tuple[str, str], pods: list[Pod], volume: str) -> tuple[str, bool]:
    """Why a job that is through left no result, and whether trying again can help.

    Args:
        final: The job's last condition: its type, and the words with it.
        pods: What is left of its pods.
        volume: Name of the volume that the result should lie on.
    """
    kind, words = final
    if kind == "Complete":
        return (
            f"its pod ended in order but left no result.json here: is the volume {volume} the one "
            "that PARAM_HOME lies on?",
            False,
        )
    deaths = [pod.death for pod in pods if pod.death is not None]
    if deaths:
        return deaths[-1]
    return _cut(f"the cluster ended it: {words or 'no reason given'}"), "Deadline" not in words


def _death(state: Mapping[str, Any]) -> tuple[str, bool]:
    code = state.get("exitCode")
    if state.get("reason") == "OOMKilled":
        return (
            "its container ran out of memory; lower batch_size or max_length, or raise "
            "PARAM_CLUSTER_MEMORY",
            False,
        )
    if code == KILLED:
        return "its process was killed; too little memory is the usual cause", True
    if code == ALREADY_RUNNING:
        return "another process holds the run's folder", True
    words = _cut(str(state.get("message") or state.get("reason") or ""))
    return f"its process ended with status {code}" + (f" ({words})" if words else ""), True


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_WORDS else f"{line[:MAX_WORDS]} …"
