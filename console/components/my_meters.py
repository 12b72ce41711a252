"""An annotator's own meters, to be looked at beside the work."""

from __future__ import annotations

import streamlit as st

from console import wiring
from console.components import figures, intervals
from console.i18n import duration, number, t
from services.tenants.models import Actor


def draw(actor: Actor, tenant_id: str) -> None:
    """Draw what the person has done and how; costs one query over their own votes.

    Raises:
        NotPermitted: The actor does not review in this tenant.
    """
    mine = wiring.meters().mine(actor, tenant_id)
    pace = mine.pairs_per_hour
    figures.draw(
        [
            (t("meters.votes"), number(mine.votes)),
            (t("meters.pace"), "–" if pace is None else number(pace)),
            (t("meters.active"), duration(mine.active_s)),
            (t("meters.gold"), intervals.figure(mine.gold, as_percent=True)),
        ],
        columns=2,
    )
    st.dataframe(
        [
            {"habit": t(f"meters.{name}"), "share": intervals.between(found, as_percent=True)}
            for name, found in (
                ("left", mine.chose_left),
                ("longer", mine.chose_longer),
                ("as_is", mine.approved_as_is),
                ("too_fast", mine.too_fast),
                ("changed", mine.changed),
            )
        ],
        column_config={
            "habit": st.column_config.Column(t("meters.habit"), width="medium"),
            "share": st.column_config.Column(t("meters.share"), width="medium"),
        },
        hide_index=True,
    )
    st.caption(t("meters.mine_note"))
