"""What an adapter comes from, and what became of a pair, as a flow and a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from console import navigation
from console.components import charts, chooser, figures, heading
from console.i18n import number, t
from services.registry.lineage import AdapterLineage, KnownRun, LearnedPair, PairLineage
from services.registry.models import NAME_RULE
from services.tenants.models import Actor

MOST_PEOPLE = 12
"""So many people are drawn apart, those with most pairs; the others are one."""
_LINE = "rgba(47, 143, 107, 0.35)"

Flow = tuple[str, str, int]
"""From, to, and how many pairs."""


def adapter(actor: Actor, tenant_id: str, found: AdapterLineage) -> None:
    """Draw where an adapter comes from."""
    learned, people = found.learned, found.people
    figures.draw(
        [
            (t("lineage.learned"), number(len(learned))),
            (t("lineage.held_out"), number(len(found.pairs) - len(learned))),
            (t("lineage.people"), number(sum(1 for name in people if name))),
            (t("lineage.runs"), number(len(found.runs))),
        ]
    )
    for digest in found.missing:
        st.warning(t("lineage.missing", digest=digest[:12]), icon=":material/warning:")
    if found.champion is not None and found.champion.adapter == found.adapter.name:
        st.success(t("lineage.champion", alias=found.champion.alias), icon=":material/trophy:")
    flow(_adapter_flows(found), key="lineage.flow")
    _digests(found)
    navigation.link("evaluate", actor, tenant_id)
    heading.section(t("lineage.pairs"), t("lineage.pairs_caption"))
    if found.pairs:
        chosen = pairs(found.pairs)
        st.button(
            t("lineage.follow_pair"), key="lineage.follow", icon=":material/arrow_forward:",
            on_click=follow, args=(chosen,),
        )  # fmt: skip


def follow(pair_id: str) -> None:
    """Look at a pair instead."""
    st.query_params.clear()
    st.query_params["pair"] = pair_id
    st.session_state["lineage.what"] = "pair"
    st.session_state["lineage.pair"] = pair_id


def _adapter_flows(found: AdapterLineage) -> list[Flow]:
    made = found.adapter.name
    flows: list[Flow] = []
    for run in found.runs:
        dataset = _dataset_name(run.dataset_sha256)
        n = len(found.learned) or 1
        flows += [(dataset, _run_name(run), n), (_run_name(run), made, n)]
    for name, count in _grouped(found.people).items():
        flows += [
            (name, _dataset_name(digest), count)
            for digest in dict.fromkeys(run.dataset_sha256 for run in found.runs)
        ]
    return flows


def _grouped(people: Counter[str]) -> dict[str, int]:
    named = {
        t("lineage.person", name=name[:8]) if name else t("lineage.nobody"): count
        for name, count in people.most_common(MOST_PEOPLE)
    }
    rest = sum(people.values()) - sum(named.values())
    return named | ({t("lineage.others"): rest} if rest else {})


def flow(flows: Sequence[Flow], *, key: str) -> None:
    """Draw what leads to what; the wider, the more pairs."""
    if not flows:
        return
    names = list(dict.fromkeys(name for one, other, _n in flows for name in (one, other)))
    figure = go.Figure(
        go.Sankey(
            # The shadow that Plotly gives by itself blurs the text in the dark theme.
            textfont={"size": 12, "color": _ink(), "shadow": "none"},
            node={
                "label": [_label(name) for name in names], "pad": 18, "thickness": 14,
                "color": "#2f8f6b", "line": {"width": 0},
            },
            link={
                "source": [names.index(one) for one, _other, _n in flows],
                "target": [names.index(other) for _one, other, _n in flows],
                "value": [n for _one, _other, n in flows],
                "color": _LINE,
            },
        )
    )  # fmt: skip
    tallest = max(len({one for one, _o, _n in flows}), 4)
    charts.draw(figure, key=key, height_px=140 + 30 * min(tallest, 14))


def _ink() -> str:
    """A colour that is read on the flows' green; Plotly takes no colour of the theme there."""
    return "#e6ece9" if st.context.theme.type == "dark" else "#26302c"


