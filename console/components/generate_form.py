"""The order of a run of AI feedback: what is judged, by whom, and what it may cost.

The estimate stands beside the button and follows the form; nothing is asked before the button.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import streamlit as st

from console import auth, state, wiring
from console.components import amount, errors, figures, text
from console.i18n import number, t
from services.errors import InvalidInput
from services.preferences.models import Turn
from services.rlaif import prompts
from services.rlaif.models import TEMPERATURES, Kind, Mode, Selection, Spec
from services.tenants.models import Actor, Tenant

Prompts = tuple[tuple[Turn, ...], ...]
_FILE, _PASTE, _TRAFFIC = "file", "paste", "traffic"


def draw(actor: Actor, tenant: Tenant) -> None:
    """Draw the form with its estimate."""
    st.caption(t("generate.judged_by", judge=text.plain(wiring.services().rlaif.judge_name)))
    kind = Kind(
        st.segmented_control(
            t("generate.kind"), list(Kind), default=Kind.GENERATE, required=True,
            format_func=lambda one: t(f"generate.kind_{one}"), key="generate.kind",
        )
    )  # fmt: skip
    if kind is Kind.GENERATE:
        found = _prompts(tenant)
        _candidates()
    else:
        found = ()
        _selection(actor, tenant)
    with (
        st.expander(t("generate.more"), key="generate.more_form"),
        st.grid(3, min_column_width=170),
    ):
        _more()
    with errors.shown():
        _estimate(actor, tenant, kind, found)


def _prompts(tenant: Tenant) -> Prompts:
    """Where prompts come from; what was read, or nothing yet."""
    ways = [_PASTE, _FILE]
    if wiring.services().rlaif.has_traffic(tenant.id):
        ways.append(_TRAFFIC)
    way = st.segmented_control(
        t("generate.prompts"), ways, default=_PASTE, required=True, key="generate.way",
        format_func=lambda one: t(f"generate.from_{one}"),
    )  # fmt: skip
    if way == _TRAFFIC:
        st.number_input(
            t("generate.traffic_count"), 1, 10_000, 100, key="generate.traffic_count",
            help=t("generate.traffic_help"),
        )  # fmt: skip
        with errors.shown():
            return _of_traffic(tenant.id)
        return ()
    if way == _FILE:
        file = st.file_uploader(
            t("generate.file"), type=["jsonl", "json", "csv", "tsv", "txt"], key="generate.file",
            help=t("generate.file_help"),
        )  # fmt: skip
        content, name = (file.getvalue(), file.name) if file else (b"", "")
    else:
        typed = st.text_area(
            t("generate.paste"), key="generate.paste", height=120,
            placeholder=t("generate.paste_example"),
        )  # fmt: skip
        content, name = typed.encode("utf-8", "surrogatepass"), ""
    if not content.strip():
        return ()
    with errors.shown():
        found = prompts.read(content, name)
        if found.repeated:
            st.caption(t("generate.repeated", count=found.repeated))
        return found.prompts
    return ()


def _of_traffic(tenant_id: str) -> Prompts:
    """Requests of users, read when somebody asks for them: each reading leaves an audit event."""
    wanted = (tenant_id, int(state.get("generate.traffic_count", 100)))
    held: tuple[Any, Prompts] | None = state.get("generate.traffic")
    if held is not None and held[0] == wanted:
        return held[1]
    if not st.button(t("generate.traffic_read"), key="generate.traffic_read"):
        return ()
    found = wiring.services().rlaif.traffic_prompts(auth.actor(), tenant_id, limit=wanted[1])
    state.put("generate.traffic", (wanted, found.prompts))
    return found.prompts


def _candidates() -> None:
    with st.grid(3, min_column_width=170):
        st.text_input(
            t("generate.temperatures"), ", ".join(f"{one:g}" for one in TEMPERATURES),
            key="generate.temperatures", help=t("generate.temperatures_help"),
        )  # fmt: skip
        st.number_input(
            t("generate.pairs_per_prompt"), 1, 28, 2, key="generate.pairs_per_prompt",
            help=t("generate.pairs_per_prompt_help"),
        )  # fmt: skip
        st.number_input(
            t("generate.max_new_tokens"), 1, 4_096, 256, 32, key="generate.max_new_tokens"
        )


def _selection(actor: Actor, tenant: Tenant) -> None:
    rlaif = wiring.services().rlaif
    left, right = st.columns(2)
    left.selectbox(
        t("generate.selection"), list(Selection), key="generate.selection",
        format_func=lambda one: t(
            f"generate.selection_{one}", count=rlaif.waiting(actor, tenant.id, one)
        ),
    )  # fmt: skip
    right.selectbox(
        t("generate.from_source"), wiring.services().preferences.sources(actor, tenant.id),
        index=None, placeholder=t("generate.every_source"), key="generate.from_source",
    )  # fmt: skip


def _more() -> None:
    st.selectbox(
        t("generate.mode"), list(Mode), key="generate.mode", help=t("generate.mode_help"),
        format_func=lambda one: t(f"generate.mode_{one}"),
    )  # fmt: skip
    st.number_input(
        t("generate.margin"), 0.0, 10.0, 0.5, 0.1, key="generate.margin",
        help=t("generate.margin_help"),
    )  # fmt: skip
    st.number_input(t("generate.concurrency"), 1, 32, 4, key="generate.concurrency")
    st.text_input(t("generate.source"), "generated", key="generate.source", max_chars=200)
    st.toggle(
        t("generate.evaluation"), key="generate.evaluation", help=t("generate.evaluation_help")
    )


def _spec(kind: Kind, cap_micro: int) -> Spec:
    """The order as the form says it.

    Raises:
        InvalidInput: A field holds something else.
    """
    typed = str(state.get("generate.temperatures") or "")
    try:
        heat = [float(one) for one in typed.split(",")] if typed else list(TEMPERATURES)
    except ValueError as error:
        raise InvalidInput("temperatures: expected numbers with commas between") from error
    names = ("pairs_per_prompt", "max_new_tokens", "mode", "margin", "concurrency", "source")
    values: dict[str, Any] = {
        name: found for name in names if (found := state.get(f"generate.{name}")) is not None
    }
    if kind is Kind.JUDGE:
        values["selection"] = state.get("generate.selection") or Selection.STALE
        values["from_source"] = state.get("generate.from_source") or ""
    return Spec.from_json(
        {
            **values,
            "kind": kind,
            "cap_micro": cap_micro,
            "temperatures": heat,
            "is_evaluation": bool(state.get("generate.evaluation", False)),
        }
    )


def _estimate(actor: Actor, tenant: Tenant, kind: Kind, found: Prompts) -> None:
    """Draw what the run would cost, the cap, and the button."""
    if kind is Kind.GENERATE and not found:
        st.caption(t("generate.no_prompts"))
        return
    estimate = wiring.services().rlaif.estimate(actor, tenant.id, _spec(kind, 1), found)
    if not estimate.pairs:
        st.caption(t("generate.nothing_to_judge"))
        return
    figures.draw(
        [
            (t("generate.prompts"), number(estimate.prompts)),
            (t("generate.candidates"), number(estimate.candidates)),
            (t("generate.pairs"), number(estimate.pairs)),
            (t("generate.verdicts"), number(estimate.calls)),
            (t("generate.expected"), amount.shown(estimate.expected_micro)),
            (t("generate.a_pair"), amount.shown(estimate.pair_micro)),
            (t("generate.most"), amount.shown(estimate.most_micro)),
        ][0 if estimate.prompts else 2 :]
    )
    how = "generate.as_batch" if estimate.is_batch else "generate.as_direct"
    known = (
        t("generate.measured", count=estimate.measured_calls)
        if estimate.measured_calls
        else t("generate.guessed")
    )
    price = t("generate.priced", version=text.plain(estimate.price_version))
    st.caption(f"{t(how)} {known} {price}")
    wanted = max(0.01, float(Decimal(2 * estimate.expected_micro) / 1_000_000))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input(
            t("generate.cap"), 0.001, 1_000_000.0, round(wanted, 3), 0.01, format=amount.ENTERED,
            key=f"generate.cap.{estimate.expected_micro}", help=t("generate.cap_help"), width=220,
        )  # fmt: skip
        st.button(
            t("generate.start"), type="primary", icon=":material/auto_awesome:",
            key="generate.start", on_click=_launch,
            args=(tenant.id, kind, f"generate.cap.{estimate.expected_micro}", found),
        )  # fmt: skip


@errors.guarded
def _launch(tenant_id: str, kind: Kind, cap_key: str, found: Prompts) -> None:
    cap = round(float(state.get(cap_key, 0.0)) * 1_000_000)
    run = wiring.services().rlaif.launch(auth.actor(), tenant_id, _spec(kind, cap), found)
    st.query_params["generation"] = run.id
    errors.leave(t("generate.launched"))
