from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from services.training.folder import WHOLE, RunFolder
from services.training.models import Point


def point(step: int, loss: float = 0.5) -> Point:
    return Point(step, 10, loss, 0.1, 1.0, 0.2, 0.1, 1e-4, 1.5, 200.0, 900.0, 3.0, 1.0)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def write_points(folder: RunFolder, *points: Point, torn: str = "") -> None:
    lines = "".join(json.dumps(asdict(found)) + "\n" for found in points)
    folder.metrics_file.write_text(lines + torn)


def test_a_run_that_has_not_begun_has_no_curve_and_no_log(folder: RunFolder) -> None:
    assert (folder.points(), folder.last_point(), folder.log_tail()) == ([], None, "")
    assert (folder.read("result.json"), folder.last_checkpoint()) == (None, None)


def test_a_step_that_was_done_again_counts_once_and_a_torn_line_not_at_all(
    folder: RunFolder,
) -> None:
    write_points(folder, point(1), point(2, 0.9), point(2, 0.4), torn='{"step": 3, "lo')
    assert [(found.step, found.loss) for found in folder.points()] == [(1, 0.5), (2, 0.4)]
    assert folder.last_point() == point(2, 0.4)


def test_the_newest_point_is_found_at_the_end_of_a_long_curve(folder: RunFolder) -> None:
    write_points(folder, *(point(step) for step in range(1, 200)))
    assert folder.last_point() == point(199)


def test_the_tail_of_a_long_log_begins_with_a_whole_line(folder: RunFolder) -> None:
    folder.log.write_text("".join(f"line {i}: çok güzel\n" for i in range(100)))
    tail = folder.log_tail(100)
    assert len(tail.encode()) <= 100
    assert tail.splitlines()[0].startswith("line ")
    assert tail.endswith("line 99: çok güzel\n")


def test_only_whole_checkpoints_are_resumed_from(folder: RunFolder) -> None:
    for step in (9, 10, 100):
        (folder.path / f"checkpoint-{step}").mkdir()
    for step in (9, 10):
        (folder.path / f"checkpoint-{step}" / WHOLE).touch()
    assert folder.last_checkpoint() == folder.path / "checkpoint-10"


def test_a_file_is_there_whole_or_not_at_all(folder: RunFolder) -> None:
    folder.write("result.json", {"outcome": "stopped"})
    with pytest.raises(TypeError):
        folder.write("result.json", {"outcome": object()})
    assert folder.read("result.json") == {"outcome": "stopped"}


def test_the_lock_lives_with_the_process_that_inherited_it(folder: RunFolder) -> None:
    lock = folder.lock()
    assert lock is not None
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock.fileno()]
    )
    lock.close()
    assert folder.lock() is None, "the child holds it, though its parent let go"
    child.kill()
    child.communicate()
    free = folder.lock()
    assert free is not None
    free.close()
