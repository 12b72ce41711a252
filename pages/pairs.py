"""Pairs: browse and search, take files in, hand data sets out."""

from __future__ import annotations

import streamlit as st

from console import auth, downloads, state, wiring
from console.components import empty, figures, heading, pair_detail, pair_import
from console.components.text import shortened
from console.i18n import number, t
from services.preferences.models import Page, PairStats, PairStatus
from services.tenants.models import Actor, Permission, Tenant

PER_PAGE = 25
VIEWS = ("browse", "import", "export")


def counts(stats: PairStats) -> None:
    """How many pairs there are, and how far their review is."""
    values = [(t("pairs.total"), stats.total)]
    values += [
        (t(f"pairs.status_{status.value}"), stats.by_status[status]) for status in PairStatus
    ]
    figures.draw([(label, number(value)) for label, value in values])


def choose_view(actor: Actor, tenant_id: str) -> str:
    """Which part of the page is drawn; only those who may edit pairs have a choice."""
    if not actor.may(Permission.EDIT_PAIRS, tenant_id):
        return "browse"
    chosen = st.segmented_control(
        t("pairs.view"),
        VIEWS,
        default="browse",
        required=True,
        format_func=lambda view: t(f"pairs.view_{view}"),
        key="pairs.view",
        label_visibility="collapsed",
    )
    return str(chosen)


def browse(actor: Actor, tenant: Tenant) -> None:
    """A filtered list, and the chosen pair in full below it."""
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    status = left.segmented_control(
        t("pairs.status"),
        list(PairStatus),
        format_func=lambda value: t(f"pairs.status_{value.value}"),
        key="pairs.status",
        on_change=state.put,
        args=("pairs.page", 1),
    )
    query = right.text_input(
        t("pairs.search"),
        placeholder=t("pairs.search_example"),
        icon=":material/search:",
        key="pairs.query",
        on_change=state.put,
        args=("pairs.page", 1),
    )
    number_ = int(state.get("pairs.page", 1))
    found = wiring.services().preferences.pairs(
        actor,
        tenant.id,
        status=status,
        query=query or "",
        limit=PER_PAGE,
        offset=(number_ - 1) * PER_PAGE,
    )
    if not found.pairs:
        empty.draw(t("pairs.none"), t("pairs.none_text"), icon="search_off")
        return
    chosen = table(found)
    turn_pages(found)
    if chosen is None:
        st.caption(t("pairs.choose_row"))
        return
    pair = wiring.services().preferences.pair(actor, tenant.id, chosen)
    pair_detail.draw(pair, reader_id=actor.id, zone=tenant.timezone)


def table(found: Page) -> str | None:
    """Draw one page of the list; the id of the chosen pair."""
    event = st.dataframe(
        [
            {
                "prompt": shortened(pair.prompt.question),
                "turns": len(pair.prompt.turns),
                "language": pair.language,
                "status": t(f"pairs.status_{pair.status.value}"),
                "source": pair.source,
            }
            for pair in found.pairs
        ],
        column_config={
            "prompt": st.column_config.Column(t("pairs.prompt"), width="large"),
            "turns": st.column_config.NumberColumn(t("pairs.turns"), width="small"),
            "language": st.column_config.Column(t("pairs.language"), width="small"),
            "status": t("pairs.status"),
            "source": t("pairs.source"),
        },
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"pairs.table.{found.offset}",
    )
    rows = event["selection"]["rows"]
    return found.pairs[rows[0]].id if rows and rows[0] < len(found.pairs) else None


def turn_pages(found: Page) -> None:
    """Say where in the list this is, and turn its pages."""
    last = -(-found.total // found.limit)
    with st.container(horizontal=True, vertical_alignment="center"):
        first, end = found.offset + 1, found.offset + len(found.pairs)
        st.caption(t("pairs.range", first=first, last=end, total=found.total))
        if last > 1:
            st.pagination(last, key="pairs.page")


def export(actor: Actor, tenant: Tenant, stats: PairStats) -> None:
    """Hand out the approved pairs as files that TRL reads."""
    heading.section(t("pairs.export"), t("pairs.export_caption"))
    everything = st.toggle(t("pairs.export_all"), key="pairs.export_all")
    ready = stats.by_status[PairStatus.APPROVED]
    ready += stats.by_status[PairStatus.UNREVIEWED] if everything else 0
    if not ready:
        empty.draw(t("pairs.nothing_approved"), t("pairs.nothing_approved_text"), icon="rule")
        return
    preferences = wiring.services().preferences
    st.download_button(
        t("pairs.export_now", count=ready),
        lambda: downloads.zipped(
            lambda folder: preferences.export(
                actor, tenant.id, folder, include_unreviewed=everything
            )
        ),
        file_name=f"{tenant.id}-pairs.zip",
        mime="application/zip",
        type="primary",
        icon=":material/archive:",
        on_click="ignore",
    )


def page() -> None:
    """Draw the pairs of the chosen tenant."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    stats = wiring.services().preferences.stats(actor, tenant.id)
    heading.draw(t("nav.pairs"), t("pairs.caption"))
    counts(stats)
    view = choose_view(actor, tenant.id)
    if view == "import":
        pair_import.draw(tenant.id)
    elif view == "export":
        export(actor, tenant, stats)
    elif stats.total:
        browse(actor, tenant)
    else:
        empty.draw(t("pairs.empty"), t("pairs.empty_text"), icon="compare_arrows")
        if actor.may(Permission.EDIT_PAIRS, tenant.id):
            pair_import.offer_demo(tenant.id)


page()
