"""The order of a training run: data, alias, and the numbers that decide what is computed."""

from __future__ import annotations

from typing import Any

import streamlit as st

from console import auth, state, wiring
from console.components import errors, train_plan
from console.i18n import percent, percent_format, t, when
from labeling.noise import label_noise
from services.preferences.models import Dataset, PairStatus
from services.tenants.models import Actor, Tenant
from services.training.advanced import Advanced
from services.training.models import (
    LOSS_TYPES,
    PRECISIONS,
    PRESETS,
    QUANTIZATIONS,
    TARGETS,
    DpoSpec,
    Run,
)

FREEZE = "freeze"
FORM = "train.form"
"""Whether the form is open."""
CLONE = "train.clone"
"""Id of the run whose settings the form begins with."""
CHOICES = {
    "loss_type": LOSS_TYPES,
    "precision": PRECISIONS,
    "target_modules": tuple(TARGETS),
    "quantization": QUANTIZATIONS,
}
_FIELDS = ("beta", "loss_type", "lora_r", "learning_rate", "seed")
_MORE = (
    "lora_alpha", "target_modules", "sft_weight", "label_smoothing", "max_length", "batch_size",
    "precision", "quantization",
)  # fmt: skip


def draw(actor: Actor, tenant: Tenant) -> None:
    """Draw the form; a widget's key names the preset, so that a preset brings its own numbers."""
    source = _cloned(actor)
    preset, start = _start(source)
    approved = wiring.services().preferences.stats(actor, tenant.id).by_status[PairStatus.APPROVED]
    left, right = st.columns([3, 2])
    with left:
        dataset = _choose_data(actor, tenant, approved, source)
    right.text_input(
        t("train.alias"), source.spec.alias if source else tenant.id, key="train.alias",
        help=t("train.alias_help"),
    )  # fmt: skip
    with st.grid(4, min_column_width=150):
        for name in _FIELDS[:4]:
            _field(preset, name, getattr(start, name))
        measure = _length(preset, start)
        _field(preset, "seed", start.seed)
    with st.expander(t("train.more"), key="train.more_form"):
        _more(tenant, preset, start, dataset)
    ready = dataset != FREEZE or bool(approved)
    if ready:
        train_plan.draw(actor, tenant, lambda: order(preset, measure, dataset), dataset != FREEZE)
    st.button(
        t("train.start"), type="primary", icon=":material/play_arrow:", key="train.start",
        disabled=not ready, on_click=_launch,
        args=(tenant.id, preset, measure, source.id if source else None),
    )  # fmt: skip
    if not ready:
        st.caption(t("train.nothing_approved"))


def _cloned(actor: Actor) -> Run | None:
    run_id = state.get(CLONE)
    return wiring.services().training.get(actor, run_id) if run_id else None


def _start(source: Run | None) -> tuple[str, DpoSpec]:
    """What the form begins with, and what its widgets' keys begin with."""
    if source is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(t("train.cloned", id=source.id[-6:]), width="content")
            st.button(t("train.clone_off"), key="train.clone_off", on_click=forget_clone)
        return f"clone-{source.id[-6:]}", source.spec
    preset = str(
        st.segmented_control(
            t("train.preset"), list(PRESETS), default="quick", required=True, key="train.preset",
            format_func=lambda name: t(f"train.preset_{name}"), help=t("train.preset_help"),
        )
    )  # fmt: skip
    return preset, DpoSpec.from_preset(preset, alias="a", dataset_id="d", base_model="b")


def forget_clone() -> None:
    """Begin from a preset again."""
    state.put(CLONE, None)


def _more(tenant: Tenant, preset: str, start: DpoSpec, dataset: str) -> None:
    with st.grid(3, min_column_width=150):
        _base(preset, start)
        for name in _MORE:
            _field(preset, name, getattr(start, name))
        if dataset == FREEZE:
            st.slider(
                t("train.held_out"), 5, 50, 10, 5, format=percent_format(), key="train.held_out",
                help=t("train.held_out_help"),
            )  # fmt: skip
    st.button(
        t("train.measure_noise"), icon=":material/balance:", key="train.measure_noise",
        help=t("train.measure_noise_help"), on_click=_measure_noise, args=(tenant.id, preset),
    )  # fmt: skip
    backends = wiring.services().training.backend_names
    if len(backends) > 1:
        st.selectbox(
            t("train.backend"), backends, key="train.backend", help=t("train.backend_help")
        )
    st.text_area(
        t("train.advanced"), start.more.as_yaml(), key=_key(preset, "advanced"), height=240,
        help=t("train.advanced_help"),
    )  # fmt: skip


