"""Which pairs the list shows: the bar above it, and views that were saved under a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from console import auth, state, wiring
from console.components import errors
from console.components.text import plain
from console.i18n import t
from services.preferences.filters import LANGUAGES, NOBODY, Evidence, Filters, Sort
from services.preferences.lints import LINTS
from services.preferences.models import PairStatus
from services.preferences.views import View
from services.tenants.models import Actor, Permission, Tenant

_FACTS = ("is_edited", "is_stale", "is_gold", "is_evaluation")
_MORE = ("language", "source", "lint", "evidence", "assignee", *_FACTS)
PAGE = "pairs.page"


def key_of(name: str) -> str:
    """The session's key of one filter."""
    return f"pairs.{name}"


def draw(actor: Actor, tenant: Tenant) -> tuple[Filters, Sort]:
    """Draw the bar.

    Returns:
        What is asked, and in which order.
    """
    left, right = st.columns([3, 3], vertical_alignment="bottom")
    query = right.text_input(
        t("pairs.search"), placeholder=t("pairs.search_example"), icon=":material/search:",
        key=key_of("query"), on_change=first_page, max_chars=500,
    )  # fmt: skip
    status = left.segmented_control(
        t("pairs.status"), list(PairStatus),
        format_func=lambda value: t(f"pairs.status_{value.value}"),
        key=key_of("status"), on_change=first_page,
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        asked = _more(actor, tenant.id)
        views(actor, tenant.id, _filters(status, query, asked))
        sort = st.selectbox(
            t("pairs_filter.sort"), list(Sort), key=key_of("sort"), on_change=first_page,
            format_func=lambda value: t(f"pairs_filter.sort_{value.value}"),
            label_visibility="collapsed", width=240,
        )  # fmt: skip
        if status or query or asked:
            st.button(
                t("pairs_filter.clear"), key="pairs.clear", type="tertiary",
                icon=":material/filter_alt_off:", on_click=_apply, args=(Filters(),),
            )  # fmt: skip
    return _filters(status, query, asked), Sort(sort or Sort.ARRIVAL)


def first_page() -> None:
    """Begin the list anew: another question has another first page."""
    state.put(PAGE, 1)


def _filters(status: PairStatus | None, query: str | None, asked: Mapping[str, Any]) -> Filters:
    return Filters(status=status, query=query or "", **asked)


def _more(actor: Actor, tenant_id: str) -> dict[str, Any]:
    """Draw the filters that are asked for less often; those that are set."""
    count = sum(state.get(key_of(name)) is not None for name in _MORE)
    label = t("pairs_filter.more_set", count=count) if count else t("pairs_filter.more")
    asked: dict[str, Any] = {}
    with st.popover(label, icon=":material/filter_alt:", key="pairs.more"):
        left, right = st.columns(2, width=460)
        with left:
            _choice(asked, "language", LANGUAGES, lambda value: t(f"pairs_filter.in_{value}"))
            sources = wiring.services().preferences.sources(actor, tenant_id)
            _choice(asked, "source", sources, str)
            _choice(asked, "assignee", *_assignees(actor, tenant_id))
            _choice(asked, "lint", LINTS, lambda value: t(f"pairs_filter.lint_{value}"))
            _choice(
                asked, "evidence", list(Evidence),
                lambda value: t(f"pairs_filter.evidence_{value.value}"),
            )  # fmt: skip
        with right:
            for name in _FACTS:
                _choice(
                    asked, name, (True, False),
                    lambda value: t("pairs_filter.yes") if value else t("pairs_filter.no"),
                )  # fmt: skip
    return asked


def _choice(
    asked: dict[str, Any], name: str, options: Sequence[Any], shown: Callable[[Any], str]
) -> None:
    held = state.get(key_of(name))
    # A view may ask for what is not there any more; the choice still shows it.
    listed = [*options] if held is None or held in options else [held, *options]
    value = st.selectbox(
        t(f"pairs_filter.{name}"), listed, index=None, format_func=shown, key=key_of(name),
        placeholder=t("pairs_filter.any"), on_change=first_page,
    )  # fmt: skip
    if value is not None:
        asked[name] = value


def _assignees(actor: Actor, tenant_id: str) -> tuple[Sequence[str], Callable[[str], str]]:
    names = {NOBODY: t("pairs_filter.nobody"), **names_of_assignees(actor, tenant_id)}
    return list(names), lambda value: names.get(value, value)


def names_of_assignees(actor: Actor, tenant_id: str) -> dict[str, str]:
    """Groups and people who review, by what an assignment calls them; none for mere readers."""
    if not actor.may(Permission.EDIT_PAIRS, tenant_id):
        return {}
    policies = wiring.policies()
    names = {
        f"group:{group.id}": t("pairs_filter.group", name=group.name)
        for group in policies.groups(actor, tenant_id)
    }
    people = policies.reviewers(actor, tenant_id)
    return names | {f"user:{person.id}": person.name for person in people}


def views(actor: Actor, tenant_id: str, filters: Filters) -> None:
    """Draw the saved views, and the way to save what is asked at present."""
    saved = wiring.views().list(actor, tenant_id)
    with st.popover(t("pairs_filter.views"), icon=":material/bookmark:", key="pairs.views"):
        for view in saved:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.button(
                    plain(view.name), key=f"pairs.view.{view.id}", type="tertiary", width="stretch",
                    icon=":material/group:" if view.is_shared else ":material/person:",
                    on_click=_apply, args=(view.filters,),
                )  # fmt: skip
                if view.owner_id == actor.id:
                    st.button(
                        t("pairs_filter.forget"), key=f"pairs.forget.{view.id}", type="tertiary",
                        icon=":material/delete:", on_click=_forget, args=(tenant_id, view),
                    )  # fmt: skip
        if not saved:
            st.caption(t("pairs_filter.no_views"))
        st.text_input(t("pairs_filter.view_name"), key="pairs.view_name", max_chars=80)
        st.checkbox(t("pairs_filter.share"), key="pairs.view_shared")
        st.button(
            t("pairs_filter.save"), key="pairs.save_view", icon=":material/bookmark_add:",
            on_click=_save, args=(tenant_id, filters),
        )  # fmt: skip


def _apply(filters: Filters) -> None:
    for name in ("status", *_MORE):
        state.put(key_of(name), getattr(filters, name))
    state.put(key_of("query"), filters.query)
    first_page()


@errors.guarded
def _save(tenant_id: str, filters: Filters) -> None:
    view = wiring.views().save(
        auth.actor(), tenant_id, state.get("pairs.view_name", ""), filters,
        is_shared=state.get("pairs.view_shared", False),
    )  # fmt: skip
    state.put("pairs.view_name", "")
    errors.leave(t("pairs_filter.saved", name=plain(view.name)))


@errors.guarded
def _forget(tenant_id: str, view: View) -> None:
    wiring.views().remove(auth.actor(), tenant_id, view.id)
