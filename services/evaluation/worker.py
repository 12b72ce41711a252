"""Runs evaluations: supervises the process that scores, then concludes and tells MLflow."""

from __future__ import annotations

import logging
from typing import Any

from services.errors import DigestMismatch, Unavailable
from services.evaluation import store
from services.evaluation.folder import EvaluationFolder
from services.evaluation.models import Evaluation, Summary
from services.evaluation.prompts import demo_questions
from services.evaluation.service import Evaluations
from services.evaluation.summary import LeftOut, summarise
from services.inference import model_store
from services.jobs.children import Child, ChildFailed
from services.jobs.claims import WORKER
from services.jobs.worker import JobContext, JobPutBack, JobStopped

MAX_NEW_TOKENS = 64
"""Longest answer, tokens: long enough to see a loop."""

log = logging.getLogger("param.evaluation")


def evaluation_handler(context: JobContext) -> None:
    """Run, or go on with, the evaluation that a job names.

    Raises:
        ChildFailed: The scoring failed; the message is the child's own sentence.
        DigestMismatch: Adapter or base model are no longer what was to be evaluated.
        MissingModel: The base model is not on disk.
        JobStopped: A person asked for a stop.
        JobPutBack: This worker is leaving.
        JobTaken: Another worker holds the job.
    """
    evaluations: Evaluations = context.services.evaluations
    evaluation = evaluations.get(WORKER, context.job.payload["evaluation_id"])
    if evaluation.summary is None:
        _evaluate(context, evaluations, evaluation)
        evaluation = evaluations.get(WORKER, evaluation.id)
    assert evaluation.summary is not None, "written just above"
    _tell_mlflow(context, evaluation, evaluation.summary)
    context.progress(1.0, f"the adapter is {evaluation.summary.verdict}", now=True)


def _evaluate(context: JobContext, evaluations: Evaluations, evaluation: Evaluation) -> None:
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
    summary = summarise(
        scores,
        answers,
        beta=evaluation.beta,
        left_out=LeftOut(seen=result["seen"], too_long=result["too_long"]),
        seconds=result["seconds"],
    )
    evaluations.finish(WORKER, evaluation.id, summary, scores, answers)


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
        "param.verdict": summary.verdict.value,
    }
    try:
        registry.mlflow.log_run(adapter, f"evaluation {evaluation.id}", summary.metrics, tags)
    except Unavailable as error:
        log.warning("evaluation %s is not in MLflow: %s", evaluation.id, error)
