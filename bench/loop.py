"""The whole loop on real data: prompts, candidates, judge, review, DPO, evaluation.

    python bench/loop.py [--model FOLDER] [--prompts N] [--hh N] [--steps N] [--judge-url URL]

In a fresh home in a temporary folder, with the real engine, worker code and training process:

1. the bundled pairs and `--hh` pairs of HH-RLHF are imported, their prompts become candidates of the
   base model, and a judge compares them in both orders; people's part is taken by approving what
   the judge preferred (marked so);
2. a DPO run learns from all of it, and an evaluation compares it with the base on held-out pairs and
   answers prompts of self-instruct (never trained on);
3. the answers of self-instruct's four models are judged as candidates.

The judge is the fake one of the tests (it prefers longer answers), so that the figures are those of
the machinery, unless `--judge-url` and the `PARAM_JUDGE_…` variables name a real one.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from services import bootstrap, settings
from services.bootstrap import Services
from services.db.revise import declared_tables
from services.evaluation.models import Checks
from services.inference.digests import folder_digest
from services.inference.model_store import resolve
from services.inference.models import BaseModel
from services.jobs.models import Job, JobStatus
from services.jobs.worker import run_worker
from services.preferences.demo.content import questions
from services.preferences.models import Turn
from services.preferences.self_instruct import FORMAT, models_of
from services.rlaif.models import Kind, Run, Selection, Spec
from services.tenants.models import Actor, Limits
from services.training.models import DpoSpec
from tests.fakes.anthropic import KEY, MODEL, FakeAnthropic
from tests.services.inference.engines import embedded
from tests.support import SHARED_DATA, free_port

ACTOR, TENANT = Actor.system("bench"), "loop"
Stage = tuple[str, float, str]


def main() -> None:
    """Walk the loop and print what each stage took and left."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=None, help="folder of a base model")
    parser.add_argument("--prompts", type=int, default=6, help="prompts that get candidates")
    parser.add_argument("--hh", type=int, default=60, help="pairs of HH-RLHF")
    parser.add_argument("--tasks", type=int, default=10, help="tasks of self-instruct to judge")
    parser.add_argument("--steps", type=int, default=6, help="steps of DPO")
    parser.add_argument("--judge-url", default=None, help="a real judge; costs money")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="param-loop-") as folder:
        stages = walk(
            Path(folder), options.model or installed_model(), prompts=options.prompts, hh=options.hh,
            tasks=options.tasks, steps=options.steps, judge_url=options.judge_url,
        )  # fmt: skip
    table = Table(title="The loop")
    for column in ("stage", "seconds", "what it left"):
        table.add_column(column)
    for name, seconds, proof in stages:
        table.add_row(name, f"{seconds:.1f}", proof)
    Console(width=140).print(table)


def installed_model() -> Path:
    """The folder of the default base model."""
    found = settings.load()
    return resolve(found.base_model, found.models_dir).path


def placed(model: Path, models_dir: Path) -> BaseModel:
    """A copy of a model where pulled models lie, so that it has a name that is not a path."""
    folder = models_dir / model.name
    shutil.copytree(model, folder)
    card = folder / "model.json"
    if not card.is_file():
        named = {"name": model.name, "digest": folder_digest(folder)}
        card.write_text(json.dumps(named), encoding="utf-8")
    return resolve(model.name, models_dir)


