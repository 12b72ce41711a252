"""The scoring process and the worker's care for it, with a tiny real model."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.db import Database
from services.evaluation import harness, neutral, score
from services.evaluation.folder import EvaluationFolder
from services.evaluation.models import Checks, Verdict
from services.evaluation.prompts import demo_questions
from services.evaluation.worker import evaluation_handler
from services.inference.models import BaseModel
from services.jobs.models import JobStatus
from services.jobs.worker import Handler, run_worker
from services.registry.digest import adapter_digest
from tests.models import make_adapter
from tests.services.evaluation.test_judging import Judge, bench_of
from tests.services.evaluation.world import ENGINEER, World, add_tenant, build

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)


@pytest.fixture
def sqlite(tmp_path: Path, _sqlite_template: Path) -> Iterator[Database]:
    path = tmp_path / "param.db"
    path.write_bytes(_sqlite_template.read_bytes())
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()


@pytest.fixture
def signals() -> Iterator[None]:
    """The process under test sets handlers of its own."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def folder(tmp_path: Path, tiny_model: BaseModel, signals: None) -> EvaluationFolder:
    """An evaluation of three pairs and one question, ready to be scored."""
    adapter = make_adapter(tiny_model.path, tmp_path / "adapter")
    rows = [
        {
            "pair_id": f"p{number}",
            "prompt": [{"role": "user", "content": f"What is {number}?"}],
            "chosen": [{"role": "assistant", "content": "Ankara."}],
            "rejected": [{"role": "assistant", "content": "no " * (600 if number == 2 else 3)}],
        }
        for number in range(4)
    ]
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "train.jsonl").write_text(json.dumps({**rows[3], "pair_id": "t"}) + "\n")
    found = EvaluationFolder(tmp_path / "run")
    found.path.mkdir()
    order = {
        "base_path": str(tiny_model.path),
        "adapter_path": str(adapter),
        "adapter_digest": adapter_digest(adapter),
        "eval_file": str(tmp_path / "eval.jsonl"),
        "learned_files": [str(tmp_path / "train.jsonl")],
        "prompts": [[{"role": "user", "content": "Başkent neresi?"}]],
        "references": ["Başkent Ankara'dır."],
        "checks": {"texts": False, "tasks": False, "judge": False},
        "more_prompts": [],
        "max_new_tokens": 4,
        "threads": 1,
    }
    found.write("spec.json", order)
    return found


def change(folder: EvaluationFolder, **changes: Any) -> None:
    folder.write("spec.json", {**(folder.read("spec.json") or {}), **changes})


def test_every_pair_is_scored_once_and_what_was_left_out_is_counted(
    folder: EvaluationFolder,
) -> None:
    assert score.main([str(folder.path)]) == 0
    result = folder.read("result.json")
    assert result is not None
    assert (result["outcome"], result["seen"], result["too_long"]) == ("succeeded", 1, 1)
    assert [one.pair_id for one in folder.scores()] == ["p0", "p1"]
    assert [one.prompt[0]["content"] for one in folder.answers()] == ["Başkent neresi?"]
    assert result["versions"].keys() == {"torch", "transformers", "peft"}


def test_a_killed_process_goes_on_behind_what_it_had_scored(folder: EvaluationFolder) -> None:
    score.main([str(folder.path)])
    whole = folder.scores()
    lines = (folder.path / "pairs.jsonl").read_text().splitlines(keepends=True)
    marked = {**json.loads(lines[0]), "base_chosen": -1.5}
    (folder.path / "pairs.jsonl").write_text(json.dumps(marked) + "\n" + lines[1][:20])
    (folder.path / "answers.jsonl").unlink()
    folder.remove("result.json")
    score.main([str(folder.path)])
    again = folder.scores()
    assert again[0].base_chosen == -1.5, "what was scored is not scored again"
    assert again[1] == whole[1]
    assert len(folder.answers()) == 1


