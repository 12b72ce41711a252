"""How the annotators work, as figures, a table and one habit at a time with its intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from console.components import empty, figures, heading, intervals, people_names
from console.i18n import duration, number, t
from labeling.meters import Meter, TeamMeters
from labeling.reliability import Estimate, departs
from services.preferences.models import PairStatus

_SHARES: dict[str, Callable[[Meter], Estimate]] = {
    "left": lambda one: one.chose_left,
    "longer": lambda one: one.chose_longer,
    "as_is": lambda one: one.approved_as_is,
    "too_fast": lambda one: one.too_fast,
    "gold": lambda one: one.gold,
    "changed": lambda one: one.changed,
}
_EVEN = {"left": (0.5,), "longer": (0.5,)}
MAX_ROWS = 30


def team(found: TeamMeters) -> None:
    """Draw the work of everybody."""
    decided = found.by_status[PairStatus.APPROVED] + found.by_status[PairStatus.REJECTED]
    total = sum(found.by_status.values())
    pace = found.team.pairs_per_hour
    figures.draw(
        [
            (t("meters.decided"), t("meters.of", part=decided, whole=total)),
            (t("meters.votes_left"), number(found.votes_left)),
            (t("meters.hours_left"), "–" if found.hours_left is None else _hours(found.hours_left)),
            (t("meters.pace"), "–" if pace is None else number(pace)),
        ]
    )
    if not found.annotators:
        empty.draw(t("meters.empty"), t("meters.empty_text"), icon="group")
        return
    _table(found)
    _habit(found)


def _hours(hours: float) -> str:
    return duration(hours * 3600)


def _table(found: TeamMeters) -> None:
    heading.section(t("meters.table"), t("meters.table_caption"))
    rows = [_row(people_names.of(one.person), one) for one in found.annotators]
    if len(rows) > 1:
        rows.append(_row(t("meters.team"), found.team))
    shares = {
        name: st.column_config.NumberColumn(
            t(f"meters.{name}"), format=t("meters.percent_format"), help=_help(name, found)
        )
        for name in _SHARES
    }
    st.dataframe(
        rows,
        column_config={
            "who": st.column_config.Column(t("meters.who"), pinned=True),
            "votes": st.column_config.NumberColumn(t("meters.votes"), format="localized"),
            "pace": st.column_config.NumberColumn(t("meters.pace"), format="%d"),
            "skips": st.column_config.NumberColumn(t("meters.skips"), format="localized"),
            "edits": st.column_config.NumberColumn(t("meters.edits"), format="localized"),
            **shares,
        },
        hide_index=True,
    )


def _row(name: str, meter: Meter) -> dict[str, object]:
    pace = meter.pairs_per_hour
    return {
        "who": name,
        "votes": meter.votes,
        "pace": None if pace is None else round(pace),
        "skips": meter.skips,
        "edits": meter.edits,
        **{name: _percent(share(meter)) for name, share in _SHARES.items()},
    }


def _percent(found: Estimate) -> float | None:
    return None if found.value is None else 100 * found.value


def _help(name: str, found: TeamMeters) -> str:
    if name == "too_fast":
        return t("meters.too_fast_help", seconds=number(found.too_fast_ms / 1000, 1))
    return t(f"meters.{name}_help")


def _habit(found: TeamMeters) -> None:
    heading.section(t("meters.habit"), t("meters.habit_caption"))
    name = str(
        st.segmented_control(
            t("meters.habit"), list(_SHARES), default="left", required=True,
            format_func=lambda one: t(f"meters.{one}"), key="agreement.habit",
            label_visibility="collapsed",
        )
    )  # fmt: skip
    st.caption(_help(name, found))
    share = _SHARES[name]
    shown = [one for one in found.annotators if share(one).is_known][:MAX_ROWS]
    if not shown:
        st.caption(t("meters.nothing_measured"))
        return
    intervals.forest(
        {t(f"meters.{name}"): [share(one) for one in shown]},
        [people_names.of(one.person) for one in shown],
        key=f"agreement.habit.{name}",
        x_title=t(f"meters.{name}"),
        lines=_EVEN.get(name, ()),
        ends=(0.0, 1.0) if name in _EVEN else None,
        as_percent=True,
    )
    if name in _EVEN:
        _remark(name, shown)


def _remark(name: str, shown: Sequence[Meter]) -> None:
    """Name those who lean beyond what chance does to somebody in a team of this size."""
    leaning = [
        people_names.of(one.person)
        for one in shown
        if departs(_SHARES[name](one), 0.5, among=len(shown))
    ]
    if leaning:
        st.warning(t(f"meters.{name}_leans", who=", ".join(leaning)), icon=":material/balance:")
    else:
        st.caption(t("meters.nobody_leans"))
