"""What the audit log says of a finished evaluation."""

from __future__ import annotations

from typing import Any

from services.evaluation.models import Evaluation, Summary


def facts_of(evaluation: Evaluation, summary: Summary) -> dict[str, Any]:
    """The audit event's facts; floats have no single canonical form, so they are texts."""
    return {
        "adapter": evaluation.adapter,
        "adapter_digest": evaluation.adapter_digest,
        "base_digest": evaluation.base_digest,
        "dataset_sha256": evaluation.dataset_sha256,
        "verdict": summary.verdict.value,
        "n_pairs": summary.n_pairs,
        "gained": summary.gained,
        "lost": summary.lost,
        "base_accuracy": f"{summary.base_accuracy:.6f}",
        "adapter_accuracy": f"{summary.adapter_accuracy:.6f}",
        "p_value": f"{summary.p_value:.6g}",
        "adapter_degenerate": summary.adapter_degenerate,
        "base_degenerate": summary.base_degenerate,
    }
