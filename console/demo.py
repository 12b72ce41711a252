"""The whole loop without a browser: every stage is the real one, and leaves its proof.

A fresh tenant imports the bundled pairs, takes their preferences as (marked) demo decisions,
trains an adapter, has it evaluated, serves it to 10 % of its users, promotes it, asks the same
questions before and after, and checks one receipt and the whole audit log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from threading import Event, Thread
from typing import Any

import httpx

from console.processes import ports, programs
from console.processes.supervision import Happening, StopRequest, Supervisor
from console.serve import migrate, require_model
from services import bootstrap
from services.attestation import receipts
from services.bootstrap import Services
from services.db import new_id
from services.errors import Conflict, ConsoleError, EngineUnavailable, Unavailable
from services.evaluation.models import Checks
from services.jobs.models import Job, JobStatus
from services.preferences.demo.content import questions
from services.settings import Settings
from services.tenants.models import Actor, Limits, Tenant
from services.training.models import DpoSpec

ACTOR = Actor.system("demo")
PROGRAMS = ("engine", "gateway", "worker")
CANARY_PERCENT = 10
CANARY_USERS = 40
POLL_S = 0.5


@dataclass(frozen=True)
class Stage:
    """One step of the loop.

    Attributes:
        seconds: How long it took.
        proof: What shows that it happened, in one line.
    """

    name: str
    seconds: float
    ok: bool
    proof: str


@dataclass
class DemoResult:
    """What `param demo` prints.

    Attributes:
        answer_before: The base model's answer to the first demo question.
        answer_after: The promoted adapter's answer to the same question.
        receipt: DSSE envelope of the answer after.
    """

    stages: list[Stage] = field(default_factory=list)
    answer_before: str = ""
    answer_after: str = ""
    adapter: str = ""
    receipt: dict[str, Any] = field(default_factory=dict)
    ok: bool = False

    def as_json(self) -> dict[str, Any]:
        """The object that scripts read."""
        return asdict(self)


class StageFailed(Unavailable):
    """A stage of the demo did not end as it must."""

    code = "stage_failed"


Report = Callable[[Stage], None]


def run_demo(settings: Settings, report: Report) -> DemoResult:
    """Walk the loop once.

    Uses the processes of a running `param up` on this `PARAM_HOME`, or starts the three it needs
    on free ports and ends them again.

    Args:
        settings: Where to work; a fresh tenant is added there.
        report: Called after each stage.

    Returns:
        The stages up to the first that failed; `ok` says whether all went well.
    """
    require_model(settings, pull=True)
    migrate(settings)
    try:
        return _with_own_processes(settings, report)
    except Conflict:
        # A supervisor runs on this home: its gateway, engine and worker do the work.
        return _Loop(settings, report).run()


def _with_own_processes(settings: Settings, report: Report) -> DemoResult:
    settings = _on_free_ports(settings)
    request, ready = StopRequest(), Event()
    walked: Future[DemoResult] = Future()
    request.listen()

    def walk() -> None:
        try:
            while not ready.wait(POLL_S):
                if request.stop.is_set():
                    raise Unavailable("the demo was stopped before it began")
            walked.set_result(_Loop(settings, report, stop=request.stop).run())
        except BaseException as error:  # whatever it is, it is raised again in the main thread
            walked.set_exception(error)
        finally:
            request.stop.set()

    supervisor = Supervisor(
        home=settings.home, environment=programs.environment(settings), report=_quiet
    )
    with supervisor.alone():
        thread = Thread(target=walk, name="demo")
        thread.start()
        try:
            started = [programs.program(name, settings) for name in PROGRAMS]
            supervisor.run(started, request, on_ready=ready.set)
        finally:
            request.stop.set()
            thread.join()
    return walked.result()


def _quiet(_name: str, _happening: Happening, _text: str) -> None:
    """The logs hold what the processes say; the demo prints stages only."""


def _on_free_ports(settings: Settings) -> Settings:
    engine, gateway = ports.free(settings.host), ports.free(settings.host)
    return replace(
        settings,
        engine_port=engine,
        engine_url=f"http://{settings.host}:{engine}",
        gateway_port=gateway,
        gateway_url=f"http://{settings.host}:{gateway}",
    )


class _Loop:
    """One walk through the stages, in order; state is handed on as attributes."""

    def __init__(self, settings: Settings, report: Report, *, stop: Event | None = None) -> None:
        self.services: Services = bootstrap.build(settings)
        self.http = httpx.Client(base_url=settings.gateway_url, timeout=300)
        self.result = DemoResult()
        self._report = report
        self._stop = stop or Event()
        self.questions = questions()
        self.tenant: Tenant
        self.run_id = ""
        self.rollout_id = ""
        self.last_receipt_id = ""

    def run(self) -> DemoResult:
        stages = (
            ("fresh tenant", self._tenant),
            ("import pairs", self._import),
            ("ask the base model", self._ask_before),
            ("decide (marked demo)", self._decide),
            ("train by DPO", self._train),
            ("evaluate", self._evaluate),
            ("canary 10 %", self._canary),
            ("promote", self._promote),
            ("ask again", self._ask_after),
            ("verify the receipt", self._verify_receipt),
            ("verify the audit log", self._verify_log),
        )
        try:
            for name, stage in stages:
                if not self._stage(name, stage):
                    return self.result
            self.result.ok = True
            return self.result
        finally:
            self.http.close()
            self.services.close()

    def _stage(self, name: str, stage: Callable[[], str]) -> bool:
        began = time.monotonic()
        try:
            proof, ok = stage(), True
        except ConsoleError as error:
            proof, ok = error.message, False
        except httpx.HTTPError as error:
            proof, ok = f"the gateway did not answer: {error}", False
        done = Stage(name, round(time.monotonic() - began, 2), ok, proof)
        self.result.stages.append(done)
        self._report(done)
        return ok

    def _tenant(self) -> str:
        name = f"Demo {new_id()[-6:]}"
        limits = Limits(tps=50, rpm=3000, daily_tokens=1_000_000)
        self.tenant = self.services.tenants.create(ACTOR, name, limits=limits)
        issued = self.services.tenants.create_key(ACTOR, self.tenant.id, "demo")
        self.http.headers["authorization"] = f"Bearer {issued.key}"
        return f"tenant {self.tenant.id}, key {issued.info.prefix}…"

    def _import(self) -> str:
        read = self.services.preferences.load_demo(ACTOR, self.tenant.id)
        return f"{read.imported} of {read.read} pairs imported, {read.rejected} rejected"

    def _ask_before(self) -> str:
        answers = self._ask_all()
        self.result.answer_before = answers[0]
        return f"{self._right(answers)} of {len(answers)} right; first: {answers[0]!r}"

    def _decide(self) -> str:
        decided = self.services.preferences.approve_imported(
            ACTOR, self.tenant.id, mark="demo decision"
        )
        return f"{decided} pairs approved as imported, marked as demo decisions"

    def _train(self) -> str:
        services, tenant = self.services, self.tenant.id
        dataset = services.preferences.snapshot(ACTOR, tenant)
        spec = DpoSpec.from_preset(
            "quick",
            alias=tenant,
            dataset_id=dataset.id,
            base_model=services.settings.base_model,
        )
        self.run_id = services.training.launch_dpo(ACTOR, tenant, spec).id
        self._await(lambda: services.training.get(ACTOR, self.run_id).job)
        run = services.training.get(ACTOR, self.run_id)
        if run.adapter is None:
            raise StageFailed("the run succeeded without naming an adapter")
        self.result.adapter = run.adapter
        last = services.training.metrics(ACTOR, self.run_id)[-1]
        return (
            f"{run.adapter} after {last.step} steps on {dataset.n_train} pairs, "
            f"loss {last.loss:.3f}, margin {last.margin:.2f}"
        )

    def _evaluate(self) -> str:
        services, tenant = self.services, self.tenant.id
        asked = [question.question for question in self.questions]
        # Without the tasks, which take a minute more and decide nothing here.
        found = services.evaluations.launch(
            ACTOR, tenant, self.result.adapter, prompts=asked, checks=Checks(tasks=False)
        )
        self._await(lambda: services.evaluations.get(ACTOR, found.id).job)
        summary = services.evaluations.get(ACTOR, found.id).summary
        if summary is None:
            raise StageFailed("the evaluation ended without a summary")
        return (
            f"held-out pairs {summary.n_pairs}: accuracy {summary.base_accuracy:.2f} -> "
            f"{summary.adapter_accuracy:.2f}, verdict {summary.verdict}"
        )

    def _canary(self) -> str:
        tenant = self.tenant.id
        rollout = self.services.rollouts.start(
            ACTOR, tenant, tenant, self.result.adapter, percent=CANARY_PERCENT
        )
        self.rollout_id = rollout.id
        self._await_loaded()
        arms = [
            self._ask(self.questions[0].question, user=f"user-{number}", max_tokens=1)[1]["arm"]
            for number in range(CANARY_USERS)
        ]
        share = 100 * arms.count("canary") / len(arms)
        return f"asked {CANARY_PERCENT} %, observed {share:.0f} % of {len(arms)} users"

    def _promote(self) -> str:
        reason = "param demo: the small held-out set decides nothing; promoted to show the step"
        done = self.services.rollouts.promote(ACTOR, self.rollout_id, reason=reason)
        deadline = time.monotonic() + 30
        while (
            self._ask(self.questions[0].question, max_tokens=1)[1]["model"] != self.result.adapter
        ):
            if time.monotonic() > deadline:
                raise StageFailed("the gateway still serves the old model 30 s after the promotion")
            self._pause()
        return f"rollout {done.id[:8]} {done.state.value}; {self.result.adapter} serves everyone"

    def _ask_after(self) -> str:
        answers = self._ask_all()
        self.result.answer_after = answers[0]
        right = self._right(answers)
        if not self.questions[0].is_right(answers[0]):
            raise StageFailed(f"the first question is still answered wrongly: {answers[0]!r}")
        return f"{right} of {len(answers)} right; first: {answers[0]!r}"

    def _verify_receipt(self) -> str:
        document = self.http.get(f"/v1/receipts/{self.last_receipt_id}").raise_for_status().json()
        self.result.receipt = document["envelope"]
        verified = receipts.verify(document["envelope"], self.services.keyring.jwks())
        held = ", ".join(check.name for check in verified.checks if check.ok)
        if broken := [check.detail for check in verified.checks if not check.ok]:
            raise StageFailed(f"receipt {self.last_receipt_id}: {broken[0]}")
        return f"receipt {self.last_receipt_id[:8]}: {held}"

    def _verify_log(self) -> str:
        self.services.audit.sequence()
        verified = self.services.audit.verify()
        return f"{verified.size} entries, root {verified.root[:16]}…"

    def _ask_all(self) -> list[str]:
        answers = []
        for question in self.questions:
            answer, facts = self._ask(question.question)
            self.last_receipt_id = facts["receipt"]
            answers.append(answer)
        # The receipt that is verified later belongs to the first question.
        first, facts = self._ask(self.questions[0].question)
        self.last_receipt_id = facts["receipt"]
        return [first, *answers[1:]]

    def _right(self, answers: list[str]) -> int:
        return sum(
            question.is_right(answer)
            for question, answer in zip(self.questions, answers, strict=True)
        )

    def _ask(
        self, text: str, *, user: str = "demo", max_tokens: int = 48
    ) -> tuple[str, dict[str, str]]:
        response = self.http.post(
            "/v1/chat/completions",
            json={
                "model": self.tenant.id,
                "messages": [{"role": "user", "content": text}],
                "temperature": 0,
                "max_tokens": max_tokens,
            },
            headers={"x-param-user": user},
        )
        if response.status_code != 200:
            raise EngineUnavailable(f"the gateway answered {response.status_code}: {response.text}")
        facts = {name: response.headers[f"x-param-{name}"] for name in ("arm", "model", "receipt")}
        return str(response.json()["choices"][0]["message"]["content"]), facts

    def _await_loaded(self, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while self.result.adapter not in {model.id for model in self.services.engine.models()}:
            if time.monotonic() > deadline:
                raise StageFailed(f"the engine did not load the adapter within {timeout_s:.0f} s")
            self._pause()

    def _await(self, job: Callable[[], Job]) -> None:
        while (found := job()).status in {
            JobStatus.QUEUED,
            JobStatus.RUNNING,
            JobStatus.STOPPING,
        }:
            self._pause()
        if found.status is not JobStatus.SUCCEEDED:
            raise StageFailed(f"job {found.status.value}: {found.error or found.message}")

    def _pause(self) -> None:
        if self._stop.wait(POLL_S):
            raise StageFailed("the demo was stopped")
