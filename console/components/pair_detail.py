"""One pair in full: the dialogue, both answers as they stand, and everything that happened."""

from __future__ import annotations

import streamlit as st

from console.components import diff, text
from console.i18n import t, when
from services.preferences.models import Pair, PairStatus, Response, Review, ReviewKind

STATUS_COLOURS = {
    PairStatus.UNREVIEWED: "gray",
    PairStatus.APPROVED: "green",
    PairStatus.REJECTED: "orange",
}


def draw(pair: Pair, *, reader_id: str, zone: str) -> None:
    """Draw a pair with its history.

    Args:
        pair: As `Preferences.pair` gives it.
        reader_id: Who reads: their own deeds say "you", everybody else stays unnamed.
        zone: Time zone of the tenant.
    """
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        status(pair.status)
        st.badge(pair.language, color="gray")
        st.caption(
            text.plain(t("pairs.from", source=pair.source, when=when(pair.created_at, zone)))
        )
    text.turns(pair.prompt.turns, as_markdown=False)
    for column, response in zip(st.columns(2, gap="medium"), pair.responses, strict=True):
        with column:
            text.answer(
                response.text, label=_standing(pair, response), as_markdown=False,
                note=t("pairs.version", version=response.version) if response.version > 1 else "",
            )  # fmt: skip
            _changes(pair, response)
    _history(pair, reader_id=reader_id, zone=zone)


def status(value: PairStatus) -> None:
    """Draw a pair's status as a badge."""
    st.badge(t(f"pairs.status_{value.value}"), color=STATUS_COLOURS[value])  # type: ignore[arg-type]


def _standing(pair: Pair, response: Response) -> str:
    chosen = pair.response(pair.chosen_response_id)
    if pair.status is PairStatus.APPROVED and chosen is not None:
        return t("pairs.chosen") if chosen.root_id == response.root_id else t("pairs.rejected_one")
    preferred = pair.response(pair.imported_preference)
    if preferred is not None and preferred.root_id == response.root_id:
        return t("pairs.import_preferred")
    return t("pairs.answer")


def _changes(pair: Pair, response: Response) -> None:
    versions = pair.history.versions if pair.history else ()
    first = next((version for version in versions if version.id == response.root_id), None)
    if first is not None and response.version > 1:
        with st.expander(t("pairs.changes")):
            diff.draw(first.text, response.text)


def _history(pair: Pair, *, reader_id: str, zone: str) -> None:
    if pair.history is None or not (pair.history.reviews or pair.history.decisions):
        return
    rows = [(r.created_at, r.annotator_id, _deed(pair, r), r.note) for r in pair.history.reviews]
    rows += [
        (d.created_at, d.actor_id, _verdict(d.verdict, d.mark), d.reason)
        for d in pair.history.decisions
    ]
    st.dataframe(
        [
            {
                "when": when(at, zone),
                "who": t("pairs.you") if who == reader_id else t("pairs.other", id=who[-4:]),
                "what": what,
                "note": note,
            }
            for at, who, what, note in sorted(rows, key=lambda row: row[0])
        ],
        column_config={
            "when": t("pairs.when"),
            "who": t("pairs.who"),
            "what": st.column_config.Column(t("pairs.what"), width="large"),
            "note": st.column_config.Column(t("pairs.note"), width="medium"),
        },
        hide_index=True,
    )


def _verdict(verdict: PairStatus, mark: str) -> str:
    decided = t(f"pairs.decided_{verdict.value}")
    return f"{decided} ({mark})" if mark else decided


def _deed(pair: Pair, review: Review) -> str:
    if review.kind is not ReviewKind.VOTE:
        return t(f"pairs.did_{review.kind.value}")
    if review.strength is None:
        return t("pairs.voted_both_bad")
    preferred = pair.response(review.preferred_response_id)
    if preferred is None:
        return t("pairs.voted_tie")
    place = [response.root_id for response in pair.responses].index(preferred.root_id) + 1
    return t(f"pairs.voted_{review.strength}", place=place)
