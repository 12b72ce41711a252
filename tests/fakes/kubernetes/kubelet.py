"""A node that runs pods as real processes of this machine.

A container's command is run as it stands, with `python` meaning the tests' own interpreter, unless
`image` says what stands behind a command there. Volumes are not mounted but only checked: a path
that no volume of the pod covers is not there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fakes.kubernetes.cluster import SimulatedCluster

ROOT = Path(__file__).parents[3]


class Kubelet:
    """Starts, watches and ends the processes of pods.

    Attributes:
        image: What a module named in a command really is: words by module name.
    """

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.image: dict[str, list[str]] = {}
        self._logs = Path(tempfile.mkdtemp(prefix="simulated-kubelet-"))

    def start(self, pod: dict[str, Any]) -> None:
        """Run the pod's one container, and tell the cluster when it ends."""
        uid = pod["metadata"]["uid"]
        container = pod["spec"]["containers"][0]
        command = [*container.get("command", []), *container.get("args", [])]
        command = [word for part in command for word in self.image.get(part, [part])]
        command = [sys.executable if part == "python" else part for part in command]
        env = {
            **os.environ,
            **{one["name"]: one.get("value", "") for one in container.get("env", [])},
        }
        with self.log(uid).open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=env, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        self._processes[uid] = process
        threading.Thread(target=self._wait, args=(pod, process), daemon=True).start()

    def log(self, uid: str) -> Path:
        return self._logs / uid

    def stop(self, uid: str, grace_s: float) -> None:
        """End a pod's process as a deletion does: SIGTERM, then SIGKILL."""
        process = self._processes.get(uid)
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        killer = threading.Timer(grace_s, self.kill, (uid,))
        killer.daemon = True
        killer.start()

    def kill(self, uid: str) -> None:
        """End a pod's process without a word, as a lost node or too little memory does."""
        process = self._processes.get(uid)
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    def wait(self, uid: str) -> None:
        process = self._processes.get(uid)
        if process is not None:
            process.wait()

    def close(self) -> None:
        for uid, process in self._processes.items():
            self.kill(uid)
            process.wait()

    def _wait(self, pod: dict[str, Any], process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        with self._cluster.lock:
            found = self._cluster.objects.get(self._cluster.key_of(pod))
            if found is not None:
                reason = "Completed" if code == 0 else "OOMKilled" if code == -9 else "Error"
                ended = {"exitCode": code if code >= 0 else 128 - code, "reason": reason}
                status = {
                    **found["status"],
                    "phase": "Succeeded" if code == 0 else "Failed",
                    "containerStatuses": [{"name": "node", "state": {"terminated": ended}}],
                }
                self._cluster.change(found, status=status)
                if found["metadata"].get("deletionTimestamp"):
                    self._cluster.remove(found)
            self._cluster.settle()
