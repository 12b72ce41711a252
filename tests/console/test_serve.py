"""The supervisor over small stand-in programs: start, restart, stop, and its own death."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from console.processes import programs
from console.processes.ports import Port, require_free
from console.processes.probing import answers, last_line
from services.errors import MissingModel, NotFound, PortInUse, WrongConfiguration
from services.settings import Settings, load
from tests.conftest import free_port, require

FAKES = Path(__file__).parents[1] / "fakes"
PATIENCE_S = 20.0


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Running:
    """One supervisor process and what it has said so far."""

    def __init__(self, home: Path, told: list[dict[str, Any]]) -> None:
        self.home = home
        self.said = home / "said.jsonl"
        home.mkdir(parents=True, exist_ok=True)
        with self.said.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(FAKES / "supervisor.py"), str(home)],
                stdin=subprocess.PIPE,
                stdout=out,
                start_new_session=True,
            )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(told).encode())
        self.process.stdin.close()

    def lines(self) -> list[list[str]]:
        return [json.loads(line) for line in self.said.read_text().splitlines()]

    def heard(self, name: str, happening: str) -> list[str]:
        return [text for who, what, text in self.lines() if (who, what) == (name, happening)]

    def wait_for(self, name: str, happening: str, times: int = 1) -> list[str]:
        until(
            lambda: len(self.heard(name, happening)) >= times, f"{name} {happening}: {self.lines()}"
        )
        return self.heard(name, happening)

    def pid(self, name: str) -> int:
        return int(json.loads((self.home / "run" / f"{name}.pid").read_bytes())["pid"])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Running] = []

    def run(*told: dict[str, Any]) -> Running:
        running = Running(tmp_path / "home", list(told))
        started.append(running)
        return running

    yield run
    for running in started:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            time.sleep(0)
        try:
            running.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()


def standin(name: str, *options: str, port: int | None = None, **more: Any) -> dict[str, Any]:
    port = port or free_port()
    command = [sys.executable, "-S", str(FAKES / "program.py"), str(port), *options]
    url = f"http://127.0.0.1:{port}/health"
    return {"name": name, "command": command, "ready_url": url, "grace_s": 5.0, **more}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load({"PARAM_HOME": str(tmp_path)}, directory=tmp_path)


def test_each_program_gets_one_line_when_it_is_ready(start: Start) -> None:
    running = start(standin("gateway", shown="http://here"), standin("engine", stop_phase=2))
    running.wait_for("all", "ready")
    (line,) = running.heard("gateway", "ready")
    assert line.startswith("http://here (after ")
    assert len(running.heard("engine", "ready")) == 1


def test_a_stop_ends_the_engine_after_everything_else(start: Start) -> None:
    running = start(
        standin("engine", stop_phase=2), standin("gateway", stop_phase=1), standin("console")
    )
    running.wait_for("all", "ready")
    pids = [running.pid(name) for name in ("engine", "gateway", "console")]
    assert running.stop() == 0
    stopped = [who for who, what, _ in running.lines() if what == "stopped"]
    assert stopped == ["console", "gateway", "engine"]
    assert not any(lives(pid) for pid in pids)
    assert list((running.home / "run").glob("*.pid")) == []


def test_ctrl_c_stops_like_sigterm(start: Start) -> None:
    running = start(standin("console"))
    running.wait_for("all", "ready")
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(PATIENCE_S) == 0
    assert running.heard("console", "stopped") == ["ended"]


def test_a_program_that_ignores_the_signal_is_killed_after_its_grace(start: Start) -> None:
    running = start(standin("gateway", "--deaf", grace_s=0.3))
    running.wait_for("all", "ready")
    pid = running.pid("gateway")
    assert running.stop() == 0
    assert running.heard("gateway", "killed") == ["did not end in time and was killed"]
    assert not lives(pid)


def test_a_second_request_cuts_the_grace_short(start: Start) -> None:
    running = start(standin("gateway", "--deaf", grace_s=600.0))
    running.wait_for("all", "ready")
    running.process.send_signal(signal.SIGINT)
    running.process.send_signal(signal.SIGTERM)  # an echo of the first, not a second one
    time.sleep(1.2)
    assert running.process.poll() is None
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    ("number", "how"), [(signal.SIGKILL, "was ended by SIGKILL"), (signal.SIGUSR1, "ended (3)")]
)
def test_a_dead_program_is_reported_and_started_again(
    start: Start, number: signal.Signals, how: str
) -> None:
    running = start(standin("gateway"), standin("engine", stop_phase=2))
    running.wait_for("all", "ready")
    first, engine = running.pid("gateway"), running.pid("engine")
    os.kill(first, number)
    running.wait_for("gateway", "ready", times=2)
    assert running.heard("gateway", "ended") == [how]
    assert running.heard("gateway", "restarting") == ["in 0.1 s, for the 1st time"]
    assert running.pid("gateway") != first
    assert running.pid("engine") == engine


def test_each_failure_in_a_row_waits_twice_as_long(start: Start) -> None:
    running = start(standin("worker"))
    for times in (1, 2, 3):
        running.wait_for("worker", "ready", times=times)
        os.kill(running.pid("worker"), signal.SIGKILL)
    waits = [text.partition(",")[0] for text in running.wait_for("worker", "restarting", 3)]
    assert waits == ["in 0.1 s", "in 0.2 s", "in 0.4 s"]


def test_a_dead_program_takes_its_own_children_with_it(start: Start, tmp_path: Path) -> None:
    running = start(standin("engine", "--child", str(tmp_path / "child")))
    running.wait_for("all", "ready")
    child = int((tmp_path / "child").read_text())
    os.kill(running.pid("engine"), signal.SIGKILL)
    until(lambda: not lives(child), "the grandchild ends")


def test_a_program_that_never_starts_ends_the_supervisor_with_its_last_words(start: Start) -> None:
    running = start(
        standin("console"), standin("engine", "--exit-at-start", "1", "--say", "no GPU")
    )
    assert running.process.wait(PATIENCE_S) == 1
    (message,) = running.heard("supervisor", "unavailable")
    assert message.startswith("engine: expected it to start, but it ended (1): no GPU (more in ")
    assert len(running.heard("engine", "starting")) == 4
    assert running.heard("console", "stopped") == ["ended"]


def test_a_program_with_a_wrong_configuration_is_not_tried_again(start: Start) -> None:
    running = start(standin("gateway", "--exit-at-start", "2", "--say", "PARAM_X: expected Y"))
    assert running.process.wait(PATIENCE_S) == 1
    assert "PARAM_X: expected Y" in running.heard("supervisor", "unavailable")[0]
    assert len(running.heard("gateway", "starting")) == 1


def test_a_program_that_is_never_ready_is_started_again(start: Start) -> None:
    running = start(standin("engine", "--slow-start", "600", start_timeout_s=0.3))
    running.wait_for("engine", "restarting")
    assert running.heard("engine", "ended")[0] == "was not ready within 0.3 s"


def test_a_second_supervisor_on_one_home_is_refused(start: Start) -> None:
    first = start(standin("console"))
    first.wait_for("all", "ready")
    second = subprocess.run(
        [sys.executable, str(FAKES / "supervisor.py"), str(first.home)],
        input=b"[]",
        capture_output=True,
        check=False,
    )
    _, code, message = json.loads(second.stdout)
    assert code == "conflict"
    assert f"found process {first.process.pid}" in message
    assert first.process.poll() is None


def test_nothing_outlives_a_supervisor_that_was_killed(start: Start, tmp_path: Path) -> None:
    running = start(
        standin("gateway", grace_s=0.5),
        standin("engine", "--deaf", "--child", str(tmp_path / "child"), grace_s=0.5),
    )
    running.wait_for("all", "ready")
    pids = [running.pid("gateway"), running.pid("engine"), int((tmp_path / "child").read_text())]
    running.process.kill()
    running.process.wait()
    until(lambda: not any(lives(pid) for pid in pids), "programs and grandchildren end")


def kill_with_guard(running: Running, *kept: int) -> None:
    """End a supervisor and its guard so that neither can clear up."""
    for child in psutil.Process(running.process.pid).children():
        if child.pid not in kept:
            child.kill()
    running.process.kill()
    running.process.wait()


def test_the_kernel_ends_programs_where_the_guard_is_dead_too(start: Start) -> None:
    require(sys.platform == "linux", "Linux (PR_SET_PDEATHSIG)")
    running = start(standin("gateway"))
    running.wait_for("all", "ready")
    pid = running.pid("gateway")
    kill_with_guard(running, pid)
    until(lambda: not lives(pid), "the gateway ends")


def test_a_start_ends_what_a_killed_supervisor_left_behind(start: Start) -> None:
    told = standin("engine", "--deaf", grace_s=0.3)
    first = start(told)
    first.wait_for("all", "ready")
    left = first.pid("engine")
    kill_with_guard(first, left)
    assert lives(left)
    second = start(told)
    assert f"process {left}" in second.wait_for("engine", "leftover")[0]
    second.wait_for("all", "ready")
    assert not lives(left)


def test_a_stale_record_of_a_reused_process_id_harms_nobody(start: Start, tmp_path: Path) -> None:
    record = tmp_path / "home" / "run" / "engine.pid"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"pid": os.getpid(), "command": ["python"]}))
    running = start(standin("engine"))
    running.wait_for("all", "ready")
    assert running.heard("engine", "leftover") == []


def test_a_busy_port_names_port_holder_and_variable() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        number = holder.getsockname()[1]
        with pytest.raises(PortInUse) as caught:
            require_free([Port("gateway", "127.0.0.1", number, "PARAM_GATEWAY_PORT")])
    assert f"port {number} of the gateway" in caught.value.message
    assert f"(process {os.getpid()})" in caught.value.message
    assert "set PARAM_GATEWAY_PORT" in caught.value.message


def test_two_programs_on_one_port_are_refused() -> None:
    number = free_port()
    with pytest.raises(WrongConfiguration, match="PARAM_B: expected a port of its own"):
        require_free(
            [Port("a", "127.0.0.1", number, "PARAM_A"), Port("b", "127.0.0.1", number, "PARAM_B")]
        )


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(WrongConfiguration, match="PARAM_HOST"):
        require_free([Port("gateway", "192.0.2.1", free_port(), "PARAM_GATEWAY_PORT")])


def test_every_program_has_a_command_and_a_way_to_tell_that_it_is_ready(settings: Settings) -> None:
    started = programs.programs(settings, "embedded")
    assert [program.name for program in started] == list(programs.NAMES)
    assert all(program.ready_url or program.ready_file for program in started)
    assert max(started, key=lambda program: program.stop_phase).name == "engine"


def test_vllm_that_is_not_installed_says_how_to_get_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (base / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    monkeypatch.setattr(programs, "ROOT", tmp_path)
    named = replace(settings, base_model=str(base))
    with pytest.raises(MissingModel, match="make vllm"):
        programs.program("engine", named, engine="vllm")
    python = tmp_path / ".venv-vllm" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    found = programs.program("engine", named, engine="vllm")
    assert str(python) in found.command
    assert found.start_timeout_s > 300


def test_no_program_has_another_name(settings: Settings) -> None:
    with pytest.raises(NotFound, match="'webserver'"):
        programs.program("webserver", settings)


@pytest.mark.parametrize(
    ("wanted", "kind", "url"),
    [
        (None, "embedded", "http://127.0.0.1:8000"),
        ("vllm", "vllm", "http://127.0.0.1:8000"),
        ("http://gpu:9000/v1/", "outside", "http://gpu:9000"),
    ],
)
def test_the_engine_is_what_the_option_says(
    settings: Settings, wanted: str | None, kind: str, url: str
) -> None:
    found, told = programs.engine_choice(settings, wanted)
    assert (found, told.engine_url) == (kind, url)
    assert programs.environment(told)["PARAM_ENGINE_URL"] == url


def test_an_engine_url_in_the_settings_needs_no_option(settings: Settings) -> None:
    elsewhere = replace(settings, engine_url="http://gpu:9000")
    assert programs.engine_choice(elsewhere, None)[0] == "outside"
    assert programs.engine_choice(elsewhere, "embedded")[1].engine_url == "http://127.0.0.1:8000"


def test_an_engine_that_is_no_url_is_refused(settings: Settings) -> None:
    with pytest.raises(WrongConfiguration, match="found 'tgi'"):
        programs.engine_choice(settings, "tgi")


def test_children_read_the_settings_of_the_parent(settings: Settings, tmp_path: Path) -> None:
    changed = replace(settings, gateway_port=18_799, issuer="here")
    assert load(programs.environment(changed), directory=tmp_path / "elsewhere") == changed


def test_silence_is_no_answer() -> None:
    assert not answers(f"http://127.0.0.1:{free_port()}/health")


def test_a_log_that_was_never_written_has_no_last_line(tmp_path: Path) -> None:
    assert last_line(tmp_path / "x.log").startswith("it wrote nothing to ")