def _label(name: str) -> str:
    """Plotly reads a little HTML in labels; a name is none. Two lines fit on a phone."""
    if NAME_RULE.fullmatch(name):
        alias, _dash, digest = name.rpartition("-")
        return f"{alias}<br>{digest[:8]}"
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(" ", "<br>", 1)


def _digests(found: AdapterLineage) -> None:
    rows = [
        (t("lineage.adapter_digest"), found.adapter.digest),
        (t("lineage.config_digest"), found.adapter.config_sha256),
        (t("lineage.base_digest"), found.adapter.base_digest),
        *((t("lineage.dataset_digest"), dataset.sha256) for dataset in found.datasets),
        *(
            (name, str(facts["sha256"]))
            for dataset in found.datasets
            for name, facts in sorted(dataset.manifest["files"].items())
            if name in {"train.jsonl", "eval.jsonl", "provenance.jsonl"}
        ),
    ]
    with st.expander(t("lineage.digests")):
        st.dataframe(
            [{"what": what, "digest": digest} for what, digest in rows],
            column_config={
                "what": t("lineage.what"),
                "digest": st.column_config.Column("sha256", width="large"),
            },
            hide_index=True,
        )


def pairs(found: Sequence[LearnedPair]) -> str:
    """Draw the pairs of an adapter; the id of the chosen one."""
    return chooser.one(
        [one.pair_id for one in found],
        [
            {
                "pair": one.pair_id,
                "part": t(f"lineage.part_{one.part}"),
                "by": one.decided_by[:8] or "–",
                "source": one.source,
                "language": one.language,
            }
            for one in found
        ],
        columns={
            "pair": st.column_config.Column(t("lineage.pair"), width="medium"),
            "part": t("lineage.part"),
            "by": t("lineage.decided_by"),
            "source": t("lineage.source"),
            "language": t("lineage.language"),
        },
        key="lineage.pairs",
        height_px=320,
    )


def pair(actor: Actor, tenant_id: str, found: PairLineage) -> None:
    """Draw what became of a pair."""
    if not found.held:
        st.info(t("lineage.in_no_dataset"), icon=":material/info:")
        return
    if not found.runs:
        st.info(t("lineage.no_run"), icon=":material/info:")
    flow(_pair_flows(found), key="lineage.pair_flow")
    st.dataframe(
        [
            {
                "dataset": _dataset_name(dataset.sha256),
                "part": t(f"lineage.part_{held.part}"),
                "by": held.decided_by[:8] or "–",
                "runs": ", ".join(
                    _run_name(run) for run in found.runs if run.dataset_sha256 == dataset.sha256
                )
                or "–",
                "adapters": ", ".join(
                    run.adapter
                    for run in found.runs
                    if run.adapter and run.dataset_sha256 == dataset.sha256
                )
                or "–",
            }
            for dataset, held in found.held
        ],
        column_config={
            "dataset": t("lineage.dataset"),
            "part": t("lineage.part"),
            "by": t("lineage.decided_by"),
            "runs": t("lineage.runs"),
            "adapters": st.column_config.Column(t("lineage.adapters"), width="medium"),
        },
        hide_index=True,
    )
    navigation.link("pairs", actor, tenant_id)


def _pair_flows(found: PairLineage) -> list[Flow]:
    start = t("lineage.this_pair")
    flows: list[Flow] = [(start, _dataset_name(dataset.sha256), 1) for dataset, _pair in found.held]
    for run in found.runs:
        flows.append((_dataset_name(run.dataset_sha256), _run_name(run), 1))
        if run.adapter is not None:
            flows.append((_run_name(run), run.adapter, 1))
    return flows


def _dataset_name(digest: str) -> str:
    return t("lineage.dataset_name", digest=digest[:8])


def _run_name(run: KnownRun) -> str:
    return t("lineage.run_name", id=run.id[-6:])