def walk(
    home: Path,
    model: Path,
    *,
    prompts: int,
    hh: int,
    tasks: int,
    steps: int,
    judge_url: str | None = None,
    max_new_tokens: int = 48,
    checks: Checks | None = None,
) -> list[Stage]:
    """Walk the loop once.

    Returns:
        Name, seconds and proof of each stage.
    """
    base = placed(model, home / "home" / "models")
    (home / "engine").mkdir(parents=True)
    with FakeAnthropic() as fake, embedded(base, home / "engine", strength=0.1) as engine:
        variables = {
            "PARAM_HOME": str(home / "home"), "PARAM_ENGINE_URL": engine.url,
            "PARAM_BASE_MODEL": base.name, "PARAM_TORCH_THREADS": "1",
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}",
        }  # fmt: skip
        if judge_url is None:
            variables |= {
                "PARAM_JUDGE_URL": fake.url, "PARAM_JUDGE_MODEL": MODEL, "PARAM_JUDGE_API_KEY": KEY,
                "PARAM_JUDGE_PRICE": "2/10",
            }  # fmt: skip
        else:
            import os

            named = {k: v for k, v in os.environ.items() if k.startswith("PARAM_JUDGE")}  # noqa: TID251
            variables |= {**named, "PARAM_JUDGE_URL": judge_url}
        services = bootstrap.build(settings.load(variables, directory=home))
        declared_tables().create_all(services.db.engine)
        services.tenants.create(ACTOR, "Loop", tenant_id=TENANT, limits=Limits(5, 100, 10**6))
        try:
            with _worker(services):
                walked = _Walk(services, max_new_tokens, checks or Checks(tasks=False))
                return walked.run(prompts=prompts, hh=hh, tasks=tasks, steps=steps)
        finally:
            services.close()


