"""Writing and reading what evaluations measured, in a caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.evaluation.models import (
    AnswerPair,
    Evaluation,
    JudgeScore,
    Measured,
    PairScore,
    Summary,
    TaskScore,
    TextScore,
)
from services.evaluation.store import (
    AnswerRow,
    JudgeScoreRow,
    PairScoreRow,
    SummaryRow,
    TaskScoreRow,
    TextScoreRow,
)


def add_results(
    session: Session,
    evaluation: Evaluation,
    summary: Summary,
    pairs: Sequence[PairScore],
    answers: Sequence[AnswerPair],
    measured: Measured,
    *,
    at: datetime,
) -> None:
    """Write everything that an evaluation found."""
    session.add(
        SummaryRow(
            evaluation_id=evaluation.id,
            tenant_id=evaluation.tenant_id,
            verdict=summary.verdict.value,
            body=summary.as_json(),
            created_at=at,
        )
    )
    name = {"evaluation_id": evaluation.id}
    session.add_all(PairScoreRow(**name, **asdict(one)) for one in pairs)
    session.add_all(
        AnswerRow(**name, **{**asdict(one), "prompt": [dict(turn) for turn in one.prompt]})
        for one in answers
    )
    session.add_all(TextScoreRow(**name, **asdict(one)) for one in measured.texts)
    session.add_all(TaskScoreRow(**name, **asdict(one)) for one in measured.tasks)
    session.add_all(JudgeScoreRow(**name, **asdict(one)) for one in measured.judged)
    session.flush()


def pair_scores(session: Session, evaluation_id: str) -> list[PairScore]:
    """The scores of an evaluation, by pair."""
    query = (
        select(PairScoreRow)
        .where(PairScoreRow.evaluation_id == evaluation_id)
        .order_by(PairScoreRow.pair_id)
    )
    return [PairScore(**_values(PairScore, row)) for row in session.scalars(query)]


def answers(session: Session, evaluation_id: str) -> list[AnswerPair]:
    """The answers of an evaluation, in order."""
    query = (
        select(AnswerRow)
        .where(AnswerRow.evaluation_id == evaluation_id)
        .order_by(AnswerRow.position)
    )
    return [
        AnswerPair(**{**_values(AnswerPair, row), "prompt": tuple(row.prompt)})
        for row in session.scalars(query)
    ]


def text_scores(session: Session, evaluation_id: str) -> list[TextScore]:
    """Both models on the neutral texts, by text."""
    query = (
        select(TextScoreRow)
        .where(TextScoreRow.evaluation_id == evaluation_id)
        .order_by(TextScoreRow.text_id)
    )
    return [TextScore(**_values(TextScore, row)) for row in session.scalars(query)]


def task_scores(session: Session, evaluation_id: str) -> list[TaskScore]:
    """Both models on the tasks, by task and document."""
    query = (
        select(TaskScoreRow)
        .where(TaskScoreRow.evaluation_id == evaluation_id)
        .order_by(TaskScoreRow.task, TaskScoreRow.document)
    )
    return [TaskScore(**_values(TaskScore, row)) for row in session.scalars(query)]


def judge_scores(session: Session, evaluation_id: str) -> list[JudgeScore]:
    """What the judge said, by prompt and order."""
    query = (
        select(JudgeScoreRow)
        .where(JudgeScoreRow.evaluation_id == evaluation_id)
        .order_by(JudgeScoreRow.position, JudgeScoreRow.first)
    )
    return [JudgeScore(**_values(JudgeScore, row)) for row in session.scalars(query)]


def _values(kind: Any, row: Any) -> Mapping[str, Any]:
    """A row's values by the names that the dataclass has for them too."""
    return {field.name: getattr(row, field.name) for field in fields(kind)}
