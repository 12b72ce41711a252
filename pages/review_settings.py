"""Review settings: how many people judge a pair, what they are told, and who works together."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from console import auth, i18n, state, wiring
from console.components import empty, errors, heading
from console.components.text import plain
from console.i18n import t
from labeling.models import Group, ReviewPolicy
from labeling.policies import MAX_GOLD_EVERY, MAX_GUIDELINES, MAX_NAME, MAX_OVERLAP

KEY = "review_settings"


def judging(policy: ReviewPolicy) -> None:
    """The form with the tenant's rules."""
    heading.section(t("review_settings.judging"), t("review_settings.judging_caption"))
    with st.form(f"{KEY}.policy"):
        with st.grid(4, min_column_width=180):
            for name, label, help_text, lowest, highest in (
                ("overlap", t("review_settings.overlap"), t("review_settings.overlap_help"), 1,
                 MAX_OVERLAP),
                ("risky_overlap", t("review_settings.risky_overlap"),
                 t("review_settings.risky_overlap_help"), 1, MAX_OVERLAP),
                ("gold_every", t("review_settings.gold_every"),
                 t("review_settings.gold_every_help"), 0, MAX_GOLD_EVERY),
            ):  # fmt: skip
                st.number_input(
                    label, lowest, highest, getattr(policy, name), key=f"{KEY}.{name}",
                    help=help_text,
                )  # fmt: skip
            st.number_input(
                t("review_settings.too_fast"), 0.0, 600.0, policy.too_fast_ms / 1_000, 0.5, "%.1f",
                key=f"{KEY}.too_fast_s", help=t("review_settings.too_fast_help"),
            )  # fmt: skip
        st.toggle(
            t("review_settings.reveal"), policy.is_revealing, key=f"{KEY}.reveal",
            help=t("review_settings.reveal_help"),
        )  # fmt: skip
        guidelines(policy)
        st.form_submit_button(t("review_settings.save"), type="primary", on_click=save)


def guidelines(policy: ReviewPolicy) -> None:
    """A text for each language."""
    with st.container(gap="xxsmall"):
        st.markdown(f"**{t('review_settings.guidelines')}**")
        st.caption(t("review_settings.guidelines_caption"))
    for language, tab in zip(
        i18n.LANGUAGES, st.tabs([i18n.NAMES[one] for one in i18n.LANGUAGES]), strict=True
    ):
        tab.text_area(
            i18n.NAMES[language], policy.guidelines.get(language, ""), 180, MAX_GUIDELINES,
            key=f"{KEY}.guidelines.{language}", label_visibility="collapsed",
            placeholder=t("review_settings.guidelines_example"),
        )  # fmt: skip


@errors.guarded
def save() -> None:
    """Store the rules of the form."""
    texts = {one: state.get(f"{KEY}.guidelines.{one}", "") for one in i18n.LANGUAGES}
    overlap = state.get(f"{KEY}.overlap")
    policy = ReviewPolicy(
        overlap=overlap,
        risky_overlap=max(overlap, state.get(f"{KEY}.risky_overlap")),
        is_revealing=state.get(f"{KEY}.reveal"),
        gold_every=state.get(f"{KEY}.gold_every"),
        too_fast_ms=round(state.get(f"{KEY}.too_fast_s") * 1_000),
        guidelines={one: text for one, text in texts.items() if text.strip()},
    )
    wiring.policies().change(auth.actor(), state.require_tenant(), policy)
    errors.leave(t("review_settings.saved"))


def groups(found: tuple[Group, ...], names: Mapping[str, str]) -> None:
    """List the groups; begin, change and end them."""
    heading.section(t("review_settings.groups"), t("review_settings.groups_caption"))
    with st.popover(t("review_settings.new_group"), icon=":material/group_add:"):
        fields(Group("new", "", ()), names)
    if not found:
        empty.draw(
            t("review_settings.no_groups"), t("review_settings.no_groups_text"), icon="groups"
        )
    for group in found:
        with st.container(border=True):
            who, change = st.columns([7, 2], vertical_alignment="center")
            members = ", ".join(plain(_name(one, names)) for one in group.members)
            count = t("review_settings.member_count", count=len(group.members))
            who.markdown(f"**{plain(group.name)}** · {count}  \n{members}")
            with change.popover(
                t("review_settings.change"), icon=":material/edit:", type="tertiary"
            ):
                fields(group, names)


def fields(group: Group, names: Mapping[str, str]) -> None:
    """The name and the members of one group."""
    is_new = group.id == "new"
    with st.form(f"{KEY}.group.{group.id}", border=False, clear_on_submit=is_new):
        st.text_input(
            t("review_settings.group_name"), group.name, MAX_NAME, key=f"{KEY}.name.{group.id}",
            placeholder=t("review_settings.group_name_example"),
        )  # fmt: skip
        st.multiselect(
            t("review_settings.members"), [*dict.fromkeys([*names, *group.members])],
            group.members, key=f"{KEY}.members.{group.id}",
            format_func=lambda one: _name(one, names),
            placeholder=t("review_settings.members_example"),
        )  # fmt: skip
        st.form_submit_button(
            t("review_settings.create") if is_new else t("review_settings.save"),
            type="primary", on_click=save_group, args=(group.id,),
        )  # fmt: skip
    if not is_new:
        st.button(
            t("review_settings.end"), type="tertiary", icon=":material/group_off:",
            key=f"{KEY}.end.{group.id}", on_click=end_group, args=(group,),
        )  # fmt: skip


@errors.guarded
def save_group(group_id: str) -> None:
    """Store the group of the form."""
    made = wiring.policies().change_group(
        auth.actor(), state.require_tenant(), None if group_id == "new" else group_id,
        name=state.get(f"{KEY}.name.{group_id}", ""),
        members=state.get(f"{KEY}.members.{group_id}", []),
    )  # fmt: skip
    errors.leave(t("review_settings.group_saved", name=plain(made.name)))


@errors.guarded
def end_group(group: Group) -> None:
    """End a group that has no work left."""
    wiring.policies().change_group(
        auth.actor(), state.require_tenant(), group.id, name=group.name, members=()
    )
    errors.leave(t("review_settings.group_ended", name=plain(group.name)))


def _name(user_id: str, names: Mapping[str, str]) -> str:
    return names.get(user_id) or f"{user_id[:8]} ({t('review_settings.gone')})"


def page() -> None:
    """Draw the settings of the chosen tenant."""
    actor, tenant_id = auth.actor(), state.require_tenant()
    heading.draw(t("nav.review_settings"), t("review_settings.caption"))
    names = {one.id: one.name for one in wiring.policies().reviewers(actor, tenant_id)}
    judging(wiring.policies().get(actor, tenant_id))
    groups(wiring.policies().groups(actor, tenant_id), names)


page()
