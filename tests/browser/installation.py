"""A whole installation on loopback: set up, started and stopped as a person would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services.inference.models import BaseModel
from services.settings import Settings, load
from tests.support import ROOT, free_port

PARAM = Path(sys.executable).with_name("param")
READY_S = 240


@dataclass
class Installation:
    """A running `param up`.

    Attributes:
        passwords: By username, as `param setup --demo` printed them once.
    """

    settings: Settings
    environment: dict[str, str]
    passwords: dict[str, str]
    process: subprocess.Popen[bytes]

    def param(self, *arguments: str) -> Any:
        """Run a `param` command with `--json` and give what it printed."""
        return _param(self.environment, *arguments)

    def pid(self, name: str) -> int:
        """Process id of one of the five programs."""
        return int(json.loads((self.settings.home / "run" / f"{name}.pid").read_text())["pid"])

    def kill(self, name: str) -> int:
        """SIGKILL one program; its process id."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def await_restart(self, name: str, old: int) -> None:
        """Wait until the supervisor has a fresh program of this name that answers."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self.pid(name) != old and self._answers(name):
                return
            time.sleep(0.2)
        raise AssertionError(f"{name} did not come back within {READY_S} s")

    def _answers(self, name: str) -> bool:
        urls = {
            "gateway": f"{self.settings.gateway_url}/readyz",
            "engine": f"{self.settings.engine_url}/health",
            "console": f"{self.settings.console_url}/_stcore/health",
            "playground": f"{self.settings.playground_url}/healthz",
        }
        if name not in urls:
            return True
        try:
            return httpx.get(urls[name], timeout=2).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def installation(home: Path, model: BaseModel) -> Iterator[Installation]:
    """Set up and start everything in `home` on free ports; end it afterwards."""
    environment = os.environ | {
        "PARAM_HOME": str(home),
        "PARAM_DATABASE_URL": f"sqlite:///{home / 'param.db'}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}",
        **{
            f"PARAM_{name}_PORT": str(free_port())
            for name in ("GATEWAY", "ENGINE", "CONSOLE", "PLAYGROUND")
        },
    }
    shutil.copytree(model.path, home / "models" / model.name, copy_function=_linked)
    made = _param(environment, "setup", "--demo")
    said = home / "up.jsonl"
    with said.open("wb") as out:
        process = subprocess.Popen(
            [PARAM, "up", "--json"], cwd=ROOT, env=environment, stdout=out, stderr=out
        )
    try:
        _await_ready(process, said)
        yield Installation(
            settings=load(environment),
            environment=environment,
            passwords={user["username"]: user["password"] for user in made["users"]},
            process=process,
        )
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)


def _param(environment: dict[str, str], *arguments: str) -> Any:
    done = subprocess.run(
        [PARAM, *arguments, "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"param {' '.join(arguments)}: {done.stderr.decode()[-800:]}")
    return json.loads(done.stdout)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _await_ready(process: subprocess.Popen[bytes], said: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        lines = [json.loads(line) for line in said.read_text().splitlines() if line[:1] == "{"]
        if any(line["name"] == "all" for line in lines):
            return
        time.sleep(0.2)
    raise AssertionError("param up was not ready: " + said.read_text()[-1500:])
