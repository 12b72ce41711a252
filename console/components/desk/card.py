"""A card as the browser gets it: foreign text escaped here, and nothing that it must not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from console.components import diff, text
from console.components.desk import reveal
from console.i18n import t
from labeling.models import Card
from services.preferences.models import Response

Mode = Literal["judge", "edit", "revise"]


@dataclass(frozen=True)
class View:
    """How texts are drawn.

    Attributes:
        markdown: With their Markdown drawn.
        difference: As one text, with what is only left and only right marked.
        whole: However long they are.
    """

    markdown: bool = False
    difference: bool = False
    whole: bool = False


def as_data(
    card: Card, view: View, mode: Mode, *, vote: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """All that the browser knows of a card.

    Args:
        vote: The latest vote, as the browser told it; the card may be there to revise it.
    """
    texts = [card.left.text, card.right.text, *(turn.content for turn in card.prompt.turns)]
    limit = None if view.whole else text.MAX_SHOWN_CHARS
    compared = diff.html_of(card.left.text, card.right.text) if view.difference else None
    return {
        "pair": card.pair_id,
        "mode": mode,
        "language": card.language,
        "turns": text.html_of_turns(card.prompt.turns, as_markdown=view.markdown, limit=limit),
        "left": _answer(card, card.left, view, mode, limit),
        "right": _answer(card, card.right, view, mode, limit),
        "compare": None if mode == "edit" else compared,
        "is_cut": limit is not None and any(len(one) > limit for one in texts),
        "view": {"markdown": view.markdown, "difference": view.difference, "whole": view.whole},
        "evidence": reveal.evidence(card) if mode == "revise" else None,
        "vote": _ballot(vote)
        if mode == "revise" and vote and vote["pair"] == card.pair_id
        else None,
    }


def _ballot(vote: Mapping[str, Any]) -> dict[str, Any]:
    return {name: vote[name] for name in ("verdict", "ratings", "flags", "note")}


def _answer(
    card: Card, response: Response, view: View, mode: Mode, limit: int | None
) -> dict[str, Any]:
    draft = card.drafts.get(response.id)
    notes = []
    if response.version > 1:
        notes.append(t("review.edited", version=response.version))
    if draft is not None and mode == "judge":
        notes.append(t("review.has_draft"))
    found: dict[str, Any] = {"id": response.id, "notes": notes}
    if mode != "edit":
        shown = text.html_of(response.text, as_markdown=view.markdown, limit=limit)
        return {**found, "html": shown}
    is_changed = draft is not None and draft != response.text
    change = diff.html_of(response.text, draft) if draft is not None and is_changed else ""
    return {**found, "text": response.text, "draft": draft, "change": change}