@pytest.mark.slow
def test_texts_and_tasks_are_done_and_go_on_behind_what_a_kill_left(
    folder: EvaluationFolder,
) -> None:
    change(folder, checks={"texts": True, "tasks": True, "judge": False})
    assert score.main([str(folder.path)]) == 0
    assert (folder.read("result.json") or {})["outcome"] == "succeeded"
    texts, tasks = folder.texts(), folder.tasks()
    usual = neutral.chosen(neutral.read_texts())
    assert sorted(one.text_id for one in texts) == sorted(text.id for text in usual)
    done = {name: sum(one.task == name for one in tasks) for name in harness.task_names()}
    assert set(done.values()) == {40}
    lines = (folder.path / "texts.jsonl").read_text().splitlines(keepends=True)
    (folder.path / "texts.jsonl").write_text("".join(lines[:20]) + lines[20][:10])
    marked = (folder.path / "tasks.jsonl").read_text()
    folder.remove("result.json")
    assert score.main([str(folder.path)]) == 0
    assert sorted(one.text_id for one in folder.texts()) == sorted(one.text_id for one in texts)
    assert (folder.path / "tasks.jsonl").read_text() == marked, "no task is done twice"


def test_only_one_process_scores(folder: EvaluationFolder, capsys: Any) -> None:
    with folder.lock() or pytest.fail("the lock is free"):
        assert score.main([str(folder.path)]) == 75
    assert "another process scores" in capsys.readouterr().err
    assert folder.read("result.json") is None


def test_changed_weights_are_never_scored(folder: EvaluationFolder) -> None:
    change(folder, adapter_digest="0" * 64)
    score.main([str(folder.path)])
    result = folder.read("result.json")
    assert result is not None
    assert result["outcome"] == "failed"
    assert "expected digest 0000" in result["error"]
    assert folder.scores() == []


def test_questions_of_held_out_pairs_come_first_then_the_demos(folder: EvaluationFolder) -> None:
    more = [[{"role": "user", "content": f"extra {number}"}] for number in range(20)]
    change(folder, prompts=None, more_prompts=more)
    score.main([str(folder.path)])
    asked = [one.prompt[0]["content"] for one in folder.answers()]
    assert asked[:4] == ["What is 0?", "What is 1?", "What is 2?", "extra 0"]
    assert len(asked) == 10


def test_demo_questions_are_user_turns() -> None:
    assert all(prompt[-1]["role"] == "user" for prompt in demo_questions())


@pytest.fixture
def world(sqlite: Database, tmp_path: Path, tiny_model: BaseModel) -> World:
    adapter = make_adapter(tiny_model.path, tmp_path / "adapter")
    return build(sqlite, tmp_path, base=tiny_model, folder=adapter, pairs=12)


def work_until_idle(world: World, job_id: str, handler: Handler = evaluation_handler) -> None:
    stop = threading.Event()
    worker = threading.Thread(
        target=run_worker,
        args=(world, {"evaluation.score": handler}, stop),
        kwargs={"poll_s": 0.05},
    )
    worker.start()
    deadline = time.monotonic() + 240
    try:
        while not world.jobs.get(ENGINEER, job_id).status.is_final:
            assert time.monotonic() < deadline, "it took too long"
            time.sleep(0.1)
    finally:
        stop.set()
        worker.join(60)


