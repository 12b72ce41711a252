"""What the judge of an evaluation will cost, and what it may cost at most."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from console import wiring
from console.components import amount, errors
from console.i18n import number, t
from services.tenants.models import Actor

CAP = "evaluate.judge_cap"
USUAL_USD = 1.0


def draw(
    actor: Actor,
    tenant_id: str,
    adapter: str,
    dataset_id: str | None,
    prompts: Sequence[str] | None,
) -> None:
    """Draw the estimate and the field of the cap."""
    with errors.shown():
        cost = wiring.services().evaluations.judge_cost(
            actor, tenant_id, adapter, dataset_id=dataset_id, prompts=prompts
        )
        left = "" if cost.left_micro is None else t(
            "evaluate.judge_month", left=amount.shown(max(0, cost.left_micro))
        )  # fmt: skip
        st.caption(
            t(
                "evaluate.judge_cost", calls=number(cost.calls),
                expected=amount.shown(cost.expected_micro), most=amount.shown(cost.most_micro),
            )
            + f" {left}"
        )  # fmt: skip
        st.number_input(
            t("evaluate.judge_cap"), 0.01, 1_000_000.0, USUAL_USD, 0.5, key=CAP, width=220,
            help=t("evaluate.judge_cap_help"),
        )  # fmt: skip
