"""A month's money: how much of its budget is spent, and what was noticed on the way."""

from __future__ import annotations

import streamlit as st

from console.components import amount
from console.i18n import percent, t, when
from services.metering.models import Budget


def draw(budget: Budget, zone: str) -> None:
    """Draw the bar and the warnings; one line where there is no budget.

    Args:
        zone: The tenant's time zone.
    """
    spent = amount.shown(budget.spent_micro)
    if budget.limit_micro is None or budget.percent is None:
        st.caption(t("budget.none", spent=spent))
        return
    share = percent(budget.percent / 100)
    most = amount.shown(budget.limit_micro)
    text = t("budget.spent", spent=spent, budget=most, share=share)
    st.progress(min(1.0, budget.spent_micro / budget.limit_micro), text=text)
    if budget.percent >= 100:
        st.error(t("budget.used_up"), icon=":material/money_off:")
    said = [
        t("budget.reached", share=percent(one.percent / 100), when=when(one.at, zone))
        for one in budget.warnings
        if one.budget_micro == budget.limit_micro
    ]
    if said:
        st.caption("  \n".join(said))
