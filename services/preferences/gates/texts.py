"""Gates that need nothing but one pair."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from services.preferences import lints
from services.preferences.evidence import CLOSE, AiVerdict
from services.preferences.gates import pii
from services.preferences.gates.models import Candidate, Finding
from services.preferences.models import Turn
from services.preferences.text import normalised

_OF_CHOSEN = ("identity_leak", "prompt_leak", "unfinished", "error_text")
"""A worse answer may well be worse for one of these."""
_OF_EITHER = ("template_tokens", "hidden_characters")


def findings(one: Candidate, verdict: AiVerdict | None) -> list[Finding]:
    """What the gates of a single pair find, in no particular order.

    Args:
        verdict: What an AI said of the pair, if anything did.
    """
    chosen, rejected = one.chosen.text, one.rejected.text
    found = [*_schema(one)]
    if not found and normalised(chosen) == normalised(rejected):
        return [Finding("identical", "identical responses")]
    found += _evidence(one, verdict)
    found += _warnings(one.pair.prompt.turns, chosen, rejected)
    found += _personal([("prompt", turn.content) for turn in one.pair.prompt.turns])
    found += _personal([("chosen", chosen), ("rejected", rejected)])
    return found


def _schema(one: Candidate) -> Iterator[Finding]:
    """What keeps a row from being a dialogue that ends in an answer."""
    turns = one.pair.prompt.turns
    dialogue = turns[1:] if turns[0].role == "system" else turns
    wanted = [("user", "assistant")[index % 2] for index in range(len(dialogue))]
    if [turn.role for turn in dialogue] != wanted:
        yield Finding("schema", "turns do not alternate between user and assistant")
    elif not dialogue or dialogue[-1].role != "user":
        yield Finding("schema", "the last turn is not the user's")
    if not all(turn.content.strip() for turn in turns):
        yield Finding("schema", "empty turn")
    if not one.chosen.text.strip() or not one.rejected.text.strip():
        yield Finding("schema", "empty response")


def _evidence(one: Candidate, verdict: AiVerdict | None) -> Iterator[Finding]:
    """What the decision rests on."""
    if not one.is_confirmed:
        yield Finding("stale", "edited after the decision")
    elif one.pair.is_stale and not one.by_person:
        yield Finding("stale", "edited after the AI scored it")
    if verdict is None:
        return
    if not one.by_person:
        if verdict.is_consistent is False:
            yield Finding("undecided", "the judge contradicts itself and no person decided")
        elif verdict.strength == 0 or (verdict.margin is not None and verdict.margin < CLOSE):
            yield Finding("undecided", "nearly a tie and no person decided")
    if verdict.preferred_response_id == one.rejected.id and not verdict.is_stale:
        yield Finding("score_conflict", "the AI prefers the rejected answer")


def _warnings(turns: tuple[Turn, ...], chosen: str, rejected: str) -> Iterator[Finding]:
    """What stands out in the texts themselves."""
    of_chosen, of_rejected = lints.of_answers(turns, chosen, rejected)
    for name in _OF_CHOSEN:
        if name in of_chosen:
            yield Finding(name, "chosen")
    for name in _OF_EITHER:
        if name in of_chosen or name in of_rejected:
            yield Finding(name, "chosen" if name in of_chosen else "rejected")
    if "refusal" in of_chosen and "refusal" not in of_rejected:
        yield Finding("refusal", "the chosen answer refuses, the rejected one does not")
    if lints.is_near_identical(chosen, rejected):
        yield Finding("near_identical", "nearly the same words")
    if lints.has_length_gap(chosen, rejected):
        longer = "chosen" if len(chosen) > len(rejected) else "rejected"
        yield Finding("length_gap", f"{longer} much longer")
    for side, text in (("chosen", chosen), ("rejected", rejected)):
        if not unicodedata.is_normalized("NFC", text):
            yield Finding("not_composed", side)


def _personal(texts: list[tuple[str, str]]) -> Iterator[Finding]:
    for side, text in texts:
        personal, secrets = pii.found_in(text)
        for kind in sorted(personal):
            yield Finding("personal_data", f"{side}: {kind}")
        for kind in sorted(secrets):
            yield Finding("secrets", f"{side}: {kind}")
