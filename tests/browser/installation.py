"""A whole installation on loopback: set up, started and stopped as a person would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from services import bootstrap
from services.bootstrap import Services
from services.inference.models import BaseModel
from services.settings import Settings, load
from tests.browser.waiting import until
from tests.support import ROOT, free_port

PARAM = Path(sys.executable).with_name("param")
STOP_S = 120


@dataclass
class Installation:
    """A `PARAM_HOME` on free ports, and the `param up` that runs on it.

    Attributes:
        passwords: By username, as `param setup --demo` printed them once.
        process: The supervisor.
    """

    settings: Settings
    environment: dict[str, str]
    passwords: dict[str, str]
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def param(self, *arguments: str) -> Any:
        """Run a `param` command with `--json` and give what it printed."""
        return _param(self.environment, *arguments)

    @contextmanager
    def services(self) -> Iterator[Services]:
        """The services of this installation, in this process."""
        built = bootstrap.build(self.settings)
        try:
            yield built
        finally:
            built.engine.close()
            built.close()

    def start(self) -> None:
        """Run `param up` and wait until everything is ready."""
        said = self.settings.home / "up.jsonl"
        with said.open("wb") as out:
            self.process = process = subprocess.Popen(
                [PARAM, "up", "--json"], cwd=ROOT, env=self.environment, stdout=out, stderr=out
            )

        def ready() -> bool:
            assert process.poll() is None, f"param up ended: {said.read_text()[-1500:]}"
            lines = said.read_text().splitlines()
            return any(json.loads(line)["name"] == "all" for line in lines if line.endswith("}"))

        until(ready, "param up is ready")
        until(lambda: self.answers("gateway"), "the gateway sees the engine")

    def stop(self) -> None:
        """End `param up` as Ctrl-C does; it must obey, and leave in order."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(STOP_S) == 0

    def pid(self, name: str) -> int:
        """Process id of one of the five programs; 0 while it is not running."""
        try:
            record = (self.settings.home / "run" / f"{name}.pid").read_bytes()
            return int(json.loads(record)["pid"])
        except (FileNotFoundError, ValueError):  # Between two starts, or half a record.
            return 0

    def kill(self, name: str) -> int:
        """SIGKILL one program; its process id."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def await_restart(self, name: str, old: int) -> None:
        """Wait until the supervisor has a fresh program of this name that answers."""
        until(
            lambda: self.pid(name) not in {0, old} and self.answers(name),
            f"{name} is back after its end",
        )

    def answers(self, name: str) -> bool:
        """Whether a program can do its work now."""
        if name == "worker":
            ready = self.settings.home / "run" / "worker.ready"
            return ready.is_file() and ready.read_text() == str(self.pid(name))
        urls = {
            "gateway": f"{self.settings.gateway_url}/readyz",
            "engine": f"{self.settings.engine_url}/health",
            "console": f"{self.settings.console_url}/_stcore/health",
            "playground": f"{self.settings.playground_url}/healthz",
        }
        try:
            return httpx.get(urls[name], timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


def environment(home: Path) -> dict[str, str]:
    """Settings of an installation in `home` on free ports, whatever the machine's own are."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PARAM_")}
    home.mkdir(parents=True, exist_ok=True)
    config = home.with_suffix(".toml")
    config.touch()
    return own | {
        "PARAM_HOME": str(home),
        "PARAM_CONFIG": str(config),
        "PARAM_DATABASE_URL": f"sqlite:///{home / 'param.db'}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}",
        **{
            f"PARAM_{name}_PORT": str(free_port())
            for name in ("GATEWAY", "ENGINE", "CONSOLE", "PLAYGROUND")
        },
    }


@contextmanager
def installation(home: Path, model: BaseModel) -> Iterator[Installation]:
    """Set up and start everything in `home`; end it afterwards."""
    told = environment(home)
    shutil.copytree(model.path, home / "models" / model.name, copy_function=_linked)
    made = _param(told, "setup", "--demo")
    passwords = {user["username"]: user["password"] for user in made["users"]}
    installed = Installation(load(told), told, passwords)
    try:
        installed.start()
        yield installed
        installed.stop()
    finally:
        if installed.process is not None and installed.process.poll() is None:
            installed.process.kill()
            installed.process.wait()


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
