"""The order of a training run: data, alias, and the numbers that decide what is computed."""

from __future__ import annotations

from typing import Any

import streamlit as st

from console import auth, state, wiring
from console.components import errors
from console.i18n import t, when
from services.preferences.models import Dataset, PairStatus
from services.tenants.models import Actor, Tenant
from services.training.models import LOSS_TYPES, PRECISIONS, PRESETS, DpoSpec

FREEZE = "freeze"
_FIELDS = ("beta", "loss_type", "lora_r", "learning_rate", "seed")
_MORE = ("lora_alpha", "sft_weight", "max_length", "batch_size", "precision")


def draw(actor: Actor, tenant: Tenant) -> None:
    """Draw the form; a widget's key names the preset, so that a preset brings its own numbers."""
    preset = str(
        st.segmented_control(
            t("train.preset"), list(PRESETS), default="quick", required=True, key="train.preset",
            format_func=lambda name: t(f"train.preset_{name}"), help=t("train.preset_help"),
        )
    )  # fmt: skip
    start = DpoSpec.from_preset(preset, alias="a", dataset_id="d", base_model="b")
    approved = wiring.services().preferences.stats(actor, tenant.id).by_status[PairStatus.APPROVED]
    left, right = st.columns([3, 2])
    with left:
        dataset = _choose_data(actor, tenant, approved)
    right.text_input(t("train.alias"), tenant.id, key="train.alias", help=t("train.alias_help"))
    with st.grid(4, min_column_width=150):
        for name in _FIELDS[:4]:
            _field(preset, name, getattr(start, name))
        measure = _length(preset, start)
        _field(preset, "seed", start.seed)
    with st.expander(t("train.more")), st.grid(3, min_column_width=150):
        for name in _MORE:
            _field(preset, name, getattr(start, name))
        if dataset == FREEZE:
            st.slider(
                t("train.held_out"), 5, 50, 10, 5, format="%d %%", key="train.held_out",
                help=t("train.held_out_help"),
            )  # fmt: skip
    st.button(
        t("train.start"), type="primary", icon=":material/play_arrow:", key="train.start",
        disabled=dataset == FREEZE and not approved,
        on_click=_launch, args=(tenant.id, preset, measure),
    )  # fmt: skip
    if dataset == FREEZE and not approved:
        st.caption(t("train.nothing_approved"))


def _choose_data(actor: Actor, tenant: Tenant, approved: int) -> str:
    found = {
        dataset.id: dataset for dataset in wiring.services().preferences.datasets(actor, tenant.id)
    }

    def name(choice: str) -> str:
        if choice == FREEZE:
            return t("train.freeze", count=approved)
        return _named(found[choice], tenant.timezone)

    return str(
        st.selectbox(t("train.dataset"), [FREEZE, *found], format_func=name, key="train.dataset")
    )


def _named(dataset: Dataset, zone: str) -> str:
    """A data set by its digest, size and age."""
    return t(
        "train.dataset_name",
        digest=dataset.sha256[:8],
        train=dataset.n_train,
        held_out=dataset.n_eval,
        when=when(dataset.created_at, zone),
    )


def _length(preset: str, start: DpoSpec) -> str:
    """How long the run is: in steps or in passes over the pairs."""
    measure = str(
        st.segmented_control(
            t("train.length_in"), ["max_steps", "epochs"], required=True,
            default="max_steps" if start.max_steps else "epochs", key=_key(preset, "measure"),
            format_func=lambda name: t(f"train.in_{name}"), width="stretch",
        )
    )  # fmt: skip
    _field(preset, measure, start.max_steps or 40 if measure == "max_steps" else start.epochs)
    return measure


def _field(preset: str, name: str, value: Any) -> None:
    label, key, hint = t(f"train.{name}"), _key(preset, name), t(f"train.{name}_help")
    if name in {"loss_type", "precision"}:
        choices = LOSS_TYPES if name == "loss_type" else PRECISIONS
        st.selectbox(label, choices, choices.index(value), key=key, help=hint)
    elif isinstance(value, int):
        st.number_input(label, value=value, min_value=0, step=1, key=key, help=hint)
    else:
        shape = "%.1e" if name == "learning_rate" else "%.2f"
        step = 1e-5 if name == "learning_rate" else 0.05
        st.number_input(
            label, value=float(value), min_value=0.0, step=step, format=shape, key=key, help=hint
        )


def _key(preset: str, name: str) -> str:
    return ".".join(("train", preset, name))


@errors.guarded
def _launch(tenant_id: str, preset: str, measure: str) -> None:
    """Check the order, freeze the pairs if asked, and queue the run."""
    actor, services = auth.actor(), wiring.services()
    values = {name: state.get(_key(preset, name)) for name in (*_FIELDS, *_MORE, measure)}
    if measure == "epochs":
        values["max_steps"] = None  # a preset's steps would win over the asked passes

    def spec(dataset_id: str) -> DpoSpec:
        return DpoSpec.from_preset(
            preset,
            alias=state.get("train.alias", ""),
            dataset_id=dataset_id,
            base_model=services.settings.base_model,
            **values,
        )

    services.training.base(spec("unfrozen"))  # what is wrong is told before pairs are frozen for it
    dataset_id = state.get("train.dataset", FREEZE)
    if dataset_id == FREEZE:
        fraction = state.get("train.held_out", 10) / 100
        dataset_id = services.preferences.snapshot(actor, tenant_id, eval_fraction=fraction).id
    run = services.training.launch_dpo(actor, tenant_id, spec(dataset_id))
    st.query_params["run"] = run.id
    errors.leave(t("train.launched", id=run.id[-6:]))
