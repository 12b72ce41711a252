"""How a rollout is begun: which candidate, and whether a policy or a person moves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from console import auth, state, wiring
from console.components import errors
from console.i18n import percent_format, t
from services.registry.models import Adapter
from services.rollouts.backends import GATEWAY
from services.rollouts.backends.targets import ASKED, planned_target
from services.rollouts.models import Planned
from services.rollouts.policy import DEFAULT_SOURCE
from services.tenants.models import Actor, Tenant

BY_POLICY, BY_HAND = "policy", "hand"


def draw(actor: Actor, tenant: Tenant, adapters: Sequence[Adapter], busy: set[str]) -> None:
    """Ask which candidate is tried on which alias, and how."""
    meant = {
        target.alias: target.adapter
        for target in wiring.services().tenants.aliases(actor, tenant.id)
    }
    free = [one for one in adapters if one.alias not in busy and meant.get(one.alias) != one.name]
    with st.expander(
        t("rollouts.new"), icon=":material/add:", expanded=not busy, key="rollouts.form"
    ):
        if not free:
            st.caption(t("rollouts.nothing_to_start"))
            return
        _fields(tenant, free, meant)


def _fields(tenant: Tenant, free: Sequence[Adapter], meant: Mapping[str, str | None]) -> None:
    aliases = sorted({one.alias for one in free})
    left, right = st.columns([2, 3])
    alias = left.selectbox(t("rollouts.alias"), aliases, key="rollouts.alias")
    candidates = [one.name for one in free if one.alias == alias]
    right.selectbox(t("rollouts.candidate"), candidates, key="rollouts.candidate")
    st.caption(
        t("rollouts.means_now", alias=alias, adapter=meant.get(alias) or t("rollouts.base_model"))
    )
    kind = st.radio(
        t("rollouts.moved_by"), (BY_POLICY, BY_HAND), horizontal=True, key="rollouts.kind",
        format_func=lambda one: t(f"rollouts.by_{one}"),
    )  # fmt: skip
    if kind == BY_POLICY:
        st.text_area(
            t("rollouts.policy"), DEFAULT_SOURCE, height=330, key="rollouts.policy",
            help=t("rollouts.policy_help"),
        )  # fmt: skip
        if wiring.services().settings.kubeconfig:
            _place()
    else:
        st.slider(
            t("rollouts.first_share"), 0, 100, 10, format=percent_format(), key="rollouts.percent"
        )
    st.button(
        t("rollouts.start"), type="primary", icon=":material/call_split:",
        key="rollouts.start", on_click=start, args=(tenant.id,),
    )  # fmt: skip


def _place() -> None:
    """Ask what splits the traffic, and where; only a cluster can be another place."""
    backend = st.selectbox(
        t("rollouts.backend"), (GATEWAY, *ASKED), key="rollouts.backend",
        format_func=lambda one: t(f"rollouts.backend_{one}"), help=t("rollouts.backend_help"),
    )  # fmt: skip
    if backend == GATEWAY:
        return
    with st.container(border=True), st.grid(2, min_column_width=220):
        for name in ASKED[backend]:
            default = wiring.services().settings.cluster_namespace if name == "namespace" else ""
            st.text_input(
                t(f"rollouts.target_{name}"), default, key=_target_key(backend, name),
                help=t(f"rollouts.target_{name}_help"),
            )  # fmt: skip


def _target_key(backend: str, name: str) -> str:
    return ".".join(("rollouts", "target", backend, name))


def _plan() -> Planned:
    """The policy of the form, and where it splits."""
    backend = state.get("rollouts.backend", GATEWAY)
    given = {
        name: state.get(_target_key(backend, name), "") or "" for name in ASKED.get(backend, ())
    }
    source = state.get("rollouts.policy", DEFAULT_SOURCE)
    return Planned(source, backend, planned_target(backend, given))


@errors.guarded
def start(tenant_id: str) -> None:
    """Begin the rollout of the form."""
    is_planned = state.get("rollouts.kind", BY_POLICY) == BY_POLICY
    plan = _plan() if is_planned else None
    wiring.services().rollouts.start(
        auth.actor(),
        tenant_id,
        state.get("rollouts.alias", ""),
        state.get("rollouts.candidate", ""),
        percent=0 if is_planned else state.get("rollouts.percent", 0),
        plan=plan,
    )
    errors.leave(t("rollouts.planned" if is_planned else "rollouts.started"))
