"""Home: the whole loop as a picture, how far the tenant is, and what to do next."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import streamlit as st

from console import auth, loop, navigation, state, wiring
from console.components import empty, heading
from console.components.text import plain
from console.i18n import money, number, percent, t
from services.tenants.models import Actor, Permission, Tenant


def stages(found: loop.Counts) -> list[tuple[str, str, str, str]]:
    """The stations of the loop, in order: page, name, number, and what stands below it."""
    pairs, models = found.pairs, found.models
    return [
        ("pairs", "pairs", *shown(pairs.total if pairs else None, "home.pairs_note")),
        ("review", "review", *share(pairs)),
        ("pairs", "data", *shown(models.datasets if models else None, "home.data_note")),
        ("train", "train", *shown(models.adapters if models else None, "home.train_note")),
        (
            "evaluate",
            "evaluate",
            *shown(models.evaluations if models else None, "home.evaluate_note"),
        ),
        ("rollouts", "rollouts", *canary(models)),
        ("cost", "traffic", *served(found.traffic)),
        ("audit", "evidence", *evidence(found.audit_entries)),
    ]


def shown(count: int | None, note: str) -> tuple[str, str]:
    """A number with its note, or that the role does not read it."""
    return ("–", t("home.not_yours")) if count is None else (number(count), t(note, count=count))


def share(pairs: loop.PairCounts | None) -> tuple[str, str]:
    """How much of the pairs is reviewed."""
    if pairs is None:
        return "–", t("home.not_yours")
    left = t("home.review_note", count=pairs.unreviewed)
    return percent(1 - pairs.unreviewed / pairs.total) if pairs.total else "–", left


def canary(models: loop.ModelCounts | None) -> tuple[str, str]:
    """The share of traffic that a candidate gets."""
    if models is None:
        return "–", t("home.not_yours")
    if not models.open_rollouts:
        return "0", t("home.no_rollout")
    return percent(models.percent / 100), t("home.rollouts_note", count=models.open_rollouts)


def served(traffic: loop.TrafficCounts | None) -> tuple[str, str]:
    """What the gateway answered today, and what it cost."""
    if traffic is None:
        return "–", t("home.not_yours")
    cost = money(traffic.cost_micro, digits=4 if 0 < traffic.cost_micro < 10_000 else 2)
    return number(traffic.requests), t("home.traffic_note", cost=cost)


def evidence(latest: int | None) -> tuple[str, str]:
    """How far the audit log is."""
    return ("–", t("home.no_evidence")) if latest == 0 else shown(latest, "home.evidence_note")


def picture(actor: Actor, tenant_id: str, found: loop.Counts) -> None:
    """Draw the loop: forward along the top, back along the bottom (style.css places it)."""
    with st.container(key="loop_frame"), st.container(key="loop", gap="medium"):
        for index, (page_name, name, value, note) in enumerate(stages(found), start=1):
            with st.container(key=f"loop_{index}", gap=None):
                navigation.link(page_name, actor, tenant_id, t(f"home.stage_{name}"))
                closed = " pc-closed" if note == t("home.not_yours") else ""
                st.html(
                    f'<div class="pc-station{closed}"><p class="pc-count">{value}</p>'
                    f'<p class="pc-count-note">{note}</p></div>'
                )


def do_next(actor: Actor, tenant: Tenant, found: loop.Counts) -> None:
    """What this person can do now."""
    heading.section(t("home.next"))
    steps = loop.next_steps(actor, tenant.id, found)
    if not steps:
        st.write(t("home.nothing_to_do"))
    for step in steps:
        text = t(step.text) if step.count is None else t(step.text, count=step.count)
        navigation.link(step.page, actor, tenant.id, text)
    if actor.may(Permission.CHAT, tenant.id):
        playground = wiring.services().settings.playground_url
        st.page_link(playground, label=t("home.do_chat"), icon=":material/forum:")


def page() -> None:
    """Draw the loop of the chosen tenant."""
    actor, tenant_id = auth.actor(), state.tenant_id()
    if tenant_id is None:
        heading.draw(t("nav.home"))
        empty.draw(t("home.no_tenant"), t("tenant_picker.none"), icon="apartment")
        return
    tenant = wiring.services().tenants.get(actor, tenant_id)
    today = datetime.now(ZoneInfo(tenant.timezone)).date()
    heading.draw(plain(tenant.name), t("home.caption"))
    found = loop.counts(actor, tenant.id, today)
    picture(actor, tenant.id, found)
    do_next(actor, tenant, found)


page()
