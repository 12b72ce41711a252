"""Real engine processes on loopback, for the tests that hold for every engine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from services.errors import MissingModel
from services.inference.models import BaseModel
from services.inference.vllm import VllmOptions, command, find_python, has_nvidia_gpu
from services.settings import load
from tests.conftest import free_port, require
from tests.models import ROOT

CONTEXT = 512
START_S = 280


@dataclass(frozen=True)
class RunningEngine:
    """An engine that answers.

    Attributes:
        kind: `embedded` or `vllm`.
        strength: How strong a random adapter must be to change this base model's answers.
    """

    kind: str
    url: str
    base: BaseModel
    process: subprocess.Popen[bytes]
    strength: float


@contextmanager
def embedded(base: BaseModel, folder: Path, *, strength: float) -> Iterator[RunningEngine]:
    """`python -m services.inference.engine` over a base model."""
    port = free_port()
    variables = {
        "PARAM_HOME": str(folder),
        "PARAM_BASE_MODEL": str(base.path),
        "PARAM_ENGINE_PORT": str(port),
        "PARAM_TORCH_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    argv = [sys.executable, "-m", "services.inference.engine", "--max-model-len", str(CONTEXT)]
    with _running(argv, variables, folder, port) as process:
        yield RunningEngine("embedded", f"http://127.0.0.1:{port}", base, process, strength)


@contextmanager
def vllm(base: BaseModel, folder: Path, *, strength: float) -> Iterator[RunningEngine]:
    """Real vLLM, by the command line that the console starts it with."""
    port = free_port()
    python = vllm_python()
    settings = load({"PARAM_ENGINE_PORT": str(port), "PARAM_HOME": str(folder)}, directory=folder)
    options = VllmOptions(has_gpu=has_nvidia_gpu(), max_model_len=CONTEXT)
    argv = list(command(settings, base, python, options).argv)
    with _running(argv, {}, folder, port) as process:
        yield RunningEngine("vllm", f"http://127.0.0.1:{port}", base, process, strength)


def vllm_python() -> Path:
    """The interpreter of the environment that holds vLLM, or skip."""
    try:
        return find_python(ROOT, os.environ.get("PARAM_VLLM_PYTHON"))
    except MissingModel as error:
        require(False, f"vLLM ({error.message})")
        raise


@contextmanager
def _running(
    argv: list[str], variables: dict[str, str], folder: Path, port: int
) -> Iterator[subprocess.Popen[bytes]]:
    log = folder / "engine.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, env={**os.environ, **variables}, stdout=output, stderr=output, cwd=ROOT
        )
    try:
        _wait(process, port, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    told = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    pytest.fail(f"the engine did not start (exit {process.poll()}): {told}")