@pytest.mark.slow
def test_an_evaluation_runs_from_launch_to_verdict_without_mlflow(world: World) -> None:
    add_tenant(world.db)
    evaluation = world.evaluations.launch(
        ENGINEER, "legal", world.adapter.name, prompts=["one two three"], references=["two"],
        checks=Checks(tasks=False, judge=True),
    )  # fmt: skip
    bench = bench_of(Judge())
    work_until_idle(
        world,
        evaluation.job.id,
        partial(evaluation_handler, judges=lambda _settings, _metering: bench),
    )
    found = world.evaluations.get(ENGINEER, evaluation.id)
    assert (found.job.status, found.job.error) == (JobStatus.SUCCEEDED, None)
    assert found.job.message == "the adapter is inconclusive"
    assert found.summary is not None
    assert found.summary.verdict is Verdict.INCONCLUSIVE
    assert found.summary.n_pairs == world.dataset.n_eval
    assert found.summary.beta == 0.25
    assert len(world.evaluations.pair_scores(ENGINEER, evaluation.id)) == world.dataset.n_eval
    (said,) = world.evaluations.answers(ENGINEER, evaluation.id)
    assert said.reference == "two"
    assert found.summary.texts is not None
    assert found.summary.texts.n_texts == neutral.USUAL_COUNT
    assert found.summary.tasks == ()
    assert found.summary.overlap is not None
    assert found.summary.judged is not None
    assert (found.summary.judged.n, found.summary.judged.judge) == (1, "judge-1")
    assert len(world.evaluations.judgments(ENGINEER, evaluation.id)) == 2
    assert found.summary.speed is not None
    assert found.summary.speed.price_version == "1"


def test_a_judge_that_nobody_set_is_named(world: World) -> None:
    from services.evaluation import store
    from tests.services.evaluation.world import scores

    evaluation = world.evaluations.launch(
        ENGINEER, "legal", world.adapter.name, checks=Checks(judge=True)
    )
    folder = EvaluationFolder(store.run_dir(world.settings.runs_dir, evaluation.id))
    folder.path.mkdir(parents=True)
    for one in scores(gained=25):
        folder.add_score(one)
    folder.write("result.json", {"outcome": "succeeded", "seen": 0, "too_long": 0, "seconds": 9.0})
    work_until_idle(world, evaluation.job.id)
    found = world.evaluations.get(ENGINEER, evaluation.id)
    assert found.job.status is JobStatus.FAILED
    assert "expected a worker that has a judge" in (found.job.error or "")
    assert len(folder.scores()) == 25, "what was scored is kept"


def test_an_adapter_that_changed_on_disk_is_refused_before_any_process_starts(
    world: World,
) -> None:
    evaluation = world.evaluations.launch(ENGINEER, "legal", world.adapter.name)
    weights = world.adapter.path / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    work_until_idle(world, evaluation.job.id)
    found = world.evaluations.get(ENGINEER, evaluation.id)
    assert found.job.status is JobStatus.FAILED
    assert "expected digest" in str(found.job.error)
    assert found.summary is None


def test_another_base_model_than_the_adapters_is_refused(
    world: World, tiny_model: BaseModel, tmp_path: Path
) -> None:
    other = world.registry.register(
        ENGINEER,
        "legal",
        alias="other",
        folder=tmp_path / "adapter",
        base_model=str(tiny_model.path),
        base_digest="c" * 64,
        run_id="run-2",
        dataset_sha256=world.dataset.sha256,
        metrics={},
    )
    evaluation = world.evaluations.launch(ENGINEER, "legal", other.name)
    work_until_idle(world, evaluation.job.id)
    found = world.evaluations.get(ENGINEER, evaluation.id)
    assert found.job.status is JobStatus.FAILED
    assert "on which the adapter was trained" in str(found.job.error)


def test_a_worker_that_died_before_writing_leaves_the_result_for_the_next(
    world: World,
) -> None:
    from dataclasses import asdict

    from services.evaluation import store
    from tests.services.evaluation.world import scores

    evaluation = world.evaluations.launch(ENGINEER, "legal", world.adapter.name)
    folder = EvaluationFolder(store.run_dir(world.settings.runs_dir, evaluation.id))
    folder.path.mkdir(parents=True)
    for one in scores(gained=25):
        folder.add_score(one)
    folder.write("result.json", {"outcome": "succeeded", "seen": 0, "too_long": 0, "seconds": 9.0})
    work_until_idle(world, evaluation.job.id)
    found = world.evaluations.get(ENGINEER, evaluation.id)
    assert found.job.message == "the adapter is better"
    stored = world.evaluations.pair_scores(ENGINEER, evaluation.id)
    assert [asdict(one) for one in stored] == [asdict(one) for one in scores(gained=25)]
