"""What a pod tells, in one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from services.training.pods import Pod, verdict


def pod(phase: str, **status: Any) -> Pod:
    return Pod({"metadata": {"name": "p"}, "status": {"phase": phase, **status}})


def terminated(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "node", "state": {"terminated": state}}]}


def waiting(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "node", "state": {"waiting": state}}]}


@pytest.mark.parametrize(
    ("found", "words", "retry"),
    [
        (pod("Failed", **terminated(exitCode=137, reason="OOMKilled")), "out of memory", False),
        (pod("Failed", **terminated(exitCode=137, reason="Error")), "was killed", True),
        (pod("Failed", **terminated(exitCode=75, reason="Error")), "another process holds", True),
        (pod("Failed", **terminated(exitCode=1, reason="Error")), "status 1 (Error)", True),
        (pod("Failed", reason="Evicted", message="low on ephemeral-storage"), "took its pod", True),
        (
            pod("Failed", conditions=[{"type": "DisruptionTarget", "status": "True"}],
                **terminated(exitCode=143)),
            "took its pod away (disrupted)", True,
        ),
        (pod("Failed"), "no reason given", True),
    ],
)  # fmt: skip
def test_of_what_a_pod_died(found: Pod, words: str, retry: bool) -> None:
    died, again = verdict(("Failed", "BackoffLimitExceeded"), [found], "home")
    assert words in died
    assert again is retry


def test_a_pod_that_lives_or_ended_well_did_not_die() -> None:
    assert pod("Running").death is None
    assert pod("Succeeded").death is None


def test_a_job_without_pods_left_speaks_for_itself() -> None:
    died, again = verdict(("Failed", "DeadlineExceeded was active too long"), [], "home")
    assert died == "the cluster ended it: DeadlineExceeded was active too long"
    assert not again


def test_a_pod_on_a_lost_node_may_live_on() -> None:
    lost = pod("Unknown")
    assert lost.is_lively
    assert lost.is_running


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (pod("Pending"), ""),
        (pod("Pending", **waiting(reason="ErrImagePull", message="not found")),
         "ErrImagePull: not found"),
        (pod("Pending", **waiting(reason="ContainerCreating")), "ContainerCreating"),
        (pod("Pending", conditions=[{"type": "PodScheduled", "status": "False",
                                     "reason": "Unschedulable", "message": "0/3 nodes"}]),
         "0/3 nodes"),
        (pod("Pending", conditions=[{"type": "PodScheduled", "status": "True"}]), ""),
    ],
)  # fmt: skip
def test_why_a_pod_waits(found: Pod, words: str) -> None:
    assert found.why_waiting == words
    assert not found.is_running


def test_long_words_are_cut() -> None:
    died, _ = verdict(("Failed", ""), [pod("Failed", reason="Evicted", message="x" * 5000)], "home")
    assert len(died) < 400
