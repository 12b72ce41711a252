"""Under the audit log: where its checkpoints lie, and the texts that a tenant keeps."""

from __future__ import annotations

import streamlit as st

from console import auth, state, wiring
from console.components import errors, heading
from console.components.text import plain
from console.i18n import number, t, when
from services.audit.retention.service import Kept
from services.tenants.models import Actor, Permission, Tenant


def checkpoints(tenant: Tenant) -> None:
    """Draw the newest checkpoint, its copy outside and its time stamp."""
    evidence = wiring.services().evidence
    newest, copied, stamp = (
        evidence.proofs.newest(), evidence.outside.newest_copy(), evidence.timestamps.newest()
    )  # fmt: skip
    heading.section(t("audit.checkpoints"), t("audit.checkpoints_caption"))
    left, middle, right = st.columns(3)
    left.metric(t("audit.signed"), number(newest.size) if newest else "–", border=True)
    left.caption(when(newest.at, tenant.timezone) if newest else t("audit.none_signed"))
    middle.metric(t("audit.copied"), number(copied.size) if copied else "–", border=True)
    middle.caption(
        t("audit.copied_to", place=copied.place, at=when(copied.at, tenant.timezone))
        if copied
        else t("audit.none_copied" if evidence.outside.place else "audit.no_place")
    )
    right.metric(t("audit.stamped"), number(stamp.size) if stamp else "–", border=True)
    right.caption(
        t("audit.stamped_at", at=when(stamp.said_at, tenant.timezone))
        if stamp
        else t("audit.none_stamped" if evidence.timestamps.url else "audit.no_authority")
    )
    if newest:
        st.download_button(
            t("audit.take_checkpoint"), newest.note, file_name=f"checkpoint-{newest.size}.txt",
            mime="text/plain", icon=":material/download:", on_click="ignore", key="audit.note",
        )  # fmt: skip


def retention(actor: Actor, tenant: Tenant) -> None:
    """Draw what the tenant chose, what is kept, and the texts that were asked for."""
    kept = wiring.services().evidence.retention
    choice = kept.choice(actor, tenant.id)
    heading.section(t("audit.texts"), t("audit.texts_caption"))
    if choice.days:
        st.markdown(t("audit.keeps", count=choice.days))
    else:
        st.markdown(t("audit.keeps_none"))
    if actor.may(Permission.MANAGE_TENANT, tenant.id):
        _form(tenant.id, choice.days)
    found = kept.kept(actor, tenant.id)
    if found:
        _list(actor, tenant, found)
    elif choice.days:
        st.caption(t("audit.none_kept"))


def _form(tenant_id: str, days: int) -> None:
    with st.form("audit.retention", border=False), st.container(horizontal=True):
        st.number_input(
            t("audit.days"), min_value=0, max_value=3650, value=days, step=1,
            key=f"audit.days.{tenant_id}", help=t("audit.days_help"), width=200,
        )  # fmt: skip
        st.form_submit_button(t("audit.choose_days"), on_click=_choose, args=(tenant_id,))


def _list(actor: Actor, tenant: Tenant, found: list[Kept]) -> None:
    st.dataframe(
        [
            {
                "request": one.request_id,
                "size": number(one.size),
                "kept": when(one.kept_at, tenant.timezone),
                "erased": when(one.erase_at, tenant.timezone),
            }
            for one in found
        ],
        column_config={
            "request": st.column_config.Column(t("audit.request"), width="large"),
            "size": t("audit.bytes"),
            "kept": t("audit.kept_at"),
            "erased": t("audit.erased_at"),
        },
        hide_index=True,
        height=min(420, 40 + 35 * len(found)),
    )
    if not actor.may(Permission.READ_CONTENT, tenant.id):
        st.caption(t("audit.texts_not_yours"))
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            t("audit.request"), [one.request_id for one in found], index=None,
            key="audit.wanted", placeholder=t("audit.choose_request"),
        )  # fmt: skip
        is_asked = st.button(t("audit.read_text"), icon=":material/visibility:", key="audit.read")
    wanted = state.get("audit.wanted")
    if is_asked and wanted:
        _text(actor, tenant.id, wanted)


def _text(actor: Actor, tenant_id: str, request_id: str) -> None:
    with errors.shown():
        found = wiring.services().evidence.retention.read(actor, tenant_id, request_id)
        for name, text in (("request", found.request), ("response", found.response)):
            st.caption(t(f"audit.text_{name}"))
            st.code(text.decode("utf-8", "replace"), language=None, wrap_lines=True)
        st.caption(t("audit.was_read"))


@errors.guarded
def _choose(tenant_id: str) -> None:
    days = int(state.get(f"audit.days.{tenant_id}", 0))
    wiring.services().evidence.retention.choose(auth.actor(), tenant_id, days=days)
    name = plain(tenant_id)
    errors.leave(
        t("audit.now_kept", tenant=name, count=days) if days else t("audit.now_none", tenant=name)
    )
