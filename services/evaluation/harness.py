"""The local tasks, done by lm-eval: no network, no cache, the model that is in memory already."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.errors import InvalidInput, WrongConfiguration
from services.evaluation.models import TaskScore

if TYPE_CHECKING:
    from services.evaluation.scoring import Subject

TASKS = Path(__file__).parent / "tasks"
BATCH = 16


def task_names(folder: Path = TASKS) -> list[str]:
    """The tasks that lie in a folder, by name."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def count_documents(name: str, folder: Path = TASKS) -> int:
    """How many documents a task has."""
    lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return sum(1 for line in lines if json.loads(line))


def done_by_both(subject: Subject, name: str, folder: Path = TASKS) -> list[TaskScore]:
    """Which documents of one task both models get right.

    Args:
        name: Of the task.
        folder: Where its YAML file lies.

    Raises:
        WrongConfiguration: lm-eval is not installed.
        InvalidInput: The task measures no accuracy.
    """
    with subject.as_base():
        base = _right(subject, name, folder)
    adapter = _right(subject, name, folder)
    return [TaskScore(name, document, base[document], adapter[document]) for document in base]


def _right(subject: Subject, name: str, folder: Path) -> Mapping[int, bool]:
    try:
        import lm_eval  # type: ignore[import-untyped]
        from lm_eval.models.huggingface import HFLM  # type: ignore[import-untyped]
        from lm_eval.tasks import TaskManager  # type: ignore[import-untyped]
    except ImportError as error:
        raise WrongConfiguration(
            "expected the library lm-eval, found none: pip install 'param-console[tasks]', or "
            "evaluate without tasks"
        ) from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    model = HFLM(
        pretrained=subject.model,
        tokenizer=subject.tokenizer,
        batch_size=BATCH,
        max_length=subject.max_length,
    )
    found: Any = lm_eval.simple_evaluate(
        model=model,
        tasks=[name],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    samples = found["samples"][name]
    if not samples or any("acc" not in sample for sample in samples):
        raise InvalidInput(f"task {name}: expected the metric acc for each document, found none")
    return {int(sample["doc_id"]): sample["acc"] == 1.0 for sample in samples}
