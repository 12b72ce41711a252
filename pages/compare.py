"""Compare: two to six adapters on the same held-out prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import streamlit as st

from console import auth, state, wiring
from console.components import compare_export, compare_view, empty, heading
from console.i18n import has, t, when
from services.evaluation.comparing import BASE, Comparisons
from services.evaluation.comparison import LEAST, MOST, Comparison
from services.evaluation.models import Evaluation
from services.preferences.labels import PairLabel
from services.tenants.models import Actor, Tenant


def choose(finished: Mapping[str, Evaluation]) -> list[Evaluation]:
    """Which adapters are compared; the address names them, else the newest two."""
    asked = [name for name in st.query_params.get_all("adapter") if name in finished][:MOST]
    start = asked if len(asked) >= LEAST else list(finished)[:LEAST]
    names = st.multiselect(
        t("compare.adapters"), list(finished), start, key="compare.adapters", max_selections=MOST
    )
    st.query_params["adapter"] = names
    return [finished[name] for name in names]


def filters(
    names: Sequence[str], labels: Mapping[str, PairLabel]
) -> tuple[str, str | None, str | None]:
    """With what, in which language and on which topic they are compared."""
    with st.grid(3, min_column_width=200):
        against = st.selectbox(
            t("compare.against"), [BASE, *names], key="compare.against",
            format_func=compare_view.against_name,
        )  # fmt: skip
        language = st.selectbox(
            t("compare.language"), [None, *sorted({one.language for one in labels.values()})],
            key="compare.language", format_func=language_name,
        )  # fmt: skip
        topic = st.selectbox(
            t("compare.topic"),
            [None, *sorted({one.topic for one in labels.values() if one.topic})],
            key="compare.topic", format_func=lambda found: found or t("compare.all"),
        )  # fmt: skip
    return against, language, topic


def language_name(code: str | None) -> str:
    """A language as people read it."""
    if code is None:
        return t("compare.all")
    key = f"compare.language_{code}"
    return t(key) if has(key) else code


def show(actor: Actor, tenant: Tenant, chosen: Sequence[Evaluation], found: Comparison) -> None:
    """Draw one comparison, and offer it as files."""
    st.caption(
        t(
            "compare.common",
            prompts=found.n_prompts, pairs=found.n_pairs, left_out=found.n_left_out,
        )
    )  # fmt: skip
    heading.section(t("compare.held_out"), t("compare.held_out_caption"))
    compare_view.table(found)
    measure = st.segmented_control(
        t("compare.measure"), compare_view.MEASURES, default="accuracy", key="compare.measure",
        format_func=lambda name: t(f"compare.measure_{name}"), label_visibility="collapsed",
    )  # fmt: skip
    compare_view.forest(found, measure or "accuracy")
    heading.section(t("compare.beside"), t("compare.beside_caption"))
    compare_view.beside(chosen)
    heading.section(t("compare.regressions"), t("compare.regressions_caption"))
    texts = comparisons().texts(actor, chosen)
    compare_view.prompts(found, texts)
    now = when(datetime.now(UTC), tenant.timezone)
    with st.container(horizontal=True):
        st.download_button(
            t("compare.export_html"),
            lambda: compare_export.html(found, chosen, texts, tenant=tenant.name, at=now),
            f"compare-{tenant.id}.html", "text/html", icon=":material/download:",
            key="compare.html", on_click="ignore",
        )  # fmt: skip
        st.download_button(
            t("compare.export_csv"), lambda: compare_export.csv(found, texts),
            f"compare-{tenant.id}.csv", "text/csv", icon=":material/table:", key="compare.csv",
            on_click="ignore",
        )  # fmt: skip


def comparisons() -> Comparisons:
    """Comparisons over the shared services."""
    return Comparisons(wiring.services().evaluations)


def page() -> None:
    """Draw the comparison of the chosen tenant's adapters."""
    actor = auth.actor()
    tenant = wiring.services().tenants.get(actor, state.require_tenant())
    heading.draw(t("nav.compare"), t("compare.caption"))
    finished = comparisons().finished(actor, tenant.id)
    if len(finished) < LEAST:
        empty.draw(t("compare.empty"), t("compare.empty_text"), icon="stacked_bar_chart")
        return
    chosen = choose(finished)
    if len(chosen) < LEAST:
        st.info(t("compare.choose"), icon=":material/info:")
        return
    labels = comparisons().labels(actor, chosen)
    against, language, topic = filters([one.adapter for one in chosen], labels)
    if len({one.dataset_sha256 for one in chosen}) > 1:
        st.warning(t("compare.other_pairs"), icon=":material/warning:")
    found = comparisons().compare(actor, chosen, against=against, language=language, topic=topic)
    show(actor, tenant, chosen, found)


page()
