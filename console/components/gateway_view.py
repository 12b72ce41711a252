"""The gateway's parts as people read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from console.components import empty, figures, heading
from console.components.text import plain
from console.i18n import duration, number, percent, t, when
from services.errors import Unavailable
from services.operations.models import FallbackSwitch, GatewayState, TenantView

_COLORS = {"closed": "green", "half_open": "orange", "open": "red"}


def reached(ask: Callable[[], GatewayState]) -> GatewayState | None:
    """The gateway's state; None, and a word on why, where it does not answer."""
    try:
        return ask()
    except Unavailable as error:
        empty.draw(t("gateway.away"), t("gateway.away_text"), icon="cloud_off")
        st.caption(plain(error.message))
        return None


def standing(found: GatewayState, zone: str) -> None:
    """Whether it is ready, what is missing, and how much it has to do."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if found.is_draining:
            st.badge(t("gateway.draining"), color="orange", icon=":material/pause:")
        elif found.is_ready:
            st.badge(t("gateway.ready"), color="green", icon=":material/check_circle:")
        else:
            st.badge(t("gateway.not_ready"), color="red", icon=":material/error:")
        st.caption(
            t("gateway.since", when=when(found.started_at, zone), pid=str(found.pid),
              version=found.version),
            width="content",
        )  # fmt: skip
    missing = [name for name, is_there in found.checks.items() if not is_there and name != "open"]
    if missing:
        names = ", ".join(t(f"gateway.check_{name}") for name in missing)
        st.error(t("gateway.missing", names=names), icon=":material/error:")
    figures.draw(
        [
            (t("gateway.in_flight"), number(found.in_flight)),
            (t("gateway.waiting"), number(found.waiting)),
            (
                t("gateway.directory_age"),
                t("common.seconds", seconds=number(found.directory_age_s, 1)),
            ),
            (t("gateway.uptime"), duration(found.uptime_s)),
        ]
    )


def upstreams(found: GatewayState) -> None:
    """The engines, and whether requests reach them."""
    heading.section(t("gateway.engines"), t("gateway.engines_text"))
    for upstream in found.upstreams:
        with st.container(border=True, gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"**{t(f'gateway.name_{upstream.name}')}**", width="content")
                st.badge(t(f"gateway.state_{upstream.state}"), color=_COLORS[upstream.state])  # type: ignore[arg-type]
                if upstream.is_up is False:
                    st.badge(t("gateway.does_not_answer"), color="red")
                st.caption(f"`{upstream.address}`", width="content")
            said = [t("gateway.model", model=plain(upstream.model))] if upstream.model else []
            if upstream.context:
                said.append(t("gateway.context", count=upstream.context))
            if upstream.adapters:
                said.append(t("gateway.adapters", count=len(upstream.adapters)))
            if upstream.failures:
                said.append(t("gateway.failures", count=upstream.failures))
            if upstream.times_opened:
                said.append(t("gateway.times_opened", count=upstream.times_opened))
            if upstream.retry_in_s:
                said.append(t("gateway.retry_in", time=duration(upstream.retry_in_s)))
            st.caption(" · ".join(said))
            if upstream.adapters:
                with st.expander(t("gateway.adapters", count=len(upstream.adapters))):
                    st.code("\n".join(upstream.adapters), language=None)


def tenant_view(view: TenantView) -> None:
    """A tenant's limits, policy and aliases as the gateway applies them at this moment."""
    figures.draw(
        [
            (t("gateway.tps"), number(view.limits["tps"])),
            (t("gateway.rpm"), number(view.limits["rpm"])),
            (t("gateway.tokens_left"), number(view.tokens_left_today or 0)),
            (t("gateway.policy"), str(view.policy_version)),
        ]
    )
    rows = [
        {
            t("gateway.alias"): row["alias"],
            t("gateway.served_by"): row["adapter"] or t("gateway.base"),
            t("gateway.candidate"): row["candidate"] or "",
            t("gateway.share"): percent(row["percent"] / 100) if row["candidate"] else "",
        }
        for row in view.aliases
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")


def decisions(found: Sequence[FallbackSwitch], zone: str) -> None:
    """Who allowed or forbade the second engine, newest first."""
    if not found:
        st.caption(t("gateway.no_decision"))
        return
    rows = [
        {
            t("gateway.at"): when(one.at, zone),
            t("gateway.decision"): t("gateway.allowed" if one.allowed else "gateway.not_allowed"),
            t("gateway.who"): one.actor_name,
            t("gateway.reason"): one.reason,
        }
        for one in found
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")
