"""Several processes train one run: who leads them, who writes, how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from services.inference.models import BaseModel
from services.training import backends, dpo
from services.training.backends import BackendState, BackendStatus, LocalProcess
from services.training.folder import STOP, RunFolder
from services.training.group import LOCK, Group, GroupDied, command, lead
from services.training.models import DpoSpec
from services.training.rank import Onlooker, is_anothers
from tests.services.training.held_child import HOLD
from tests.services.training.test_recipe import ROWS

TWO = Group(2)


@dataclass
class Switch:
    asked: bool = False
    in_training: bool = False


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def reports(*found: dict[str, object], code: int = 0) -> list[str]:
    """A group whose processes report so and end."""
    lines = [
        f"open('rank-{number}.json', 'w').write({json.dumps(report)!r})"
        for number, report in enumerate(found)
        if report
    ]
    return program("\n".join([*lines, f"raise SystemExit({code})"]))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def report(outcome: str = "succeeded", at: float = 1.0, **more: object) -> dict[str, object]:
    return {"outcome": outcome, "at": at, "peak_rss_mb": 500, **more}


def until(fact: Callable[[], bool], words: Callable[[], object] = str) -> None:
    deadline = time.monotonic() + 600
    while not fact():
        assert time.monotonic() < deadline, words()
        time.sleep(0.02)


def test_one_host_meets_at_a_free_port_and_several_at_the_first_one(tmp_path: Path) -> None:
    told = " ".join(command(tmp_path, TWO)[1:])
    assert told.startswith("-m accelerate.commands.launch --multi_gpu --num_processes 2 ")
    assert "--num_machines 1 --machine_rank 0 --main_process_port 0 " in told
    assert told.endswith(f"--module services.training.rank {tmp_path}")
    told = " ".join(command(tmp_path, Group(4, nodes=2, node=1, meet="first.run:29400")))
    assert "--num_processes 8 --num_machines 2 --machine_rank 1" in told
    assert "--main_process_ip first.run --main_process_port 29400" in told


def test_how_many_processes_there_are_stands_in_the_order(folder: RunFolder) -> None:
    assert dpo.group_of(folder).is_single
    folder.write("spec.json", {"processes": 2, "nodes": 2})
    assert dpo.group_of(folder, 1, "a:1") == Group(2, 2, 1, "a:1")


def test_the_first_process_tells_how_the_run_ended_and_all_tell_their_memory(
    folder: RunFolder,
) -> None:
    folder.write("rank-7.json", report("failed", error="of an earlier attempt"))
    switch = Switch()
    ended = lead(folder, switch, TWO, told=reports(report(step=8), report()))
    assert ended == {"outcome": "succeeded", "step": 8, "peak_rss_mb": 1000, "processes": 2}
    assert switch.in_training


def test_the_first_failure_is_the_runs(folder: RunFolder) -> None:
    late, early = (report("failed", at, error=f"at {at}") for at in (2.0, 1.5))
    ended = lead(folder, Switch(), TWO, told=reports(late, early, code=1))
    assert (ended["outcome"], ended["error"]) == ("failed", "at 1.5")


def test_a_group_that_dies_without_a_word_leaves_no_result(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(GroupDied, match="ended without a word"):
        lead(folder, Switch(), TWO, told=program("raise SystemExit(1)"))
    folder.write("spec.json", {"processes": 2})
    monkeypatch.setattr(dpo, "lead", lambda *_: lead(folder, Switch(), TWO, told=program("x")))
    monkeypatch.setattr(dpo, "StopSwitch", Switch)
    assert dpo.main([str(folder.path)]) == dpo.DIED
    assert folder.read("result.json") is None
    assert "ended without a word (status 1)" in capfd.readouterr().err


def test_a_group_in_training_is_told_by_a_file_and_one_that_is_not_ends_at_once(
    folder: RunFolder,
) -> None:
    folder.write("stage.json", {"stage": "training"})
    obeys = program(
        "import json, os, time\n"
        f"while not os.path.exists({STOP!r}): time.sleep(0.01)\n"
        f"open('rank-0.json', 'w').write({json.dumps(report('stopped'))!r})"
    )
    assert lead(folder, Switch(asked=True), TWO, told=obeys)["outcome"] == "stopped"
    folder.write("stage.json", {"stage": "loading the base model"})
    loads = program("import time; time.sleep(600)")
    assert lead(folder, Switch(asked=True), TWO, told=loads) == {"outcome": "stopped"}


def test_a_group_begins_once_no_process_of_an_earlier_one_lives(folder: RunFolder) -> None:
    holds = (
        "import fcntl, sys\n"
        f"file = open({LOCK!r}, 'a'); fcntl.flock(file, fcntl.LOCK_SH)\n"
        "print(flush=True); sys.stdin.read(); open('gone', 'w').close()"
    )
    with subprocess.Popen(program(holds), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as old:
        assert old.stdout is not None
        assert old.stdout.readline() == b"\n"
        told = program(
            "import os\n"
            "assert os.path.exists('gone'), 'the earlier process lives'\n"
            f"open('rank-0.json', 'w').write({json.dumps(report())!r})"
        )
        with ThreadPoolExecutor() as pool:
            new = pool.submit(lead, folder, Switch(), TWO, told=told)
            old.communicate()
            assert new.result()["outcome"] == "succeeded"


def test_who_is_told_to_die_with_its_parent_does(tmp_path: Path) -> None:
    parent = (
        "import subprocess, sys, time\n"
        "from services.training.group import die_with_parent\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],\n"
        "                         preexec_fn=die_with_parent)\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    root = str(Path(__file__).parents[3])
    with subprocess.Popen(program(parent), stdout=subprocess.PIPE, cwd=root) as started:
        assert started.stdout is not None
        child = psutil.Process(int(started.stdout.readline()))
        started.kill()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_only_the_first_process_writes_into_the_runs_folder(tmp_path: Path) -> None:
    folder = Onlooker(tmp_path)
    folder.write("stage.json", {"stage": "training"})
    assert list(tmp_path.iterdir()) == []
    folder.really_write("rank-1.json", {"outcome": "succeeded"})
    assert folder.read("rank-1.json") == {"outcome": "succeeded"}


def test_an_error_that_tells_of_anothers_end_is_not_ones_own() -> None:
    assert is_anothers(RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:4711"))
    assert not is_anothers(RuntimeError("shapes do not match"))
    assert not is_anothers(ValueError("gloo"))


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_two_processes_train_what_one_does_and_go_on_exactly_after_a_stop(
    tiny_model: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real launcher, two CPU processes over gloo: the way of several GPUs, but for NCCL."""
    from services.training.recipe import train

    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:8]))
    spec = DpoSpec(
        alias="sums", dataset_id="d1", base_model="tiny", max_steps=24, batch_size=4, lora_r=4,
        learning_rate=1e-4, precision="float32", advanced={"packed": "off"},
    )  # fmt: skip
    order = {
        "spec": spec.as_json(), "base_model": "tiny", "base_path": str(tiny_model.path),
        "base_digest": tiny_model.digest, "dataset_folder": str(tmp_path), "threads": 1,
        "device": "cpu+cpu", "processes": 2,
    }  # fmt: skip
    alone, together = RunFolder(tmp_path / "alone"), RunFolder(tmp_path / "together")
    for folder in (alone, together):
        folder.path.mkdir()
    alone.write("spec.json", order)
    assert train(alone, SimpleNamespace(asked=False, in_training=False))["step"] == 24

    monkeypatch.chdir(Path(__file__).parents[3])  # where the processes find the tests
    monkeypatch.setattr(backends, "CHILD", "tests.services.training.held_child")
    backend = LocalProcess()
    (together.path / HOLD).touch()
    backend.submit(together.path, order)
    until(lambda: len(still(together)) == 2, lambda: together.log_tail(3000))
    reached = together.points()[-1].step
    backend.stop(together.path)
    until((together.path / STOP).exists)
    (together.path / HOLD).unlink()
    for pid in still(together):
        os.kill(pid, signal.SIGCONT)
    ended(backend, together)
    stopped = together.read("result.json")
    assert stopped is not None
    assert (stopped["outcome"], stopped["processes"]) == ("stopped", 2)
    assert stopped["step"] == reached + 1
    assert still(together) == []

    together.remove("result.json")
    backend.submit(together.path, order)
    ended(backend, together)
    assert (together.read("result.json") or {})["outcome"] == "succeeded", together.log_tail(3000)
    assert [point.step for point in together.points()] == list(range(1, 25))
    for name in ("loss", "margin", "accuracy"):
        mine, theirs = (
            [getattr(point, name) for point in run.points()] for run in (together, alone)
        )
        assert mine == pytest.approx(theirs, abs=1e-5), name
    assert sorted(path.name for path in together.adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert not (together.path / "shared-rows").exists()


def still(folder: RunFolder) -> list[int]:
    """The processes that train a run and hold still."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if str(folder.path) in (process.info["cmdline"] or [])
        and process.info["status"] == psutil.STATUS_STOPPED
    ]


def ended(backend: LocalProcess, folder: RunFolder) -> BackendStatus:
    until(
        lambda: backend.status(folder.path).state is BackendState.ENDED,
        lambda: folder.log_tail(3000),
    )
    return backend.status(folder.path)
