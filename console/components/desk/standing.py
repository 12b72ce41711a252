"""How far the queue is, in words, and why there is no card where there is none."""

from __future__ import annotations

from console.i18n import t
from labeling.models import Progress


def progress(done: Progress) -> tuple[float, str]:
    """What is reviewed, 0 to 1, and the same in words with this person's share."""
    reviewed = done.total - done.unreviewed
    said = t("review.progress", reviewed=reviewed, total=done.total, mine=done.mine)
    return reviewed / max(1, done.total), said


def why_none(done: Progress) -> dict[str, str]:
    """Title and text of the empty desk."""
    if not done.total:
        return {"title": t("review.empty"), "text": t("review.empty_text")}
    if done.with_others:
        told = t("review.with_others_text", count=done.with_others)
        return {"title": t("review.with_others"), "text": told}
    if done.unreviewed:
        told = t("review.only_skipped_text", count=done.unreviewed)
        return {"title": t("review.only_skipped"), "text": told}
    return {"title": t("review.done"), "text": t("review.done_text", count=done.total)}