@errors.guarded
def _measure_noise(tenant_id: str, preset: str) -> None:
    """Choose the robust loss, with the share of wrong labels that the votes tell of."""
    found = label_noise(wiring.agreements().report(auth.actor(), tenant_id))
    if found is None:
        errors.leave(t("train.noise_unknown"), "warning")
        return
    state.put(_key(preset, "loss_type"), "robust")
    state.put(_key(preset, "label_smoothing"), round(found.share, 2))
    errors.leave(t("train.noise_known", share=percent(found.share, 1), count=found.pairs))


def _base(preset: str, start: DpoSpec) -> None:
    usual = wiring.services().settings.base_model
    first = start.base_model if preset.startswith("clone-") else usual
    names = list(dict.fromkeys([first, usual, *wiring.services().training.bases()]))
    st.selectbox(t("train.base_model"), names, key=_key(preset, "base_model"))


def _choose_data(actor: Actor, tenant: Tenant, approved: int, source: Run | None) -> str:
    found = {
        dataset.id: dataset for dataset in wiring.services().preferences.datasets(actor, tenant.id)
    }

    def name(choice: str) -> str:
        if choice == FREEZE:
            return t("train.freeze", count=approved)
        return _named(found[choice], tenant.timezone)

    choices = [FREEZE, *found]
    first = source.spec.dataset_id if source and source.spec.dataset_id in found else FREEZE
    return str(
        st.selectbox(
            t("train.dataset"), choices, choices.index(first), format_func=name,
            key="train.dataset" if source is None else f"train.dataset.{source.id}",
        )
    )  # fmt: skip


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
    off = _is_off(preset, name)
    if name in CHOICES:
        choices = CHOICES[name]
        st.selectbox(label, choices, choices.index(value), key=key, help=hint)
    elif isinstance(value, int):
        st.number_input(label, value=value, min_value=0, step=1, key=key, help=hint)
    else:
        shape = "%.1e" if name == "learning_rate" else "%.2f"
        step = 1e-5 if name == "learning_rate" else 0.05
        st.number_input(
            label, value=float(value), min_value=0.0, step=step, format=shape, key=key, help=hint,
            disabled=off,
        )  # fmt: skip


def _is_off(preset: str, name: str) -> bool:
    """Whether the chosen loss does not know a number: it is greyed, and ordered as 0."""
    loss = state.get(_key(preset, "loss_type"))
    if name == "sft_weight":
        return bool(loss == "kto")
    return name == "label_smoothing" and bool(loss != "robust")


def _key(preset: str, name: str) -> str:
    return ".".join(("train", preset, name))


def order(preset: str, measure: str, dataset_id: str) -> DpoSpec:
    """What the form says, checked.

    Raises:
        InvalidInput: A value is out of range, or the YAML cannot be read.
    """
    names = (*_FIELDS, *_MORE, measure, "base_model")
    values = {
        name: 0.0 if _is_off(preset, name) else state.get(_key(preset, name)) for name in names
    }
    if measure == "epochs":
        values["max_steps"] = None  # a preset's steps would win over the asked passes
    return DpoSpec.from_json(
        {
            **(PRESETS.get(preset, {})),
            **values,
            "preset": preset if preset in PRESETS else "custom",
            "alias": state.get("train.alias", ""),
            "dataset_id": dataset_id,
            "advanced": Advanced.from_yaml(state.get(_key(preset, "advanced"), "")).as_json(),
        }
    )


@errors.guarded
def _launch(tenant_id: str, preset: str, measure: str, parent_id: str | None) -> None:
    """Check the order, freeze the pairs if asked, and queue the run."""
    actor, services = auth.actor(), wiring.services()
    data_key = "train.dataset" if parent_id is None else f"train.dataset.{parent_id}"
    dataset_id = state.get(data_key, FREEZE)
    asked = order(preset, measure, dataset_id)
    services.training.base(asked)  # what is wrong is told before pairs are frozen for it
    if dataset_id == FREEZE:
        fraction = state.get("train.held_out", 10) / 100
        dataset_id = services.preferences.snapshot(
            actor, tenant_id, eval_fraction=fraction, unpaired=asked.loss_type == "kto"
        ).id
    run = services.training.launch_dpo(
        actor, tenant_id, order(preset, measure, dataset_id),
        backend=state.get("train.backend") or services.training.backend_names[0],
        parent_id=parent_id,
    )  # fmt: skip
    forget_clone()
    state.put(FORM, False)
    st.query_params["run"] = run.id
    errors.leave(t("train.launched", id=run.id[-6:]))
