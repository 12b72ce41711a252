"""A text tried against a policy, before anybody's policy says so."""

from __future__ import annotations

import streamlit as st

from console.components import errors, heading
from console.components.text import answer
from console.i18n import t
from services.guardrails.guards import try_out
from services.guardrails.models import Place, Verdict


def draw(source: str) -> None:
    """Ask for a text and show what the policy makes of it.

    Args:
        source: The policy as YAML, saved or not.
    """
    heading.section(t("policy.trial"), t("policy.trial_caption"))
    place = st.segmented_control(
        t("policy.place"), list(Place), default=Place.INPUT, required=True, key="policy.place",
        format_func=lambda one: t(f"policy.place_{one.value}"), label_visibility="collapsed",
    )  # fmt: skip
    text = st.text_area(
        t("policy.trial_text"), key="policy.trial_text", height=120,
        placeholder=t("policy.trial_example"),
    )  # fmt: skip
    if not text.strip():
        return
    with errors.shown():
        _show(try_out(source, Place(place), text))


def _show(verdict: Verdict) -> None:
    if verdict.blocked_by is not None:
        st.error(
            t("policy.blocked", check=verdict.blocked_by.check, kind=verdict.blocked_by.kind),
            icon=":material/block:",
        )
    elif not verdict.findings:
        st.success(t("policy.clean"), icon=":material/check_circle:")
    else:
        answer(verdict.text, label=t("policy.goes_on_as"), as_markdown=False)
    if verdict.findings:
        st.dataframe(
            [
                {
                    "check": one.check,
                    "kind": one.kind,
                    "action": t(f"policy.action_{one.action.value}"),
                    "from": one.span.start,
                    "to": one.span.end,
                }
                for one in verdict.findings
            ],
            column_config={
                "check": t("policy.check"),
                "kind": t("policy.kind"),
                "action": t("policy.action"),
                "from": t("policy.from"),
                "to": t("policy.to"),
            },
            hide_index=True,
        )
