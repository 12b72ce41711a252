"""What the AI had said of a pair, once the person has said it: one line, or everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from console.i18n import number, t
from labeling.models import Card, Evidence, Verdict
from services.preferences.evidence import AiVerdict


def your_verdict(verdict: Verdict) -> str:
    """A verdict in words: `left, much better`."""
    if verdict == "both_bad":
        return t("review.said_both_bad")
    return _graded(verdict < 0, abs(verdict))


def last(vote: Mapping[str, Any], evidence: Evidence | None) -> dict[str, Any]:
    """The strip about the pair that was just voted on.

    Args:
        vote: `review`, `verdict`, `left` and `right` as the vote was cast.
        evidence: None where the tenant does not show it.
    """
    told: dict[str, Any] = {
        "review": vote["review"],
        "you": t("review.you", verdict=your_verdict(vote["verdict"])),
        "ai": "",
        "facts": "",
        "tone": "none",
    }
    if evidence is None:
        return told
    ai, left, right = evidence.ai, str(vote["left"]), str(vote["right"])
    told["ai"] = _ai(ai, left)
    told["facts"] = _facts(evidence, left, right)
    # A judge that contradicts itself, or that judged another text, neither agrees nor disagrees.
    is_word = ai is not None and ai.is_consistent is not False and not ai.is_stale
    if ai is not None and is_word and vote["verdict"] != "both_bad":
        told["tone"] = "same" if _side(ai, left) == _sign(vote["verdict"]) else "other"
    return told


def evidence(card: Card) -> dict[str, Any] | None:
    """Everything that the AI had said of a revealed card."""
    found = card.evidence
    if found is None:
        return None
    left, right = card.left.id, card.right.id
    return {
        "verdict": _ai(found.ai, left),
        "rows": [
            (name, one, other) for name, one, other in _rows(found, left, right) if one or other
        ],
        "said": [
            (_order(judgment.first_response_id == left), judgment.reason)
            for judgment in found.judgments
            if judgment.reason
        ],
    }


def _ai(ai: AiVerdict | None, left: str) -> str:
    if ai is None:
        return t("review.ai_silent")
    who = ai.judge or t("review.ai")
    if ai.is_consistent is False:
        said = t("review.ai_inconsistent", who=who)
    else:
        said = t("review.ai_said", who=who, verdict=_graded(_side(ai, left) < 0, ai.strength))
    return f"{said} · {t('review.ai_stale')}" if ai.is_stale else said


def _facts(evidence: Evidence, left: str, right: str) -> str:
    rows = [row for row in _rows(evidence, left, right) if row[1] or row[2]]
    told = " · ".join(f"{name} {one or '–'} : {other or '–'}" for name, one, other in rows)
    return t("review.facts", facts=told) if told else ""


def _rows(evidence: Evidence, left: str, right: str) -> list[tuple[str, str, str]]:
    def figures(values: Mapping[str, float | None]) -> tuple[str, str]:
        one, other = values.get(left), values.get(right)
        return _figure(one), _figure(other)

    generators = evidence.generators
    return [
        (t("review.score"), *figures(evidence.scores)),
        (t("review.generator"), generators.get(left) or "", generators.get(right) or ""),
        (t("review.temperature"), *figures(evidence.temperatures)),
    ]


def _figure(value: float | None) -> str:
    return "" if value is None else number(value, 0 if value == int(value) else 1)


def _order(left_first: bool) -> str:
    return t("review.saw_left_first" if left_first else "review.saw_right_first")


def _graded(left: bool, strength: int) -> str:
    if strength == 0:
        return t("review.said_tie")
    side = "review.said_left" if left else "review.said_right"
    return t(side, grade=t(f"review.grade_{strength}"))


def _side(ai: AiVerdict, left: str) -> int:
    """-1 where the AI prefers the left answer, 0 for a tie, 1 for the right one."""
    if ai.preferred_response_id is None or ai.strength == 0:
        return 0
    return -1 if ai.preferred_response_id == left else 1


def _sign(verdict: int) -> int:
    return (verdict > 0) - (verdict < 0)
