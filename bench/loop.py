"""The whole loop on real data, to the end and back out of MLflow.

    python -m bench.loop [--model FOLDER] [--home FOLDER] [--prompts N] [--hh N] [--steps N] [--judge-url URL]

With the real engine, worker code, training and scoring processes, and MLflow's own store:

1. the bundled pairs and `--hh` pairs of HH-RLHF are imported, prompts become candidates of the base
   model, and a judge compares them in both orders; a person's votes in the review queue follow the
   judge, the imported pairs are approved as they came (marked so);
2. the answers of self-instruct's four models are judged as candidates: evaluation only;
3. two DPO runs learn from all the rest, and each is evaluated on held-out pairs and on prompts of
   self-instruct, where the judge compares its answers with the base model's;
4. both adapters are compared, one becomes `champion` with a stated reason, and all of it is read back
   from MLflow: parameters, metrics, tags with their sha256, registered versions, the alias.

The judge is the fake one of the tests (it prefers longer answers), so that the figures are those of
the machinery, unless `--judge-url` and the `PARAM_JUDGE_…` variables name a real one. With `--home`
everything stays there: `mlflow ui --backend-store-uri sqlite:///HOME/mlflow.db` and the console show it.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from labeling.queue import ReviewQueue, sides
from services import bootstrap, settings
from services.bootstrap import Services
from services.db import utcnow
from services.db.revise import declared_tables
from services.evaluation.comparing import Comparisons
from services.evaluation.models import Checks
from services.evaluation.questions import read_questions
from services.inference.model_store import resolve
from services.jobs.models import Job, JobStatus
from services.jobs.worker import run_worker
from services.preferences.demo.content import questions
from services.preferences.evidence import ai_verdict
from services.preferences.models import Turn
from services.preferences.self_instruct import FORMAT, models_of
from services.registry.models import Admission
from services.rlaif.models import Kind, Run, Selection, Spec
from services.tenants.models import Actor, Limits, Role
from services.training.models import DpoSpec
from tests.fakes.anthropic import KEY, MODEL, FakeAnthropic
from tests.models import placed
from tests.services.inference.engines import embedded
from tests.support import SHARED_DATA

ACTOR, TENANT = Actor.system("bench"), "loop"
PERSON = Actor("user", "bench-annotator", "Annotator", {TENANT: frozenset({Role.ANNOTATOR})})
MOST_VOTES = 20
DIGEST = 64
Stage = tuple[str, float, str]


def main() -> None:
    """Walk the loop and print what each stage took and left."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=None, help="folder of a base model")
    parser.add_argument("--prompts", type=int, default=6, help="prompts that get candidates")
    parser.add_argument("--hh", type=int, default=60, help="pairs of HH-RLHF")
    parser.add_argument("--tasks", type=int, default=10, help="tasks of self-instruct to judge")
    parser.add_argument("--steps", type=int, default=6, help="steps of the longer DPO run")
    parser.add_argument("--home", type=Path, default=None, help="a folder that is kept")
    parser.add_argument("--judge-url", default=None, help="a real judge; costs money")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="param-loop-") as folder:
        stages = walk(
            options.home or Path(folder), options.model or installed_model(), prompts=options.prompts, hh=options.hh,
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
    base = placed(model, home / "models")
    (home / "engine").mkdir(parents=True)
    with FakeAnthropic() as fake, embedded(base, home / "engine", strength=0.1) as engine:
        variables = {
            "PARAM_HOME": str(home), "PARAM_ENGINE_URL": engine.url,
            "PARAM_BASE_MODEL": base.name, "PARAM_TORCH_THREADS": "1",
        }  # fmt: skip
        if judge_url is None:
            variables |= {
                "PARAM_JUDGE_URL": fake.url, "PARAM_JUDGE_MODEL": MODEL, "PARAM_JUDGE_API_KEY": KEY,
                "PARAM_JUDGE_PRICE": "2/10",
            }  # fmt: skip
        else:
            named = {k: v for k, v in os.environ.items() if k.startswith("PARAM_JUDGE")}  # noqa: TID251
            variables |= {**named, "PARAM_JUDGE_URL": judge_url}
        services = bootstrap.build(settings.load(variables, directory=home))
        declared_tables().create_all(services.db.engine)
        services.tenants.create(ACTOR, "Loop", tenant_id=TENANT, limits=Limits(5, 100, 10**6))
        try:
            with _worker(services):
                walked = _Walk(services, max_new_tokens, checks or Checks(tasks=False, judge=True))
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
        adapters = [self._train(number) for number in dict.fromkeys((max(1, steps // 3), steps))]
        for adapter in adapters:
            self._stage("evaluation", partial(self._evaluate, adapter, min(tasks, 3)))
        self._stage("comparison", lambda: self._compare(adapters))
        self._stage("champion", lambda: self._champion(adapters[-1]))
        self._stage("cost rows", self._cost)
        for name, proof in read_back(services, adapters):
            self._stages.append((f"MLflow: {name}", 0.0, proof))
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
        queue = ReviewQueue(self._services.db, self._services.preferences)
        votes = 0
        while (card := queue.next_card(PERSON, TENANT)) is not None and votes < MOST_VOTES:
            pair = self._services.preferences.pair(ACTOR, TENANT, card.pair_id)
            said = ai_verdict(pair.responses, pair.history.judgments if pair.history else ())
            better = said.preferred_response_id if said else pair.imported_preference
            left, _right = sides(pair, PERSON.id)
            queue.vote(
                PERSON, TENANT, card.pair_id,
                verdict=0 if better is None else -2 if better == left.id else 2,
            )  # fmt: skip
            votes += 1
        approved = self._services.preferences.approve_imported(ACTOR, TENANT, mark="bench")
        return f"{votes} votes, {approved} further pairs approved as they came (marked)"

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
        asked = read_questions(SHARED_DATA / "self-instruct-user-oriented.jsonl")[:tasks]
        found = self._services.evaluations.launch(
            ACTOR, TENANT, adapter, prompts=[one.prompt for one in asked],
            references=[one.reference for one in asked], checks=self._checks,
        )  # fmt: skip
        self._wait(lambda: self._services.evaluations.get(ACTOR, found.id).job)
        summary = self._services.evaluations.get(ACTOR, found.id).summary
        assert summary is not None
        judged = summary.judged
        texts = summary.texts.change if summary.texts else None
        return (
            f"{summary.verdict.value} on {summary.n_pairs} held-out pairs; {summary.n_answers} answers"
            + (f", {judged.wins} won and {judged.losses} lost by the judge" if judged else "")
            + (f"; neutral text {texts.mean:+.4f} nats ({texts.low:+.4f} to {texts.high:+.4f})"
               if texts and texts.low is not None and texts.high is not None else "")
        )  # fmt: skip

    def _compare(self, adapters: list[str]) -> str:
        comparisons = Comparisons(self._services.evaluations)
        newest = comparisons.finished(ACTOR, TENANT)
        found = comparisons.compare(ACTOR, [newest[name] for name in adapters])
        return "; ".join(
            f"{row.adapter} {row.verdict.value} ({row.low:+.3f} to {row.high:+.3f})" for row in found.rows
        ) + f", {found.n_prompts} prompts in common"  # fmt: skip

    def _champion(self, adapter: str) -> str:
        gate = self._services.evaluations.gate(ACTOR, TENANT, adapter)
        shortfalls = tuple(one.code for one in gate.shortfalls)
        admission = Admission("override", "the bench shows the alias", shortfalls)
        self._services.registry.set_champion(ACTOR, TENANT, adapter, admission)
        self._services.registry.sync_mlflow()
        return f"gate {'open' if gate.passed else 'closed: ' + ', '.join(shortfalls)}"

    def _cost(self) -> str:
        now = utcnow()
        report = self._services.metering.report(ACTOR, TENANT, since=now, until=now)
        return ", ".join(
            f"{line.name} {line.requests} for {line.cost_micro / 1e6:.6f} USD"
            for line in report.by_alias
        )

    def _wait(self, look: Callable[[], Job]) -> None:
        while not (job := look()).status.is_final:
            time.sleep(0.2)
        if job.status is not JobStatus.SUCCEEDED:
            raise SystemExit(f"{job.kind}: {job.status}: {job.error}")


def read_back(services: Services, adapters: list[str]) -> list[tuple[str, str]]:
    """What MLflow itself says of the adapters: found with its own client, not with ours."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(services.settings.mlflow_tracking_uri)
    found: list[tuple[str, str]] = []
    for version in client.search_model_versions(f"name = '{TENANT}.{TENANT}'"):
        digests = {k: v for k, v in version.tags.items() if len(v) == DIGEST}
        found.append(
            (
                f"version {version.version}",
                f"{len(digests)} sha256 in full: {', '.join(sorted(digests))}",
            )
        )
    model = client.get_registered_model(f"{TENANT}.{TENANT}")
    champion = services.registry.get(ACTOR, TENANT, adapters[-1])
    alias = client.get_model_version_by_alias(model.name, "champion")
    assert champion.digest in alias.tags.values(), "the alias names other bytes"
    found.append(("alias champion", f"version {alias.version}, {champion.name}"))
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            digests = [k for k, v in run.data.tags.items() if len(v) == DIGEST]
            found.append(
                (
                    f"run {run.info.run_name}",
                    f"{run.info.status}, {len(run.data.params)} parameters, "
                    f"{len(run.data.metrics)} metrics, {len(digests)} sha256",
                )
            )
    return found


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
