"""DPO itself, in this process, on a model of 100,000 weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.errors import Conflict, InvalidInput
from services.inference.models import BaseModel
from services.training.folder import RunFolder
from services.training.models import DpoSpec

pytestmark = [
    pytest.mark.model,
    # peft 0.21 asks transformers 5.23 by a name that the next major version drops.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

ROWS = [
    {
        "pair_id": f"p{i}",
        "prompt": [{"role": "user", "content": f"What is {i} plus {i}?"}],
        "chosen": [{"role": "assistant", "content": f"It is {2 * i}." + " Yes." * (i % 4)}],
        "rejected": [{"role": "assistant", "content": f"It is {2 * i + 1}."}],
    }
    for i in range(11)
]


@dataclass
class Switch:
    """Asks for a stop at the end of a step, as SIGTERM does."""

    folder: RunFolder
    stop_at: int | None = None
    in_training: bool = False

    @property
    def asked(self) -> bool:
        # A step's line is written after its end.
        return self.stop_at is not None and len(self.folder.points()) >= self.stop_at - 1


@dataclass(frozen=True)
class Bench:
    """Makes runs on one base model and one dataset."""

    base: BaseModel
    home: Path

    def order(self, name: str, **changes: Any) -> RunFolder:
        values = {
            "alias": "sums", "dataset_id": "d1", "base_model": "tiny", "max_steps": 8,
            "batch_size": 2, "lora_r": 4, "learning_rate": 1e-3, "precision": "float32", **changes,
        }  # fmt: skip
        folder = RunFolder(self.home / name)
        folder.path.mkdir(exist_ok=True)
        order = {
            "spec": DpoSpec(**values).as_json(), "base_model": "tiny-llama",
            "base_path": str(self.base.path), "base_digest": self.base.digest,
            "dataset_folder": str(self.home), "threads": 1,
        }  # fmt: skip
        folder.write("spec.json", order)
        return folder

    def train(self, folder: RunFolder, stop_at: int | None = None) -> dict[str, Any]:
        from services.training.recipe import train

        return train(folder, Switch(folder, stop_at))


@pytest.fixture
def bench(tiny_model: BaseModel, tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return Bench(tiny_model, tmp_path)


def losses(folder: RunFolder) -> list[float]:
    return [round(point.loss, 5) for point in folder.points()]


def test_equal_specifications_give_equal_curves_and_equal_bytes(bench: Bench) -> None:
    first, second = bench.order("first"), bench.order("second")
    result = bench.train(first)
    bench.train(second)
    assert (result["outcome"], result["step"], result["pairs"]) == ("succeeded", 8, 11)
    assert losses(first) == losses(second)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (first.adapter / name).read_bytes() == (second.adapter / name).read_bytes()
    assert {path.name for path in first.adapter.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_the_adapter_names_its_base_model_and_no_folder_of_this_machine(bench: Bench) -> None:
    folder = bench.order("run", max_steps=1)
    bench.train(folder)
    text = (folder.adapter / "adapter_config.json").read_text()
    config = json.loads(text)
    assert config["base_model_name_or_path"] == "tiny-llama"
    assert config["target_modules"] == sorted(config["target_modules"])
    assert str(bench.home) not in text
    assert str(bench.base.path) not in text


def test_the_first_step_of_a_policy_equal_to_its_reference_scores_log_2(bench: Bench) -> None:
    folder = bench.order("run", max_steps=2)
    bench.train(folder)
    first = folder.points()[0]
    assert first.loss == pytest.approx(0.693147, abs=1e-5)
    assert (first.margin, first.accuracy) == (pytest.approx(0.0, abs=1e-6), 0.0)


def test_training_widens_the_margin(bench: Bench) -> None:
    folder = bench.order("run", max_steps=24, learning_rate=5e-3)
    bench.train(folder)
    curve = folder.points()
    assert curve[-1].margin > curve[0].margin + 0.1
    assert [point.step for point in curve] == list(range(1, 25))
    assert all(point.tokens_per_s > 0 and point.rss_mb > 100 for point in curve)
    assert curve[-1].eta_s == 0.0


@pytest.mark.parametrize(
    ("sft_weight", "precision"), [(0.0, "float32"), (0.5, "float32"), (0.5, "bfloat16")]
)
def test_a_stopped_run_goes_on_exactly_as_if_it_had_never_stopped(
    bench: Bench, sft_weight: float, precision: str
) -> None:
    whole = bench.order("whole", sft_weight=sft_weight, precision=precision)
    bench.train(whole)
    halves = bench.order("halves", sft_weight=sft_weight, precision=precision)
    stopped = bench.train(halves, stop_at=5)
    assert (stopped["outcome"], stopped["step"]) == ("stopped", 5)
    assert not halves.adapter.exists()
    assert bench.train(halves)["outcome"] == "succeeded"
    assert losses(halves) == losses(whole)
    weights = "adapter_model.safetensors"
    assert (halves.adapter / weights).read_bytes() == (whole.adapter / weights).read_bytes()


def test_a_torn_checkpoint_and_a_torn_line_cost_steps_but_change_nothing(bench: Bench) -> None:
    whole, torn = bench.order("whole"), bench.order("torn")
    bench.train(whole)
    bench.train(torn, stop_at=5)
    (torn.path / "checkpoint-5" / "whole").unlink()
    (torn.path / "checkpoint-5" / "adapter_model.safetensors").write_bytes(b"half")
    with torn.metrics_file.open("a") as file:
        file.write('{"step": 6, "lo')
    assert torn.last_checkpoint() == torn.path / "checkpoint-4"
    bench.train(torn)
    assert losses(torn) == losses(whole)


@pytest.mark.parametrize("what", ["spec", "data"])
def test_a_run_whose_inputs_changed_is_not_resumed(bench: Bench, what: str) -> None:
    folder = bench.order("run")
    bench.train(folder, stop_at=2)
    if what == "spec":
        bench.order("run", beta=0.2)
    else:
        (bench.home / "train.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    with pytest.raises(Conflict, match=f"expected the {what} of its first attempt"):
        bench.train(folder)


def test_long_pairs_are_left_out_and_counted_and_a_run_without_any_is_refused(
    bench: Bench,
) -> None:
    folder = bench.order("run", max_steps=1, max_length=40)
    result = bench.train(folder)
    assert result["dropped_long"] > 0
    assert result["pairs"] + result["dropped_long"] == len(ROWS)
    shutil.rmtree(folder.path)
    with pytest.raises(InvalidInput, match=r"expected a pair of at most 16 tokens \(max_length\)"):
        bench.train(bench.order("run", max_length=16))


def test_batches_hold_pairs_of_like_length_in_an_order_that_the_seed_alone_decides() -> None:
    from services.training.rows import arranged

    class Words:
        def apply_chat_template(self, turns: list[dict[str, str]], **_: Any) -> list[str]:
            return [word for turn in turns for word in turn["content"].split()]

    rows = [
        {
            "prompt": [{"role": "user", "content": "a"}],
            "chosen": [{"role": "assistant", "content": "b " * (i + 1)}],
            "rejected": [{"role": "assistant", "content": "c"}],
        }
        for i in range(10)
    ]
    spec = DpoSpec("a", "d", "b", batch_size=4, seed=1)
    order, _ = arranged(Words(), rows, spec)
    lengths = [len(row["chosen"][0]["content"].split()) for row in order]
    assert sorted(lengths) == list(range(1, 11))
    for start in (0, 4):
        assert max(lengths[start : start + 4]) - min(lengths[start : start + 4]) == 3
    assert arranged(Words(), rows, spec)[0] == order


@pytest.mark.parametrize("unpaired", [False, True], ids=["pairs", "single answers"])
def test_kto_learns_from_pairs_and_from_answers_that_have_no_other(
    bench: Bench, unpaired: bool
) -> None:
    if unpaired:
        rows = [
            {"prompt": row["prompt"], "completion": row["chosen"], "label": bool(i % 3)}
            for i, row in enumerate(ROWS)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (bench.home / "kto-train.jsonl").write_text(text)
    folder = bench.order("kto", loss_type="kto", max_steps=4, batch_size=4)
    result = bench.train(folder)
    assert (result["outcome"], result["pairs"]) == ("succeeded", 11 if unpaired else 22)
    assert not result["packed"]
    assert all(0 < point.loss < 2 for point in folder.points())
    assert any(point.grad_norm > 0 for point in folder.points())
    assert (folder.adapter / "adapter_model.safetensors").is_file()


def test_a_stop_that_was_written_into_the_folder_is_obeyed_before_the_first_step(
    bench: Bench,
) -> None:
    folder = bench.order("run")
    (folder.path / "stop").touch()
    assert bench.train(folder)["outcome"] == "stopped"
    assert folder.points() == []
    (folder.path / "stop").unlink()
    assert bench.train(folder)["outcome"] == "succeeded"
    assert [point.step for point in folder.points()] == list(range(1, 9))


def test_the_settings_of_the_yaml_reach_the_trainer(bench: Bench) -> None:
    usual, changed = bench.order("usual"), bench.order("changed", advanced={
        "lr_scheduler": "constant_with_warmup", "warmup_ratio": 0.5, "precompute_reference": "off",
        "micro_batch_size": 1, "checkpoints": 2,
    })  # fmt: skip
    bench.train(usual)
    result = bench.train(changed)
    assert not result["precomputed_reference"]
    assert [point.learning_rate for point in changed.points()][-2:] == [1e-3, 1e-3]
    assert losses(usual)[0] == losses(changed)[0] == 0.69315
