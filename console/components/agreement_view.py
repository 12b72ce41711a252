"""Agreement as figures, as a plot of slices, and as a table of who agrees with whom."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go
import streamlit as st

from console.components import charts, figures, heading, intervals, people_names
from console.i18n import number, t
from labeling.agreement import Agreement, Couple, Slice
from labeling.reliability import ENOUGH
from services.preferences.models import CRITERIA

TENTATIVE, RELIABLE = 0.667, 0.8
"""Krippendorff's bounds (Content Analysis, 2004, page 241): below the first, draw no conclusion."""
MAX_CELLS_PX = 720


def draw(found: Agreement) -> None:
    """Draw everything that is known."""
    whole = found.overall
    figures.draw(
        [
            (t("agreement.people"), intervals.figure(whole.people)),
            (t("agreement.with_ai"), intervals.figure(whole.with_ai)),
            (t("agreement.ai_kappa"), intervals.figure(whole.ai)),
            (t("agreement.same_side"), intervals.figure(whole.same_side, as_percent=True)),
        ]
    )
    _sentence(whole)
    _slices(found)
    _couples(found)
    _criteria(found)
    with st.expander(t("agreement.how")):
        st.markdown(t("agreement.how_text", enough=ENOUGH))


def _sentence(whole: Slice) -> None:
    alpha = whole.people
    if alpha.value is None:
        st.info(
            f"**{t('agreement.insufficient_title')}**  \n"
            + t("agreement.insufficient_text", count=alpha.n, needed=ENOUGH)
            if alpha.n < ENOUGH
            else t("agreement.no_variation_text"),
            icon=":material/hourglass_empty:",
        )
        return
    said = t("agreement.sentence", alpha=intervals.between(alpha), count=alpha.n)
    if alpha.value >= RELIABLE:
        st.success(f"{said} {t('agreement.reliable')}", icon=":material/check_circle:")
    elif alpha.value >= TENTATIVE:
        st.info(f"{said} {t('agreement.tentative')}", icon=":material/info:")
    else:
        st.warning(f"{said} {t('agreement.unreliable')}", icon=":material/warning:")


def _slices(found: Agreement) -> None:
    known = [one for one in found.slices if one.people.is_known or one.with_ai.is_known]
    heading.section(t("agreement.slices"), t("agreement.slices_caption"))
    if known:
        intervals.forest(
            {
                t("agreement.people_only"): [one.people for one in known],
                t("agreement.people_and_ai"): [one.with_ai for one in known],
            },
            [_name(one) for one in known],
            key="agreement.slices",
            x_title=t("agreement.alpha_axis"),
            lines=(TENTATIVE, RELIABLE),
        )
    st.dataframe(
        [
            {
                "slice": _name(one),
                "pairs": one.pairs,
                "shared": one.people.n,
                "people": intervals.or_insufficient(one.people),
                "with_ai": intervals.or_insufficient(one.with_ai),
                "ai": intervals.or_insufficient(one.ai),
                "same": intervals.between(one.same_side, as_percent=True),
            }
            for one in found.slices
        ],
        column_config={
            "slice": st.column_config.Column(t("agreement.slice"), width="medium"),
            "pairs": st.column_config.NumberColumn(t("agreement.pairs"), format="localized"),
            "shared": st.column_config.NumberColumn(t("agreement.shared"), format="localized"),
            "people": t("agreement.people"),
            "with_ai": t("agreement.with_ai"),
            "ai": t("agreement.ai_kappa"),
            "same": t("agreement.same_side"),
        },
        hide_index=True,
    )


def _name(one: Slice) -> str:
    if one.dimension in {"all", "draw"}:
        return t(f"agreement.slice_{one.dimension}")
    if one.dimension == "language":
        return t("agreement.slice_language", name=one.name)
    return t("agreement.slice_source", name=one.name)


def _couples(found: Agreement) -> None:
    heading.section(t("agreement.couples"), t("agreement.couples_caption", needed=ENOUGH))
    if not found.couples:
        st.caption(t("agreement.no_couples"))
        return
    _matrix(found)
    with st.expander(t("agreement.as_table")):
        st.dataframe(
            [
                {
                    "first": people_names.of(one.first),
                    "second": people_names.of(one.second),
                    "pairs": one.kappa.n,
                    "kappa": intervals.or_insufficient(one.kappa),
                    "same": intervals.between(one.same_side, as_percent=True),
                }
                for one in found.couples
            ],
            column_config={
                "first": t("agreement.rater"),
                "second": t("agreement.other_rater"),
                "pairs": st.column_config.NumberColumn(t("agreement.shared"), format="localized"),
                "kappa": t("agreement.kappa"),
                "same": t("agreement.same_side"),
            },
            hide_index=True,
        )


def _matrix(found: Agreement) -> None:
    """Who agrees with whom; each cell has its number, so that colour is never alone."""
    raters = [*found.raters, None]
    names = [people_names.of(one) for one in raters]
    cells: Mapping[tuple[str, str], Couple] = {
        pair: one
        for one in found.couples
        for pair in _both_ways(people_names.of(one.first), people_names.of(one.second))
    }
    rows = [[cells.get((row, column)) for column in names] for row in names]
    figure = go.Figure(
        go.Heatmap(
            x=names,
            y=names,
            z=[[None if one is None else one.kappa.value for one in row] for row in rows],
            text=[["" if one is None else intervals.figure(one.kappa) for one in row] for row in rows],
            customdata=[["" if one is None else intervals.or_insufficient(one.kappa) for one in row] for row in rows],
            texttemplate="%{text}", hoverongaps=False, zmin=0, zmax=1, xgap=2, ygap=2, showscale=False,
            hovertemplate="%{y} · %{x}: %{customdata}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(side="top", automargin=True, type="category")
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False, type="category")
    charts.draw(figure, key="agreement.matrix", height_px=min(MAX_CELLS_PX, 120 + 34 * len(names)))


def _both_ways(first: str, second: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (first, second), (second, first)


def _criteria(found: Agreement) -> None:
    if not found.criteria:
        return
    heading.section(t("agreement.criteria"), t("agreement.criteria_caption"))
    st.dataframe(
        [
            {
                "criterion": t(f"review.criterion_{name}"),
                "answers": number(found.criteria[name].n),
                "alpha": intervals.or_insufficient(found.criteria[name]),
            }
            for name in CRITERIA
            if name in found.criteria
        ],
        column_config={
            "criterion": t("agreement.criterion"),
            "answers": t("agreement.answers"),
            "alpha": t("agreement.alpha"),
        },
        hide_index=True,
    )
