"""Leads the processes of a run on several devices: one for each, started by `accelerate launch`.

The leader is the run's process for everybody else: it holds the lock, hears SIGTERM, and writes
`result.json`. It loads no torch. The group's processes (`services.training.rank`) train; the first
of them writes curve, checkpoints and adapter. They are told to stop by the file `stop`, on which
they agree after a step, so that none waits for another that has left.

    rank-N.json     how process N ended: written by it last, read by the leader
    ranks.lock      shared by the processes of a group while they live

A group whose leader is killed dies with it, and the next leader waits for that lock, so two groups
never train one run. On several hosts each has a leader; the first one's is the run's process.
"""

from __future__ import annotations

import ctypes
import fcntl
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from services.errors import ConsoleError
from services.training.folder import STOP, RunFolder

MODULE = "services.training.rank"
LOCK = "ranks.lock"
POLL_S = 0.2
PORT = 29400
"""Where the processes of several hosts meet, unless the cluster names another port."""
_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of linux/prctl.h."""


class GroupDied(ConsoleError):
    """The processes of a run ended without a word; the run may go on from its last checkpoint."""

    code = "job_failed"


class Switch(Protocol):
    """Tells whether somebody wants the run to end: by an exception until it is in training."""

    in_training: bool

    @property
    def asked(self) -> bool:
        """Whether somebody does."""
        ...


@dataclass(frozen=True)
class Group:
    """The processes of one run, and this host's part of them.

    Attributes:
        processes: On this host, and on each other one.
        nodes: Hosts.
        node: Number of this host; 0 holds the run's lock.
        meet: Address and port of the first host, where there are several.
    """

    processes: int
    nodes: int = 1
    node: int = 0
    meet: str = ""

    @property
    def is_single(self) -> bool:
        """Whether one process is all, which then needs no leader."""
        return self.processes * self.nodes == 1


def command(run_dir: Path, group: Group) -> list[str]:
    """How this host's processes are started."""
    several = ["--num_machines", str(group.nodes), "--machine_rank", str(group.node)]
    host, _, port = group.meet.partition(":")
    meeting = ["--main_process_ip", host, "--main_process_port", port or str(PORT)]
    return [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu",
        "--num_processes", str(group.processes * group.nodes),
        *several, *(meeting if group.nodes > 1 else ["--main_process_port", "0"]),
        # Precision and device are the run's own; a file of this account must not change them.
        "--mixed_precision", "no", "--dynamo_backend", "no",
        "--module", MODULE, str(run_dir),
    ]  # fmt: skip


def lead(
    folder: RunFolder, switch: Switch, group: Group, *, told: Sequence[str] = ()
) -> dict[str, Any]:
    """Start this host's processes and stay until they have ended.

    Args:
        told: What is started, instead of `command`.

    Returns:
        How the run ended, as its first process says, with the memory of all of them.

    Raises:
        GroupDied: They ended and none of them said why.
    """
    with _alone(folder, group):
        switch.in_training = True
        process = subprocess.Popen(
            told or command(folder.path, group),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a signal to the leader's group is the leader's to hand on
            preexec_fn=die_with_parent,
        )
    while True:
        try:
            code = process.wait(POLL_S)
            break
        except subprocess.TimeoutExpired:
            if switch.asked:
                _end(folder, process)
    return _outcome(folder, group, code, asked=switch.asked)


def die_with_parent() -> None:
    """Have the system kill this process once its parent is gone (Linux; elsewhere it lives on)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def take_part(folder: RunFolder) -> Any:
    """Hold the group's lock, shared, as long as the returned file is open."""
    file = (folder.path / LOCK).open("a", encoding="utf-8")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


@contextmanager
def _alone(folder: RunFolder, group: Group) -> Iterator[None]:
    """Once no process of an earlier group lives; what such processes reported is forgotten."""
    if group.node:
        yield  # the first host's leader has seen to it
        return
    with (folder.path / LOCK).open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
    folder.remove(*(path.name for path in folder.path.glob("rank-*.json")))
    yield


def _end(folder: RunFolder, process: subprocess.Popen[bytes]) -> None:
    """Have the processes save their state and end; at once where there is none to save."""
    (folder.path / STOP).touch()
    if (folder.read("stage.json") or {}).get("stage") != "training":
        process.terminate()


def _outcome(folder: RunFolder, group: Group, code: int, *, asked: bool) -> dict[str, Any]:
    found = [folder.read(path.name) for path in sorted(folder.path.glob("rank-*.json"))]
    reports = [report for report in found if report is not None]
    memory = {"peak_rss_mb": sum(int(report["peak_rss_mb"]) for report in reports)}
    failed = [report for report in reports if report["outcome"] == "failed"]
    if failed:
        first = min(failed, key=lambda report: float(report["at"]))
        return {"outcome": "failed", "error": first["error"], **memory}
    mine = folder.read("rank-0.json")
    if code == 0 and mine is not None:
        del mine["at"]
        return {**mine, **memory, "processes": group.processes * group.nodes}
    if asked:
        return {"outcome": "stopped"}
    raise GroupDied(f"the run's {group.processes} processes ended without a word (status {code})")
