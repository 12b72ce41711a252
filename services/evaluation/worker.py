"""Runs evaluations: supervises the process that scores, then concludes and tells MLflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from services.errors import DigestMismatch, NotFound, Unavailable, WrongConfiguration
from services.evaluation import store
from services.evaluation.asked import MAX_NEW_TOKENS
from services.evaluation.beside import Prices
from services.evaluation.folder import EvaluationFolder
from services.evaluation.judging import Bench, judge_answers
from services.evaluation.models import AnswerPair, Evaluation, Measured, Summary
from services.evaluation.prompts import demo_questions
from services.evaluation.purse import Purse
from services.evaluation.service import Evaluations
from services.evaluation.summary import LeftOut, summarise
from services.inference import model_store
from services.jobs.children import Child, ChildFailed
from services.jobs.claims import WORKER
from services.jobs.worker import JobContext, JobPutBack, JobStopped
from services.metering.service import Metering
from services.settings import Settings

Judges = Callable[[Settings, Metering], Bench]

log = logging.getLogger("param.evaluation")


def evaluation_handler(context: JobContext, *, judges: Judges | None = None) -> None:
    """Run, or go on with, the evaluation that a job names.

    Args:
        judges: Gives the judge that the settings name, where one is asked for.

    Raises:
        ChildFailed: The scoring failed; the message is the child's own sentence.
        DigestMismatch: Adapter or base model are no longer what was to be evaluated.
        MissingModel: The base model is not on disk.
        JobStopped: A person asked for a stop.
        JobPutBack: This worker is leaving.
        JobTaken: Another worker holds the job.
        WrongConfiguration: A judge is asked for, and the settings name none.
        BudgetExceeded: The tenant's month does not allow the judge's next question.
    """
    evaluations: Evaluations = context.services.evaluations
    evaluation = evaluations.get(WORKER, context.job.payload["evaluation_id"])
    if evaluation.summary is None:
        _evaluate(context, evaluations, evaluation, judges)
        evaluation = evaluations.get(WORKER, evaluation.id)
    assert evaluation.summary is not None, "written just above"
    _tell_mlflow(context, evaluation, evaluation.summary)
    context.progress(1.0, f"the adapter is {evaluation.summary.verdict}", now=True)


def _evaluate(
    context: JobContext,
    evaluations: Evaluations,
    evaluation: Evaluation,
    judges: Judges | None,
) -> None:
    folder = EvaluationFolder(store.run_dir(evaluations.runs_dir, evaluation.id))
    folder.path.mkdir(parents=True, exist_ok=True)

    def show() -> None:
        stage = folder.read("stage.json") or {}
        context.progress(stage.get("fraction", 0.0), stage.get("stage", "starting"))

    child = Child(
        context,
        folder,
        "services.evaluation.score",
        prepare=lambda: folder.write("spec.json", _order(context, evaluations, evaluation)),
        show=show,
    )
    result = child.result()
    if result["outcome"] != "succeeded":
        _give_up(context, folder, result)
    scores, answers = folder.scores(), folder.answers()
    if evaluation.checks.judge:
        _judge(context, evaluation, folder, answers, judges)
    measured = Measured(texts=folder.texts(), tasks=folder.tasks(), judged=folder.judged())
    summary = summarise(
        scores,
        answers,
        beta=evaluation.beta,
        left_out=LeftOut(seen=result["seen"], too_long=result["too_long"]),
        seconds=result["seconds"],
        measured=measured,
        prices=_prices(context, evaluation),
    )
    evaluations.finish(WORKER, evaluation.id, summary, scores, answers, measured)


def _judge(
    context: JobContext,
    evaluation: Evaluation,
    folder: EvaluationFolder,
    answers: Sequence[AnswerPair],
    judges: Judges | None,
) -> None:
    """Have the answers judged; what a stop leaves behind is gone on with."""
    if judges is None:
        raise WrongConfiguration("expected a worker that has a judge, found one without")

    def wait(seconds: float) -> None:
        context.check()
        if seconds and context.wait(seconds):
            context.check()

    def show(number: int, total: int) -> None:
        context.progress(number / total, f"asking the judge, question {number + 1} of {total}")

    services = context.services
    bench = judges(services.settings, services.metering)
    purse = Purse(
        services.db, services.metering, evaluation, folder, bench.fee, judge=bench.judge.name
    )
    judge_answers(folder, answers, bench, purse, wait=wait, show=show)


def _prices(context: JobContext, evaluation: Evaluation) -> Prices | None:
    """What base and adapter cost a request, by the price table of this moment."""
    metering = context.services.metering
    try:
        version, base = metering.price(evaluation.base_model)
        _version, adapter = metering.price(evaluation.adapter)
    except NotFound:
        return None
    return Prices(
        version,
        lambda prompt, completion: int(metering.cost_micro(base, prompt, completion)),
        lambda prompt, completion: int(metering.cost_micro(adapter, prompt, completion)),
    )


def _give_up(context: JobContext, folder: EvaluationFolder, result: dict[str, Any]) -> None:
    """Leave with the reason; the next attempt goes on behind what is scored."""
    folder.remove("result.json")
    if result["outcome"] == "failed":
        raise ChildFailed(str(result["error"]))
    if context.shutting_down and not context.stop_requested:
        raise JobPutBack
    raise JobStopped


def _order(context: JobContext, evaluations: Evaluations, evaluation: Evaluation) -> dict[str, Any]:
    """What the scoring process is told; everything in it is proven first."""
    settings = context.services.settings
    base = model_store.resolve(evaluation.base_model, settings.models_dir)
    if base.digest != evaluation.base_digest:
        raise DigestMismatch(
            f"base model {evaluation.base_model}: expected digest {evaluation.base_digest}, on "
            f"which the adapter was trained, found {base.digest}"
        )
    adapter = evaluations.adapter(WORKER, evaluation)
    dataset = evaluations.dataset(WORKER, evaluation.tenant_id, evaluation.dataset_id)
    learned_from = evaluations.learned_from(WORKER, adapter)
    return {
        "evaluation_id": evaluation.id,
        "base_path": str(base.path),
        "adapter_path": str(adapter.path),
        "adapter_digest": adapter.digest,
        "eval_file": str(dataset.folder / "eval.jsonl"),
        "learned_files": [str(other.folder / "train.jsonl") for other in learned_from],
        "prompts": None if evaluation.prompts is None else [list(p) for p in evaluation.prompts],
        "references": None if evaluation.references is None else list(evaluation.references),
        "checks": asdict(evaluation.checks),
        "more_prompts": [list(prompt) for prompt in demo_questions()],
        "max_new_tokens": MAX_NEW_TOKENS,
        "threads": settings.torch_threads,
    }


def _tell_mlflow(context: JobContext, evaluation: Evaluation, summary: Summary) -> None:
    """Log the numbers at the adapter's model; an MLflow that is away holds nothing up."""
    registry = context.services.registry
    adapter = registry.get(WORKER, evaluation.tenant_id, evaluation.adapter)
    tags = {
        "param.evaluation_id": evaluation.id,
        "param.adapter_sha256": evaluation.adapter_digest,
        "param.dataset_sha256": evaluation.dataset_sha256,
        "param.config_sha256": adapter.config_sha256,
        "param.verdict": summary.verdict.value,
    }
    evaluations: Evaluations = context.services.evaluations
    dataset = evaluations.dataset(WORKER, evaluation.tenant_id, evaluation.dataset_id)
    for name, facts in sorted(dataset.manifest["files"].items()):
        tags[f"param.file_sha256.{name}"] = str(facts["sha256"])
    try:
        registry.mlflow.log_run(
            adapter, f"evaluation {evaluation.id}", summary.metrics, tags, parameters(evaluation)
        )
    except Unavailable as error:
        log.warning("evaluation %s is not in MLflow: %s", evaluation.id, error)


def parameters(evaluation: Evaluation) -> dict[str, str]:
    """What was measured and how, as MLflow lists it."""
    told = {
        "adapter": evaluation.adapter,
        "base_model": evaluation.base_model,
        "dataset_id": evaluation.dataset_id,
        "beta": evaluation.beta,
        "prompts": "usual" if evaluation.prompts is None else len(evaluation.prompts),
        "references": sum(one is not None for one in evaluation.references or ()),
        "max_new_tokens": MAX_NEW_TOKENS,
        **asdict(evaluation.checks),
    }
    return {name: str(value) for name, value in told.items()}
