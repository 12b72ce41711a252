"""Agreement: do the annotators agree, where do they not, and how does each of them work?"""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from console import auth, state, wiring
from console.components import agreement_view, dispute_view, empty, errors, heading, meters_view
from console.i18n import number, t
from labeling.votes import Basis
from services.tenants.models import Actor, Permission, Tenant

VIEWS = ("agreement", "disputes", "people")
PERIODS = {"week": timedelta(days=7), "month": timedelta(days=30), "all": None}
ASKED = "agreement.asked"


def choose_view(disputed: int) -> str:
    """Which part of the page is drawn."""
    names = {
        "agreement": t("agreement.view_agreement"),
        "disputes": t("agreement.view_disputes", count=number(disputed)),
        "people": t("agreement.view_people"),
    }
    chosen = st.segmented_control(
        t("agreement.view"), VIEWS, default="agreement", required=True,
        format_func=lambda view: names[view], key="agreement.view", label_visibility="collapsed",
    )  # fmt: skip
    return str(chosen)


def agreement(actor: Actor, tenant: Tenant) -> None:
    """How far people agree, on the votes that the reader asks for."""
    basis = st.segmented_control(
        t("agreement.basis"), list(Basis)[::-1], default=Basis.BLIND, required=True,
        format_func=lambda one: t(f"agreement.basis_{one.value}"), key="agreement.basis",
        help=t("agreement.basis_help"),
    )  # fmt: skip
    found = wiring.agreements().report(actor, tenant.id, basis=Basis(basis))
    if found.votes:
        agreement_view.draw(found)
    else:
        empty.draw(t("agreement.empty"), t("agreement.empty_text"), icon="handshake")


def disputes(actor: Actor, tenant: Tenant, *, disputed: int) -> None:
    """The queue, one case, and what was settled."""
    adjudication = wiring.adjudication()
    found = adjudication.disputes(actor, tenant.id)
    if found:
        if disputed > len(found):
            st.caption(t("disputes.first", shown=len(found), count=disputed))
        ids = [one.pair_id for one in found]
        chosen = dispute_view.choose(found, asked=state.get(ASKED))
        case = adjudication.case(actor, tenant.id, chosen)
        dispute_view.case(case)
        if actor.may(Permission.EDIT_PAIRS, tenant.id):
            following = ids[(ids.index(chosen) + 1) % len(ids)]
            dispute_view.ways_out(
                case,
                settle=settle,
                ask_again=ask_again,
                later=None if len(ids) == 1 else lambda: state.put(ASKED, following),
            )
    else:
        empty.draw(t("disputes.empty"), t("disputes.empty_text"), icon="handshake")
    settled = adjudication.settled(actor, tenant.id)
    if settled and actor.may(Permission.EDIT_PAIRS, tenant.id):
        with st.expander(t("disputes.settled", count=len(settled))):
            dispute_view.settled(settled, tenant.timezone, reopen=reopen)


@errors.guarded
def settle(pair_id: str, reason: str, response_id: str | None) -> None:
    """Decide the pair."""
    wiring.adjudication().settle(
        auth.actor(), state.require_tenant(), pair_id,
        chosen_response_id=response_id, reason=state.get(reason, ""),
    )  # fmt: skip
    errors.leave(t("disputes.settled_now"))


@errors.guarded
def ask_again(pair_id: str, reason: str) -> None:
    """Put the pair back into the queue for one more annotator."""
    tenant_id = state.require_tenant()
    wiring.adjudication().ask_again(auth.actor(), tenant_id, pair_id, reason=state.get(reason, ""))
    errors.leave(t("disputes.asked_again"))


@errors.guarded
def reopen(pair_id: str, reason: str) -> None:
    """Put a settled pair back among the disagreements."""
    tenant_id = state.require_tenant()
    wiring.adjudication().reopen(auth.actor(), tenant_id, pair_id, reason=state.get(reason, ""))
    state.put(reason, "")
    errors.leave(t("disputes.reopened"))


def people(actor: Actor, tenant: Tenant) -> None:
    """How everybody works."""
    period = st.segmented_control(
        t("meters.period"), list(PERIODS), default="month", required=True,
        format_func=lambda one: t(f"meters.period_{one}"), key="agreement.period",
        label_visibility="collapsed",
    )  # fmt: skip
    meters_view.team(wiring.meters().everyone(actor, tenant.id, within=PERIODS[str(period)]))


def page() -> None:
    """Draw the agreement of the chosen tenant."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    disputed = wiring.adjudication().count(actor, tenant.id)
    heading.draw(t("nav.agreement"), t("agreement.caption"))
    view = choose_view(disputed)
    if view == "disputes":
        disputes(actor, tenant, disputed=disputed)
    elif view == "people":
        people(actor, tenant)
    else:
        agreement(actor, tenant)


page()
