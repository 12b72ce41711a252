"""The order of an export: which pairs, how they are split and written, and what the gates do."""

from __future__ import annotations

import streamlit as st

from console import agreed, auth, state, wiring
from console.components import errors
from console.i18n import percent_format, t
from services.preferences.choices import Choices
from services.preferences.exports import EXTRAS, Form, Shape
from services.preferences.gates.models import GATES, MAX_LENGTH, PAIRS_A_PROMPT, Action, Rules

_FREE = tuple(gate for gate in GATES if not gate.is_fixed)


def draw(tenant_id: str, *, is_busy: bool) -> None:
    """Draw the form.

    Args:
        is_busy: A check is under way; another one has to wait.
    """
    st.toggle(t("quality.all"), key="quality.all")
    with st.grid(4, min_column_width=150):
        st.slider(
            t("quality.held_out"), 0, 50, 10, 5, format=percent_format(), key="quality.held_out",
            help=t("quality.held_out_help"),
        )  # fmt: skip
        st.number_input(
            t("quality.seed"), min_value=0, step=1, key="quality.seed", help=t("quality.seed_help")
        )
        st.segmented_control(
            t("quality.shape"), list(Shape), default=Shape.CONVERSATIONAL, required=True,
            format_func=lambda shape: t(f"quality.shape_{shape.value}"), key="quality.shape",
            help=t("quality.shape_help"),
        )  # fmt: skip
        st.multiselect(
            t("quality.also"), EXTRAS, key="quality.also", placeholder="–",
            format_func=lambda name: t(f"quality.also_{name}"),
        )  # fmt: skip
    with st.expander(t("quality.gates_set"), icon=":material/tune:"):
        st.caption(t("quality.gates_fixed"))
        _gates()
    st.button(
        t("quality.start"), type="primary", icon=":material/fact_check:", key="quality.start",
        disabled=is_busy, on_click=_start, args=(tenant_id,),
    )  # fmt: skip


def _gates() -> None:
    with st.grid(3, min_column_width=190):
        st.number_input(
            t("quality.max_length"), 16, 1_000_000, MAX_LENGTH, 64, key="quality.max_length"
        )
        st.number_input(
            t("quality.pairs_a_prompt"), 1, 1_000_000, PAIRS_A_PROMPT, 1,
            key="quality.pairs_a_prompt",
        )  # fmt: skip
        for gate in _FREE:
            actions = [one for one in Action if not (gate.of_set and one is Action.DROP)]
            st.selectbox(
                t(f"quality.gate_{gate.name}"), actions, actions.index(gate.default),
                format_func=lambda action: t(f"quality.action_{action.value}"),
                key=f"quality.gate.{gate.name}", help=t(f"quality.gate_{gate.name}_help"),
            )  # fmt: skip


@errors.guarded
def _start(tenant_id: str) -> None:
    actor = auth.actor()
    rules = Rules(
        actions={
            gate.name: Action(state.get(f"quality.gate.{gate.name}", gate.default))
            for gate in _FREE
            if state.get(f"quality.gate.{gate.name}", gate.default) != gate.default
        },
        max_length=state.get("quality.max_length", MAX_LENGTH),
        pairs_a_prompt=state.get("quality.pairs_a_prompt", PAIRS_A_PROMPT),
        agreement=agreed.measured(wiring.agreements(), actor, tenant_id),
    )
    choices = Choices(
        include_unreviewed=bool(state.get("quality.all", False)),
        eval_fraction=state.get("quality.held_out", 10) / 100,
        seed=state.get("quality.seed", 0),
        rules=rules,
        form=Form(
            Shape(state.get("quality.shape", Shape.CONVERSATIONAL)),
            tuple(state.get("quality.also", ())),
        ),
    )
    wiring.services().quality.start(actor, tenant_id, choices)
    errors.leave(t("quality.started"))
