"""The loop from prompts to the gate with real parts, small: what one stage leaves, the next finds.

The engine and the judge are fakes on loopback, asked by the unmodified clients; worker, training
process and scoring process are the real ones, on a random model of two layers.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from labeling.queue import ReviewQueue, sides
from services import bootstrap, settings
from services.bootstrap import Services
from services.db.revise import declared_tables
from services.evaluation.models import Checks, Evaluation, Verdict
from services.inference.models import BaseModel
from services.jobs.models import Job, JobStatus
from services.jobs.worker import run_worker
from services.preferences.evidence import ai_verdict
from services.preferences.models import Dataset, PairStatus, Turn
from services.preferences.self_instruct import FORMAT
from services.registry.digest import adapter_digest
from services.registry.lineage import Lineages
from services.rlaif.models import Kind, Outcome, Run, Selection, Spec
from services.rlaif.worker import run_rlaif
from services.tenants.models import Actor, Limits, Role
from services.tenants.names import pseudonym
from services.training.models import DpoSpec
from tests.fakes.anthropic import KEY, MODEL, FakeAnthropic
from tests.models import placed
from tests.services.rlaif.world import FAST, Candidates

pytestmark = [pytest.mark.model, pytest.mark.slow]

TENANT = "acme"
CLI = Actor.system("cli")
ANNOTATORS = [
    Actor("user", f"annotator-{n}", f"Annotator {n}", {TENANT: frozenset({Role.ANNOTATOR})})
    for n in range(3)
]
ENGINEER = Actor("user", "engineer", "Engineer", {TENANT: frozenset({Role.ENGINEER})})
PROMPTS = 40
HELD_OUT_FOR_GOOD = [f"Secret self-instruct task {n}" for n in range(3)]


@dataclass(frozen=True)
class Walked:
    """What a walk left behind."""

    services: Services
    judge: FakeAnthropic
    run: Run
    judged: Run
    dataset: Dataset
    trained_adapter: str
    evaluation: Evaluation


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, tiny_model: BaseModel) -> Iterator[Walked]:
    """One walk; the tests look at different ends of it."""
    home = tmp_path_factory.mktemp("loop")
    base = placed(tiny_model.path, home / "models")
    with FakeAnthropic() as judge, Candidates() as engine:
        services = bootstrap.build(
            settings.load(
                {
                    "PARAM_HOME": str(home), "PARAM_ENGINE_URL": engine.url,
                    "PARAM_BASE_MODEL": base.name, "PARAM_TORCH_THREADS": "1",
                    "PARAM_JUDGE_URL": judge.url, "PARAM_JUDGE_MODEL": MODEL,
                    "PARAM_JUDGE_API_KEY": KEY, "PARAM_JUDGE_PRICE": "2/10",
                    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
                },
                directory=home,
            )
        )  # fmt: skip
        declared_tables().create_all(services.db.engine)
        services.tenants.create(CLI, "Acme", tenant_id=TENANT, limits=Limits(5, 100, 10**6))
        stop = threading.Event()
        handlers = {
            **bootstrap.worker_handlers(),
            "rlaif.run": partial(run_rlaif, pace=FAST, first_pause_s=0.02),
        }
        worker = threading.Thread(
            target=run_worker, args=(services, handlers, stop), kwargs={"poll_s": 0.05}
        )
        worker.start()
        try:
            yield _walk(services, judge, base)
        finally:
            stop.set()
            worker.join(60)
            services.close()


def _walk(services: Services, judge: FakeAnthropic, base: BaseModel) -> Walked:
    spec = Spec(
        Kind.GENERATE,
        10_000_000,
        model="base",
        max_new_tokens=64,
        pairs_per_prompt=1,
        concurrency=8,
    )
    prompts = [(Turn("user", f"Question {number}?"),) for number in range(PROMPTS)]
    run = services.rlaif.launch(ENGINEER, TENANT, spec, prompts)
    _ended(lambda: services.rlaif.get(CLI, run.id).job)
    judged = _judge_self_instruct(services)
    _review(services)
    dataset = services.preferences.snapshot(ENGINEER, TENANT, eval_fraction=0.6)
    order = DpoSpec(
        alias="longer", dataset_id=dataset.id, base_model=base.name, max_steps=24, batch_size=4,
        lora_r=4, learning_rate=3e-3, max_length=128,
    )  # fmt: skip
    trained = services.training.launch_dpo(ENGINEER, TENANT, order)
    _ended(lambda: services.training.get(CLI, trained.id).job)
    adapter = services.training.get(CLI, trained.id).adapter
    assert adapter is not None
    asked = services.evaluations.launch(
        ENGINEER, TENANT, adapter, prompts=HELD_OUT_FOR_GOOD, checks=Checks(tasks=False, judge=True)
    )
    _ended(lambda: services.evaluations.get(CLI, asked.id).job)
    return Walked(
        services, judge, services.rlaif.get(CLI, run.id), judged, dataset, adapter,
        services.evaluations.get(CLI, asked.id),
    )  # fmt: skip


def _ended(look: Callable[[], Job]) -> None:
    deadline = time.monotonic() + 200
    while not (job := look()).status.is_final:
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    assert job.status is JobStatus.SUCCEEDED, job.error


def _judge_self_instruct(services: Services) -> Run:
    def answers(words: str) -> io.BytesIO:
        rows = [{"prompt": one, "response": f"{words} {one}"} for one in HELD_OUT_FOR_GOOD]
        return io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())

    streams = {"davinci": answers("An answer, at length, to"), "ada": answers("No to")}
    services.preferences.import_pairs(
        ENGINEER, TENANT, streams, source="self-instruct", format=FORMAT, purpose="evaluation"
    )
    spec = Spec(
        Kind.JUDGE, 1_000_000, selection=Selection.UNJUDGED, from_source="self-instruct"
    )  # fmt: skip
    run = services.rlaif.launch(ENGINEER, TENANT, spec)
    _ended(lambda: services.rlaif.get(CLI, run.id).job)
    return services.rlaif.get(CLI, run.id)


def _review(services: Services) -> None:
    """People vote, blind, for the longer answer, until no card is left."""
    queue = ReviewQueue(services.db, services.preferences)
    for person in ANNOTATORS:
        while (card := queue.next_card(person, TENANT)) is not None:
            left, right = sides(services.preferences.pair(CLI, TENANT, card.pair_id), person.id)
            strength = -2 if len(left.text) > len(right.text) else 2
            queue.vote(person, TENANT, card.pair_id, verdict=strength)  # type: ignore[arg-type]


def _rows(dataset: Dataset, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (dataset.folder / name).read_text().splitlines()]


def test_prompts_become_pairs_that_people_decide_as_the_judge_does(walked: Walked) -> None:
    assert walked.run.outcome is Outcome.COMPLETE
    counts = walked.run.counts
    assert (counts.prompts, counts.candidates, counts.pairs) == (PROMPTS, 4 * PROMPTS, PROMPTS)
    assert counts.published == counts.consistent == PROMPTS
    assert walked.judge.paid_twice == [], "neither by the run nor by the evaluation"
    preferences = walked.services.preferences
    for listed in preferences.pairs(CLI, TENANT, source="generated", limit=1_000).pairs:
        pair = preferences.pair(CLI, TENANT, listed.id)
        assert pair.status is PairStatus.APPROVED
        assert pair.history is not None
        said = ai_verdict(pair.responses, pair.history.judgments)
        assert said is not None
        assert said.preferred_response_id == pair.chosen_response_id


def test_one_chain_of_digests_leads_from_the_gate_back_to_the_people(walked: Walked) -> None:
    services, dataset, evaluation = walked.services, walked.dataset, walked.evaluation
    adapter = services.registry.get(CLI, TENANT, walked.trained_adapter)
    for name, facts in dataset.manifest["files"].items():
        found = hashlib.sha256((dataset.folder / name).read_bytes()).hexdigest()
        assert found == facts["sha256"], name
    assert adapter.dataset_sha256 == evaluation.dataset_sha256 == dataset.sha256
    assert adapter_digest(adapter.path) == adapter.digest == evaluation.adapter_digest
    assert adapter.name == f"longer-{adapter.digest[:12]}"
    assert adapter.base_digest == evaluation.base_digest
    lineage = Lineages(services.registry, services.preferences)
    back = lineage.of_adapter(CLI, TENANT, adapter.name, [])
    learned = {pair.pair_id for pair in back.learned}
    assert len(learned) == dataset.n_train > 0
    assert set(back.people) <= {pseudonym(TENANT, person.id) for person in ANNOTATORS}
    links = {link.kind: link for _, link in services.chains.of(CLI, adapter.name).walk()}
    assert links["dataset"].digest == dataset.sha256
    assert links["evaluation"].digest == adapter.digest
    assert links["evaluation"].facts["evaluation"] == evaluation.id
    assert [link.problem for link in links.values()] == [""] * len(links)
    scored = {one.pair_id for one in services.evaluations.pair_scores(CLI, evaluation.id)}
    assert scored == {row["pair_id"] for row in _rows(dataset, "eval.jsonl")}
    assert not scored & learned


def test_an_evaluation_set_is_judged_and_answered_and_never_trained_on(walked: Walked) -> None:
    assert walked.judged.counts.published == len(HELD_OUT_FOR_GOOD)
    told = {body["messages"][0]["content"] for body in walked.judge.requests}
    assert sum(HELD_OUT_FOR_GOOD[0] in one for one in told) > 2, "answers of both runs were judged"
    said = walked.services.evaluations.answers(CLI, walked.evaluation.id)
    assert [one.prompt[-1]["content"] for one in said] == HELD_OUT_FOR_GOOD
    for file in walked.dataset.folder.iterdir():
        assert "self-instruct" not in file.read_text(errors="replace"), file.name
    assert {row["source"] for row in _rows(walked.dataset, "provenance.jsonl")} == {"generated"}


def test_the_gate_names_what_was_not_shown(walked: Walked) -> None:
    summary = walked.evaluation.summary
    assert summary is not None
    assert summary.n_pairs == summary.n_prompts == walked.dataset.n_eval >= 20
    assert summary.judged is not None
    assert summary.judged.n == len(HELD_OUT_FOR_GOOD)
    assert summary.texts is not None
    gate = walked.services.evaluations.gate(CLI, TENANT, walked.trained_adapter)
    codes = {one.code for one in gate.shortfalls}
    assert not gate.passed
    assert "no_tasks" in codes
    assert "no_texts" not in codes
    assert ("quality" in codes) is (summary.verdict is not Verdict.BETTER)


def test_every_call_that_was_paid_for_is_a_cost_row(walked: Walked) -> None:
    today = walked.services.tenants.get(CLI, TENANT).created_at
    report = walked.services.metering.report(CLI, TENANT, since=today, until=today)
    by_alias = {line.name: line for line in report.by_alias}
    assert by_alias["(judge)"].requests == len(walked.judge.requests) == 2 * (PROMPTS + 3 + 3)
    assert by_alias["(candidates)"].requests == 4 * PROMPTS
