"""What proves a rollout: every look, the signed steps, changes on a cluster, who was told."""

from __future__ import annotations

import json

import streamlit as st

from console.i18n import t, when
from services.rollouts.alerts.outbox import AlertState
from services.rollouts.driving.store import KeptVerdict
from services.rollouts.history import Changed, Checked
from services.rollouts.models import Rollout
from services.rollouts.overview import Signed


def verdicts(found: list[KeptVerdict], zone: str) -> None:
    """Draw the looks at the arms, newest first."""
    if not found:
        st.caption(t("rollouts.no_verdicts"))
        return
    st.dataframe(
        [
            {
                "at": when(one.at, zone),
                "outcome": t(f"rollouts.outcome_{one.outcome}"),
                "n": f"{one.facts['stableN']} / {one.facts['canaryN']}",
                "level": one.facts["level"],
                "metrics": ", ".join(
                    f"{t('rollouts.metric_' + each['metric'])}: "
                    f"{t('rollouts.outcome_' + each['outcome'])}"
                    for each in one.facts["comparisons"]
                ),
            }
            for one in found
        ],
        column_config={
            "at": t("rollouts.at"),
            "outcome": t("rollouts.outcome"),
            "n": t("rollouts.n_both"),
            "level": t("rollouts.level"),
            "metrics": st.column_config.Column(t("rollouts.metrics"), width="large"),
        },
        hide_index=True,
    )


def flaws(checked: Checked) -> None:
    """Draw what is wrong with the signed history, if anything is."""
    if not checked.is_whole:
        lines = [t(f"rollouts.flaw_{one.flaw.value}", step=one.seq) for one in checked.flaws]
        told = "\n".join(f"- {line}" for line in lines)
        st.error(f"{t('rollouts.history_flawed')}\n\n{told}", icon=":material/gpp_bad:")


def signed(rollout: Rollout, found: list[Signed], checked: Checked) -> None:
    """Draw the signed steps, to be taken away, and that they are all there."""
    if not found:
        st.caption(t("rollouts.no_signed"))
        return
    st.caption(t("rollouts.signed", count=len(found), last=found[-1].sha256[:16]))
    if checked.is_whole:
        st.caption(f":material/verified: {t('rollouts.history_whole', logged=checked.logged)}")
    body = {"rollout": rollout.id, "statements": [one.envelope for one in found]}
    st.download_button(
        t("rollouts.download_signed"), json.dumps(body, indent=1),
        f"rollout-{rollout.id}.json", "application/json", icon=":material/download:",
        key=".".join(("rollouts", "signed", rollout.id)),
    )  # fmt: skip


def changes(found: list[Changed], zone: str) -> None:
    """Draw what was changed on a cluster."""
    if not found:
        return
    st.dataframe(
        [
            {
                "at": when(one.at, zone),
                "step": one.seq,
                "object": one.evidence["object"],
                "generation": one.evidence["generation"],
                "before": one.evidence["spec_sha256_before"][:12],
                "after": one.evidence["spec_sha256_after"][:12],
            }
            for one in found
        ],
        column_config={
            "at": t("rollouts.at"),
            "step": t("rollouts.step"),
            "object": st.column_config.Column(t("rollouts.changed_object"), width="large"),
            "generation": t("rollouts.changed_generation"),
            "before": t("rollouts.changed_before"),
            "after": t("rollouts.changed_after"),
        },
        hide_index=True,
    )


def alerts(found: list[AlertState], zone: str) -> None:
    """Draw who outside was told, or will be."""
    if not found:
        st.caption(t("rollouts.no_alerts"))
        return
    st.dataframe(
        [
            {
                "sink": one.sink,
                "step": one.seq,
                "sent": when(one.sent_at, zone) if one.sent_at else "–",
                "attempts": one.attempts,
                "problem": one.problem or "–",
            }
            for one in found
        ],
        column_config={
            "sink": t("rollouts.alert_to"),
            "step": t("rollouts.step"),
            "sent": t("rollouts.alert_sent"),
            "attempts": t("rollouts.alert_attempts"),
            "problem": t("rollouts.alert_problem"),
        },
        hide_index=True,
    )
