"""Changing many pairs at once: counted, asked, done, and taken back."""

from __future__ import annotations

import streamlit as st

from console import auth, state, wiring
from console.components import errors, pair_filters
from console.components.text import plain
from console.i18n import number, t, when
from services.preferences.bulk import BulkAction, Kind
from services.preferences.filters import Filters
from services.tenants.models import Actor, Tenant

_ASKED = "pairs.bulk_asked"
EVERYBODY = "everybody"


def draw(actor: Actor, tenant: Tenant, filters: Filters) -> None:
    """Draw what can be done to all pairs that the list holds, and what was done."""
    if not st.toggle(t("pairs_bulk.open"), key="pairs.bulk"):
        return
    with st.container(border=True):
        kind, value = _choose(actor, tenant.id)
        preview = wiring.bulk().preview(actor, tenant.id, kind, filters, value=value)
        st.caption(
            t(
                "pairs_bulk.preview",
                count=preview.changed,
                matched=number(preview.matched),
                left=number(max(0, preview.matched - preview.changed)),
            )
        )
        reason = st.text_input(t("pairs_bulk.reason"), key="pairs.bulk_reason", max_chars=2000)
        wanted = (kind, value, filters, preview.changed)
        if state.get(_ASKED) == wanted:
            _confirm(tenant.id, kind, value, filters, preview.changed, reason)
        else:
            st.button(
                t("pairs_bulk.ask", count=preview.changed), key="pairs.bulk_ask",
                icon=":material/edit_note:", disabled=not preview.changed,
                on_click=state.put, args=(_ASKED, wanted),
            )  # fmt: skip
    _done(actor, tenant)


def _choose(actor: Actor, tenant_id: str) -> tuple[Kind, str | None]:
    left, right = st.columns(2)
    kind = Kind(
        left.selectbox(
            t("pairs_bulk.kind"), list(Kind), key="pairs.bulk_kind",
            format_func=lambda one: t(f"pairs_bulk.kind_{one.value}"),
        )
    )  # fmt: skip
    st.caption(t(f"pairs_bulk.help_{kind.value}"))
    if kind is Kind.OVERLAP:
        people = right.number_input(t("pairs_bulk.overlap"), 1, 9, 2, key="pairs.bulk_overlap")
        return kind, str(int(people))
    if kind is Kind.ASSIGN:
        names = {EVERYBODY: t("pairs_bulk.everybody")}
        names |= pair_filters.names_of_assignees(actor, tenant_id)
        who = right.selectbox(
            t("pairs_bulk.assignee"), list(names), key="pairs.bulk_assignee",
            format_func=lambda one: names.get(one, one),
        )  # fmt: skip
        return kind, None if who == EVERYBODY else str(who)
    return kind, None


def _confirm(
    tenant_id: str, kind: Kind, value: str | None, filters: Filters, changed: int, reason: str
) -> None:
    st.warning(
        t("pairs_bulk.sure", what=t(f"pairs_bulk.kind_{kind.value}"), count=changed),
        icon=":material/warning:",
    )
    with st.container(horizontal=True):
        st.button(
            t("pairs_bulk.run", count=changed), type="primary", key="pairs.bulk_run",
            on_click=_run, args=(tenant_id, kind, value, filters, changed, reason),
        )  # fmt: skip
        st.button(
            t("pairs_bulk.cancel"), key="pairs.bulk_cancel", on_click=state.drop, args=(_ASKED,)
        )


@errors.guarded
def _run(
    tenant_id: str, kind: Kind, value: str | None, filters: Filters, changed: int, reason: str
) -> None:
    state.drop(_ASKED)
    done = wiring.bulk().run(
        auth.actor(), tenant_id, kind, filters, value=value, reason=reason, expected=changed
    )
    state.put("pairs.bulk_reason", "")
    errors.leave(t("pairs_bulk.done", count=done.changed))


def _done(actor: Actor, tenant: Tenant) -> None:
    actions = wiring.bulk().actions(actor, tenant.id)
    if not actions:
        return
    st.markdown(f"**{t('pairs_bulk.history')}**")
    for action in actions:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(_told(action, tenant.timezone), width="stretch")
            if action.undone is None:
                st.button(
                    t("pairs_bulk.undo"), key=f"pairs.bulk_undo.{action.id}", type="tertiary",
                    icon=":material/undo:", on_click=_undo, args=(tenant.id, action),
                )  # fmt: skip


def _told(action: BulkAction, zone: str) -> str:
    text = t(
        "pairs_bulk.told", when=when(action.created_at, zone),
        what=t(f"pairs_bulk.kind_{action.kind.value}"), count=action.changed,
    )  # fmt: skip
    reason = f" · {plain(action.reason)}" if action.reason else ""
    if action.undone is None:
        return text + reason
    left = action.changed - action.undone
    undone = t("pairs_bulk.undone", count=action.undone)
    kept = f" {t('pairs_bulk.left', count=left)}" if left else ""
    return f"{text}{reason} · {undone}{kept}"


@errors.guarded
def _undo(tenant_id: str, action: BulkAction) -> None:
    undo = wiring.bulk().undo(auth.actor(), tenant_id, action.id)
    left = action.changed - undo.changed
    kept = f" {t('pairs_bulk.left', count=left)}" if left else ""
    errors.leave(t("pairs_bulk.undone", count=undo.changed) + kept)
