"""Why a gate of a data set found something, in the reader's language.

Reasons are kept in a data set's files in English, in one of a few forms; the English catalogue holds
them word for word, and so tells which one a reason is.
"""

from __future__ import annotations

import re
from functools import cache

from console.i18n import catalogue, has, t

_FOUND = re.compile(r"(prompt|chosen|rejected): (\w+)")
_NUMBER = re.compile(r"\{(\w+)\}")


def shown(reason: str) -> str:
    """A reason as it is read; as it was kept where its form is not known."""
    for form, name in _forms():
        if match := form.fullmatch(reason):
            return t(f"gate_reason.{name}", **match.groupdict())
    if match := _FOUND.fullmatch(reason):
        side, kind = match.groups()
        known = f"gate_reason.kind_{kind}"
        where = t(f"gate_reason.{side}")
        return f"{where}: {t(known) if has(known) else kind}"
    return reason


@cache
def _forms() -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple(
        (re.compile(_NUMBER.sub(r"(?P<\1>[0-9]+)", text)), key.removeprefix("gate_reason."))
        for key, text in catalogue("en").items()
        if key.startswith("gate_reason.") and isinstance(text, str)
    )
