"""Tasks of Label Studio's JSON export as pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.preferences.drafts import (
    Draft,
    DraftAnswer,
    fields_of,
    prompt_of,
    refuse,
    text_of,
    turns_of,
    two_answers,
)
from services.preferences.models import Turn

ANSWER_FIELDS = (
    ("response_a", "response_b"),
    ("answer1", "answer2"),
    ("text1", "text2"),
    ("response1", "response2"),
    ("response_1", "response_2"),
)
"""Names under which labeling projects keep both answers; the first is our own, the others are
those of Label Studio's templates."""

_FIRST = frozenset({"left", "a1", "a2", "a3"})
_SECOND = frozenset({"right", "b1", "b2", "b3"})
_NEITHER = frozenset({"tie", "both_bad", "both bad"})


def label_studio_row(task: Any) -> Draft:
    """One task with the verdict of its latest annotation that was not cancelled.

    A task without one, or with a tie, becomes a pair without a preference. Edits of the answers
    are not taken.

    Raises:
        RowProblem: No prompt and two answers, or a verdict that is not known.
    """
    row = fields_of(task, ("data",))
    data = fields_of(row["data"], ("prompt",))
    names = next((names for names in ANSWER_FIELDS if names[0] in data and names[1] in data), None)
    if names is None:
        known = "; ".join(" and ".join(pair) for pair in ANSWER_FIELDS)
        refuse(f"two answers in 'data' ({known})", ", ".join(sorted(map(str, data))[:8])[:200])
    first, second = (DraftAnswer(text_of(data[name], f"data.{name}")) for name in names)
    prompt = data["prompt"]
    turns = (
        turns_of(prompt, "data.prompt")
        if isinstance(prompt, list)
        else (Turn("user", text_of(prompt, "data.prompt")),)
    )
    extra = {"label_studio_task": row["id"]} if isinstance(row.get("id"), int) else {}
    return Draft(
        prompt_of(turns, "data.prompt"),
        two_answers(first, second),
        preferred=_preferred(row.get("annotations")),
        extra=extra,
    )


def _preferred(annotations: Any) -> int | None:
    if annotations is None:
        return None
    if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
        refuse("a list of objects in 'annotations'", "something else")
    live = [one for one in annotations if not one.get("was_cancelled")]
    latest = max(live, key=lambda one: str(one.get("updated_at") or ""), default=None)
    if latest is None:
        return None
    results = latest.get("result")
    if not isinstance(results, list):
        refuse("a list in 'annotations.result'", "something else")
    verdicts = [verdict for result in results if (verdict := _verdict(result)) is not None]
    if not verdicts:
        return None
    return _index(verdicts[0])


def _verdict(result: Any) -> str | None:
    """The verdict in one result; None where it answers another question."""
    if not isinstance(result, dict) or not isinstance(result.get("value"), Mapping):
        refuse("an object with a 'value' in 'annotations.result'", "something else")
    value = result["value"]
    if result.get("type") == "pairwise":
        return str(value.get("selected"))
    if result.get("type") == "choices" and result.get("from_name") == "preference":
        choices = value.get("choices")
        if not isinstance(choices, list) or len(choices) != 1:
            refuse("one choice in 'preference'", "none or several")
        return str(choices[0])
    return None


def _index(verdict: str) -> int | None:
    # Without aliases the export names the choice as it is shown: "A much better".
    word = verdict.strip().lower()
    if word in _FIRST or word.startswith("a ") and word.endswith("better"):
        return 0
    if word in _SECOND or word.startswith("b ") and word.endswith("better"):
        return 1
    if word in _NEITHER:
        return None
    refuse("a verdict such as 'a2', 'tie', 'b1' or 'left'", repr(verdict[:40]))
