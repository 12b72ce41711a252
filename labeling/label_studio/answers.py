"""What an annotation says: checked by us, since the server checks nothing.

The server takes unknown choices, missing answers and stars beyond the scale without a word. Here
everything that our form cannot say is refused with what was expected and what was found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from labeling.ballots import STARS
from labeling.drafts import MAX_EDIT
from labeling.label_studio.form import SIDES, VERDICTS
from labeling.label_studio.models import Answer
from services.errors import InvalidInput
from services.preferences.models import CRITERIA, FLAGS
from services.preferences.service import MAX_NOTE
from services.preferences.text import defect, normalised

PAUSE_MS = 60_000
"""The desk takes a minute without a sign of life for a pause. Time over there does not know
pauses, so that only what is shorter can be told as active time."""


def digest(annotation: Mapping[str, Any]) -> str:
    """The same for the same answers by the same person: what makes taking them in idempotent.

    Times and names of controls' ids change when nothing was changed; they are left out.
    """
    results = [
        {name: result.get(name) for name in ("from_name", "type", "value")}
        for result in annotation.get("result") or []
        if isinstance(result, Mapping)
    ]
    said = {
        "by": annotation.get("completed_by"),
        "cancelled": bool(annotation.get("was_cancelled")),
        "result": sorted(results, key=lambda one: json.dumps(one, sort_keys=True)),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def read(annotation: Mapping[str, Any], *, shown: Mapping[str, str]) -> Answer:
    """The answer in an annotation.

    Args:
        annotation: As the server tells it.
        shown: The text of each response by side, to tell edits from what was prefilled.

    Raises:
        InvalidInput: Something is not what our form can say.
    """
    values = _values(annotation.get("result"))
    choices = _choices(values.pop("preference", None), "preference", VERDICTS)
    if len(choices) != 1:
        raise InvalidInput(f"preference: expected one choice, found {len(choices)}")
    answer = Answer(
        verdict=VERDICTS[choices[0]],
        ratings=_ratings(values),
        flags=_flags(values),
        note=_note(values.pop("note", None)),
        edits=_edits(values, shown),
        active_ms=_active_ms(annotation.get("lead_time")),
    )
    if values:
        raise InvalidInput(f"result: expected only our controls, found {sorted(values)[0][:80]!r}")
    return answer


def _values(results: Any) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Type and value of each control, by its name."""
    if not isinstance(results, Sequence) or isinstance(results, str):
        raise InvalidInput("result: expected a list, found something else")
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for result in results:
        value = result.get("value") if isinstance(result, Mapping) else None
        name = result.get("from_name") if isinstance(result, Mapping) else None
        if not isinstance(value, Mapping) or not isinstance(name, str):
            raise InvalidInput("result: expected objects with 'from_name' and 'value'")
        if name in found:
            raise InvalidInput(f"{name[:80]}: expected one result, found several")
        found[name] = (str(result.get("type")), value)
    return found


def _choices(
    found: tuple[str, Mapping[str, Any]] | None, name: str, known: Mapping[str, Any] | Sequence[str]
) -> list[str]:
    if found is None:
        return []
    kind, value = found
    choices = value.get("choices")
    if kind != "choices" or not isinstance(choices, list):
        raise InvalidInput(f"{name}: expected choices, found {kind[:40]!r}")
    for choice in choices:
        if not isinstance(choice, str) or choice not in known:
            raise InvalidInput(
                f"{name}: expected one of {', '.join(known)}, found {str(choice)[:40]!r}"
            )
    return choices


def _flags(values: dict[str, tuple[str, Mapping[str, Any]]]) -> tuple[str, ...]:
    found = _choices(values.pop("flags", None), "flags", FLAGS)
    return tuple(flag for flag in FLAGS if flag in found)


def _ratings(values: dict[str, tuple[str, Mapping[str, Any]]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for side in SIDES:
        for criterion in CRITERIA:
            name = f"{criterion}_{side}"
            if name not in values:
                continue
            kind, value = values.pop(name)
            stars: Any = value.get("rating")
            if kind != "rating" or isinstance(stars, bool) or stars not in STARS:
                raise InvalidInput(f"{name}: expected 1 to 5 stars, found {str(stars)[:40]!r}")
            found.setdefault(side, {})[criterion] = int(stars)
    return found


def _text(found: tuple[str, Mapping[str, Any]] | None, name: str, limit: int) -> str | None:
    """The text of one text area; None where nothing was written."""
    if found is None:
        return None
    kind, value = found
    text = value.get("text")
    lines = [text] if isinstance(text, str) else text
    if kind != "textarea" or not isinstance(lines, list) or len(lines) > 1:
        raise InvalidInput(f"{name}: expected one text, found {kind[:40]!r}")
    if not lines:
        return None
    if not isinstance(lines[0], str):
        raise InvalidInput(f"{name}: expected a text, found something else")
    if len(lines[0]) > limit:
        raise InvalidInput(
            f"{name}: expected at most {limit:,} characters, found {len(lines[0]):,}"
        )
    if problem := defect(lines[0]):
        raise InvalidInput(f"{name}: expected text that can be stored, found {problem}")
    return lines[0]


def _note(found: tuple[str, Mapping[str, Any]] | None) -> str:
    return (_text(found, "note", MAX_NOTE) or "").strip()


def _edits(
    values: dict[str, tuple[str, Mapping[str, Any]]], shown: Mapping[str, str]
) -> dict[str, str]:
    """Texts that somebody changed; a box that was left alone comes back as it was prefilled."""
    found: dict[str, str] = {}
    for side in SIDES:
        text = _text(values.pop(f"edit_{side}", None), f"edit_{side}", MAX_EDIT)
        # Browsers send line ends as they like.
        if text is None or _plain(text) == _plain(shown[side]):
            continue
        if not text.strip():
            raise InvalidInput(f"edit_{side}: expected a text, found an empty one")
        found[side] = text
    return found


def _plain(text: str) -> str:
    return normalised(text.replace("\r\n", "\n").replace("\r", "\n"))


def _active_ms(lead_time: Any) -> int | None:
    if not isinstance(lead_time, int | float) or isinstance(lead_time, bool):
        return None
    return int(lead_time * 1000) if 0 < lead_time * 1000 <= PAUSE_MS else None
