"""The embedded engine as a process: it says in one sentence why it cannot start."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.inference.engine.__main__ import main
from services.inference.models import BaseModel
from tests.conftest import free_port


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


def start(monkeypatch: pytest.MonkeyPatch, home: Path, **variables: object) -> int:
    monkeypatch.setattr("sys.argv", ["engine"])
    monkeypatch.setenv("PARAM_HOME", str(home))
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    return main()


def test_a_port_that_is_taken_is_told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    taken_port: int,
) -> None:
    assert start(monkeypatch, tmp_path, PARAM_ENGINE_PORT=taken_port) == 1
    told = capsys.readouterr().err.strip()
    assert told.startswith(
        f"engine: PARAM_ENGINE_PORT: expected to listen on 127.0.0.1:{taken_port}, found "
    )
    assert "\n" not in told


def test_a_base_model_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert start(monkeypatch, tmp_path, PARAM_ENGINE_PORT=free_port()) == 1
    assert "fetch it with: param model pull smollm2-135m-instruct" in capsys.readouterr().err


def test_a_base_model_without_weights_is_told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tiny_model: BaseModel,
) -> None:
    (tmp_path / "config.json").write_bytes((tiny_model.path / "config.json").read_bytes())
    variables = {"PARAM_BASE_MODEL": tmp_path, "PARAM_ENGINE_PORT": free_port()}
    assert start(monkeypatch, tmp_path, **variables) == 1
    assert "found no complete model" in capsys.readouterr().err
