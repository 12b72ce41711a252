"""Findings beside the held-out pairs, as an adapter shows them that lost nothing."""

from __future__ import annotations

from typing import Any

from services.evaluation.findings import Range, TaskFinding, TextFinding, Verdict
from services.evaluation.models import Measured, TaskScore, TextScore

KEPT_TEXTS = tuple(
    TextScore(f"en-{n:03}", "en", 10, 30.0 + n % 3, 30.0 + n % 3 + 0.01 * (n % 3 - 1))
    for n in range(30)
)
KEPT_TASKS = tuple(
    TaskScore(task, n, n % 4 != 0, n % 4 != 0)
    for task in ("param_facts_en", "param_grammar_tr")
    for n in range(40)
)
KEPT = Measured(texts=KEPT_TEXTS, tasks=KEPT_TASKS)

FLAT = Range(0.0, -0.01, 0.01, 1.0, "t")
FINDINGS: dict[str, Any] = {
    "n_prompts": 50,
    "texts": TextFinding(30, 300, 20.0, 20.0, FLAT),
    "overlap": None,
    "judged": None,
    "tasks": (
        TaskFinding(
            "param_facts_en", 40, 0.8, 0.8, 0, 0, -0.01, 0.01, 1.0, 1.0, Verdict.NON_INFERIOR
        ),
    ),
    "task_loss_low": -0.01,
    "speed": None,
}
