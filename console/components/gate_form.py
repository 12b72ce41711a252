"""What a tenant asks of promotions: read, and changed by whoever may roll out."""

from __future__ import annotations

import streamlit as st

from console import auth, state, wiring
from console.components import errors
from console.i18n import t
from services.evaluation.policy import LEAST_PROMPTS, Quality
from services.tenants.models import Actor, Permission, Tenant

_FIELDS = ("quality", "prompts", "texts", "tasks", "judge")


def draw(actor: Actor, tenant: Tenant) -> None:
    """Draw the policy; its fields can be changed by those who may promote."""
    held = wiring.services().evaluations.policies.get(actor, tenant.id)
    may = actor.may(Permission.ROLL_OUT, tenant.id)
    with st.expander(t("evaluate.policy"), icon=":material/gavel:"), st.form("evaluate.policy"):
        with st.grid(2, min_column_width=240):
            st.selectbox(
                t("evaluate.policy_quality"), list(Quality), list(Quality).index(held.quality),
                key="evaluate.policy_quality", disabled=not may,
                format_func=lambda one: t(f"evaluate.policy_{one.name.lower()}"),
            )  # fmt: skip
            st.number_input(
                t("evaluate.policy_prompts"), LEAST_PROMPTS, 1_000_000, held.min_prompts,
                key="evaluate.policy_prompts", disabled=not may,
            )  # fmt: skip
            st.number_input(
                t("evaluate.policy_texts"), 0.0, 1.0, held.max_nll_rise or 0.0, 0.005,
                format="%.3f", key="evaluate.policy_texts", disabled=not may,
            )  # fmt: skip
            st.number_input(
                t("evaluate.policy_tasks"), 0.0, 100.0, 100 * (held.max_task_loss or 0.0), 0.5,
                key="evaluate.policy_tasks", disabled=not may,
            )  # fmt: skip
        st.checkbox(
            t("evaluate.policy_judge"), held.needs_judge, key="evaluate.policy_judge",
            disabled=not may,
        )  # fmt: skip
        st.form_submit_button(
            t("evaluate.policy_save"), disabled=not may, on_click=save, args=(tenant.id,),
            key="evaluate.policy_save",
        )  # fmt: skip


@errors.guarded
def save(tenant_id: str) -> None:
    """Ask what the form says of promotions from now on."""
    given = {name: state.get(f"evaluate.policy_{name}") for name in _FIELDS}
    wiring.services().evaluations.policies.change(
        auth.actor(),
        tenant_id,
        {
            "quality": str(given["quality"]),
            "min_prompts": int(given["prompts"]),
            "max_nll_rise": float(given["texts"]) or None,
            "max_task_loss": float(given["tasks"]) / 100 or None,
            "needs_judge": bool(given["judge"]),
        },
    )
    errors.leave(t("evaluate.policy_saved"))
