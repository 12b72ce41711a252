"""What the desk says by itself, in the reader's language, and which key does what."""

from __future__ import annotations

from console.i18n import t
from services.preferences.models import CRITERIA, FLAGS, SKIP_REASONS

_WORDS = (
    "question", "card", "actions", "left", "right", "left_is", "neither", "right_is",
    "grade_0", "grade_1", "grade_2", "grade_3", "both_bad", "skip", "skip_title", "flag",
    "flag_title", "rate", "rate_title", "note", "edit", "edit_reason", "save_edit", "cancel_edit",
    "difference", "difference_caption", "markdown", "whole", "undo", "last", "next", "revise",
    "revising", "revising_blind", "keep", "evidence", "guidelines", "close", "slow",
)  # fmt: skip


def words() -> dict[str, str]:
    """The desk's own texts by name."""
    named = {name: t(f"review.{name}") for name in _WORDS}
    return {**named, "desk": t("nav.review"), "keys": t("keys.title"), "keys_note": t("keys.note")}


def flags() -> list[tuple[str, str]]:
    """Flags with their names."""
    return [(name, t(f"review.flag_{name}")) for name in FLAGS]


def reasons() -> list[tuple[str, str]]:
    """Reasons for a skip with their names."""
    return [(name, t(f"review.reason_{name}")) for name in SKIP_REASONS]


def criteria() -> list[tuple[str, str]]:
    """Criteria of the ratings with their names."""
    return [(name, t(f"review.criterion_{name}")) for name in CRITERIA]


def keys() -> list[tuple[str, str]]:
    """The sheet: keys (separated by blanks) and what they do."""
    return [
        ("1 2 3", t("review.key_left")),
        ("4", t("review.key_tie")),
        ("5 6 7", t("review.key_right")),
        ("0", t("review.both_bad")),
        ("S", t("review.key_skip")),
        ("F", t("review.key_flag")),
        ("Q", t("review.key_rate")),
        ("N", t("review.key_note")),
        ("E", t("review.key_edit")),
        ("Ctrl ↵", t("review.key_save")),
        ("D", t("review.key_difference")),
        ("M", t("review.key_markdown")),
        ("W", t("review.whole")),
        ("V", t("review.key_revise")),
        ("Z", t("review.key_undo")),
        ("G", t("review.guidelines")),
        ("Esc", t("review.key_escape")),
        ("?", t("keys.title")),
    ]
