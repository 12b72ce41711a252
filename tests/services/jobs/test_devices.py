from __future__ import annotations

from pathlib import Path

import pytest

from services.errors import WrongConfiguration
from services.jobs.devices import devices, processes, visible


def test_every_gpu_that_the_system_shows_is_a_slot_in_order(tmp_path: Path) -> None:
    for name in ("nvidia10", "nvidia2", "nvidia0", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert devices("auto", dev=tmp_path) == ("cuda:0", "cuda:2", "cuda:10")


def test_without_a_gpu_one_run_at_a_time_trains_on_the_cpu(tmp_path: Path) -> None:
    assert devices("auto", dev=tmp_path) == ("cpu",)


def test_named_devices_are_taken_as_they_are() -> None:
    assert devices("cuda:1, cpu,cpu") == ("cuda:1", "cpu", "cpu")


def test_joined_devices_are_one_slot_with_a_process_each() -> None:
    assert devices("cuda:0+cuda:2, cuda:1") == ("cuda:0+cuda:2", "cuda:1")
    assert (processes("cuda:0+cuda:2"), visible("cuda:0+cuda:2")) == (2, "0,2")
    assert (processes("cpu"), visible("cpu")) == (1, "")
    assert (processes("cpu+cpu"), visible("cpu+cpu")) == (2, "")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("gpu", "expected auto, or cpu and cuda:N parted by commas, found 'gpu'"),
        ("cpu,", "expected auto, or cpu and cuda:N parted by commas, found ''"),
        ("cuda:0,cuda:0", "expected each GPU once, found cuda:0 twice"),
        ("cuda:0+cuda:1,cuda:1", "expected each GPU once, found cuda:1 twice"),
        ("cpu+cuda:0", "expected auto, or cpu and cuda:N parted by commas, found 'cpu+cuda:0'"),
    ],
)
def test_what_is_no_device_is_refused_by_name(asked: str, sentence: str) -> None:
    with pytest.raises(WrongConfiguration) as refused:
        devices(asked)
    assert refused.value.message == f"PARAM_TRAINING_DEVICES: {sentence}"