class _Walk:
    """One walk; each stage leaves its time and its proof."""

    def __init__(self, services: Services, max_new_tokens: int, checks: Checks) -> None:
        self._services = services
        self._max_new_tokens = max_new_tokens
        self._checks = checks
        self._stages: list[Stage] = []

    def run(self, *, prompts: int, hh: int, tasks: int, steps: int) -> list[Stage]:
        services = self._services
        self._stage(
            "bundled pairs",
            lambda: f"{services.preferences.load_demo(ACTOR, TENANT).imported} pairs",
        )
        self._stage("HH-RLHF", lambda: self._hh(hh))
        self._stage("candidates and judge", lambda: self._generate(prompts))
        self._stage("review", self._review)
        self._stage("self-instruct judged", lambda: self._self_instruct(tasks))
        adapter = self._train(steps)
        self._stage("evaluation", lambda: self._evaluate(adapter, min(tasks, 3)))
        return self._stages

    def _stage(self, name: str, work: Callable[[], str]) -> None:
        began = time.perf_counter()
        proof = work()
        self._stages.append((name, time.perf_counter() - began, proof))

    def _hh(self, count: int) -> str:
        with gzip.open(SHARED_DATA / "hh-rlhf-harmless-test.jsonl.gz") as file:
            rows = b"".join(line for line, _ in zip(file, range(count), strict=False))
        report = self._services.preferences.import_pairs(
            ACTOR, TENANT, io.BytesIO(rows), source="hh-rlhf harmless"
        )
        return f"{report.imported} of {report.read} pairs, {report.rejected} refused"

    def _generate(self, count: int) -> str:
        asked = [(Turn("user", one.question),) for one in questions()][:count]
        spec = Spec(
            kind=Kind.GENERATE, cap_micro=5_000_000, model="base", source="generated",
            max_new_tokens=self._max_new_tokens,
        )  # fmt: skip
        run = self._ended(self._services.rlaif.launch(ACTOR, TENANT, spec, asked))
        counts = run.counts
        return (
            f"{counts.candidates} candidates, {counts.published} pairs, {counts.consistent} agree in "
            f"both orders, {run.spent_micro / 1e6:.4f} USD, "
            f"{run.spent_micro / max(1, counts.published) / 1e6:.4f} a pair"
        )

    def _ended(self, run: Run) -> Run:
        self._wait(lambda: self._services.rlaif.get(ACTOR, run.id).job)
        return self._services.rlaif.get(ACTOR, run.id)

    def _review(self) -> str:
        approved = self._services.preferences.approve_imported(ACTOR, TENANT, mark="bench")
        return f"{approved} pairs approved as they were preferred (marked)"

    def _self_instruct(self, tasks: int) -> str:
        paths = sorted(SHARED_DATA.glob("self-instruct-predictions-*.jsonl"))
        streams = {
            name: io.BytesIO(b"".join(path.read_bytes().splitlines(keepends=True)[:tasks]))
            for name, path in zip(models_of([one.name for one in paths]), paths, strict=True)
        }
        self._services.preferences.import_pairs(
            ACTOR, TENANT, streams, source="self-instruct", format=FORMAT, purpose="evaluation"
        )
        spec = Spec(
            kind=Kind.JUDGE, cap_micro=5_000_000, selection=Selection.UNJUDGED,
            from_source="self-instruct",
        )  # fmt: skip
        run = self._ended(self._services.rlaif.launch(ACTOR, TENANT, spec))
        wins = self._wins()
        return f"{run.counts.published} pairs of {len(streams)} models judged; wins: {wins}"

    def _wins(self) -> str:
        """How often each model's answer was preferred in both orders."""
        from services.preferences.evidence import ai_verdict

        wins: dict[str, int] = {}
        listed = self._services.preferences.pairs(
            ACTOR, TENANT, source="self-instruct", limit=1_000
        )
        for one in listed.pairs:
            pair = self._services.preferences.pair(ACTOR, TENANT, one.id)
            verdict = ai_verdict(pair.responses, pair.history.judgments if pair.history else ())
            better = pair.response(verdict.preferred_response_id) if verdict else None
            if better is not None:
                name = str(better.extra.get("generator", "?"))
                wins[name] = wins.get(name, 0) + 1
        return ", ".join(f"{name} {count}" for name, count in sorted(wins.items()))

    def _train(self, steps: int) -> str:
        began = time.perf_counter()
        services = self._services
        dataset = services.preferences.snapshot(ACTOR, TENANT, eval_fraction=0.2)
        trained = json.loads((dataset.folder / "manifest.json").read_bytes())
        assert "self-instruct" not in (dataset.folder / "train.jsonl").read_text(), (
            "never trained on"
        )
        spec = DpoSpec.from_preset(
            "quick", alias=TENANT, dataset_id=dataset.id,
            base_model=services.settings.base_model, max_steps=steps, batch_size=2, max_length=256,
        )  # fmt: skip
        run = services.training.launch_dpo(ACTOR, TENANT, spec)
        self._wait(lambda: services.training.get(ACTOR, run.id).job)
        run = services.training.get(ACTOR, run.id)
        assert run.adapter is not None, run.job
        dropped = trained.get("counts", {}).get("dropped", "?")
        proof = f"{dataset.n_train} pairs ({dropped} left out), {steps} steps, {run.adapter}"
        self._stages.append(("DPO", time.perf_counter() - began, proof))
        return run.adapter

    def _evaluate(self, adapter: str, tasks: int) -> str:
        rows = (SHARED_DATA / "self-instruct-user-oriented.jsonl").read_text().splitlines()[:tasks]
        asked = [_task(json.loads(row)) for row in rows]
        found = self._services.evaluations.launch(
            ACTOR, TENANT, adapter, prompts=asked, checks=self._checks
        )
        self._wait(lambda: self._services.evaluations.get(ACTOR, found.id).job)
        summary = self._services.evaluations.get(ACTOR, found.id).summary
        assert summary is not None
        return f"{summary.verdict.value} on {summary.n_pairs} held-out pairs; {summary.n_answers} answers"

    def _wait(self, look: Callable[[], Job]) -> None:
        while not (job := look()).status.is_final:
            time.sleep(0.2)
        if job.status is not JobStatus.SUCCEEDED:
            raise SystemExit(f"{job.kind}: {job.status}: {job.error}")


def _task(row: dict[str, Any]) -> str:
    instance = (row.get("instances") or [{}])[0].get("input", "")
    return f"{row['instruction']}\n{instance}".strip()


@contextmanager
def _worker(services: Services) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(
        target=run_worker,
        args=(services, bootstrap.worker_handlers(), stop),
        kwargs={"poll_s": 0.1},
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    main()
