"""One pair in full: the dialogue, both answers as they stand, and everything that happened."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from console.components import diff, text
from console.i18n import t, when
from services.preferences.bulk import BulkChange, Kind
from services.preferences.evidence import ai_verdict
from services.preferences.models import Pair, PairStatus, Response, Review, ReviewKind

STATUS_COLOURS = {
    PairStatus.UNREVIEWED: "gray",
    PairStatus.DISPUTED: "violet",
    PairStatus.APPROVED: "green",
    PairStatus.REJECTED: "orange",
}


_DECISIONS = {Kind.APPROVE, Kind.REJECT, Kind.REOPEN}


def draw(pair: Pair, changes: Sequence[BulkChange] = (), *, reader_id: str, zone: str) -> None:
    """Draw a pair with its history.

    Args:
        pair: As `Preferences.pair` gives it.
        changes: What bulk actions did to it.
        reader_id: Who reads: their own deeds say "you", everybody else stays unnamed.
        zone: Time zone of the tenant.
    """
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        status(pair.status)
        st.badge(t(f"pairs_filter.in_{pair.language}"), color="gray")
        for name, holds in (
            ("evaluation", pair.is_evaluation),
            ("gold", pair.gold_response_id is not None),
            ("stale", pair.is_stale),
        ):
            if holds:
                st.badge(t(f"pairs_filter.mark_{name}"), color="blue")
        for name in pair.lints:
            st.badge(t(f"pairs_filter.lint_{name}"), color="orange")
        st.caption(
            text.plain(t("pairs.from", source=pair.source, when=when(pair.created_at, zone)))
        )
    _verdict_of_ai(pair)
    text.turns(pair.prompt.turns, as_markdown=False)
    for column, response in zip(st.columns(2, gap="medium"), pair.responses, strict=True):
        with column:
            text.answer(
                response.text, label=_standing(pair, response), as_markdown=False,
                note=t("pairs.version", version=response.version) if response.version > 1 else "",
            )  # fmt: skip
            _changes(pair, response)
    _history(pair, changes, reader_id=reader_id, zone=zone)


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


def _verdict_of_ai(pair: Pair) -> None:
    """Say what the AI made of the pair; those who read this list do not vote here."""
    history = pair.history
    if history is None:
        return
    verdict = ai_verdict(history.versions, history.judgments)
    if verdict is None:
        return
    judge = text.plain(verdict.judge or t("pairs_detail.imported_scores"))
    preferred = pair.response(verdict.preferred_response_id)
    if verdict.is_consistent is False:
        said = t("pairs_detail.ai_inconsistent")
    elif preferred is None:
        said = t("pairs_detail.ai_tie")
    else:
        place = [one.root_id for one in pair.responses].index(preferred.root_id) + 1
        said = t(f"pairs.voted_{max(1, verdict.strength)}", place=place).partition(": ")[2]
    stale = f" {t('pairs_detail.ai_stale')}" if verdict.is_stale else ""
    st.caption(f"{t('pairs_detail.ai', judge=judge, said=said)}{stale}")


def _history(pair: Pair, changes: Sequence[BulkChange], *, reader_id: str, zone: str) -> None:
    if pair.history is None:
        return
    rows = [
        (one.created_at, one.annotator_id, _deed(pair, one), _noted(one))
        for one in pair.history.reviews
    ]
    rows += [
        (one.created_at, one.actor_id, _verdict(one.verdict, one.mark), one.reason)
        for one in pair.history.decisions
    ]
    rows += [
        (one.action.created_at, one.action.actor_id, _changed(one), one.action.reason)
        for one in changes
        # A decision tells of itself.
        if one.action.kind not in _DECISIONS
    ]
    if not rows:
        return
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


def _changed(change: BulkChange) -> str:
    """What a bulk action set, or set back."""
    done = t(f"pairs_bulk.kind_{change.action.kind.value}")
    if change.action.undoes_id is not None:
        return t("pairs_detail.bulk_undone", what=done)
    value = change.after if change.action.kind in {Kind.OVERLAP} else None
    return f"{done}: {value}" if value else done


def _noted(review: Review) -> str:
    """The note of a deed, after its flags and its reason in words."""
    words = [t(f"pairs_detail.flag_{flag}") for flag in review.flags]
    if review.kind is ReviewKind.SKIP and review.reason:
        words.append(t(f"pairs_detail.skip_{review.reason}"))
    elif review.reason:
        words.append(review.reason)
    if review.is_revealed:
        words.append(t("pairs_detail.revealed"))
    if review.is_gold:
        words.append(t("pairs_detail.gold"))
    return " · ".join([*words, *([review.note] if review.note else [])])


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
