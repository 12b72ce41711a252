"""How a refusal is shown: one box, a heading and a sentence in the reader's language.

Services name their commonest sentences (`ConsoleError.because`); `refusal.json` says them and
`field.json` the names of what they speak of. A sentence without a name is shown as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Literal, ParamSpec

import streamlit as st

from console import state
from console.components.text import plain
from console.i18n import has, t, written
from services.errors import ConsoleError, NotPermitted, NotSignedIn

P = ParamSpec("P")
Kind = Literal["error", "success", "info", "warning"]

_ICONS: dict[Kind, str] = {
    "error": ":material/error:",
    "success": ":material/check_circle:",
    "info": ":material/info:",
    "warning": ":material/warning:",
}


@contextmanager
def shown() -> Iterator[None]:
    """Draw a refusal instead of letting it end the script. Bugs pass through."""
    try:
        yield
    except ConsoleError as error:
        show(error)


def show(error: ConsoleError) -> None:
    """Draw one refusal."""
    icon = ":material/lock:" if isinstance(error, NotPermitted | NotSignedIn) else _ICONS["error"]
    st.error(f"**{heading(error)}**  \n{detail(error)}", icon=icon)


def heading(error: ConsoleError) -> str:
    """What kind of refusal this is, in the reader's language."""
    key = f"errors.{error.code}"
    return t(key) if has(key) else t("errors.internal_error")


def detail(error: ConsoleError) -> str:
    """What was expected and found: in the reader's words where the sentence has a name."""
    for key in (f"refusal.{error.reason}", f"errors.{error.code}_text"):
        if has(key):
            return t(key, **{name: _said(name, value) for name, value in error.values.items()})
    return plain(error.message)


def _said(name: str, value: Any) -> object:
    """What stands in a sentence: a field's name, a number as the language writes it, or text."""
    if name == "field":
        key = f"field.{str(value).replace(' ', '_')}"
        return t(key) if has(key) else plain(str(value))
    if isinstance(value, bool) or value is None:
        return plain(str(value))
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return written(value)
    many = value if isinstance(value, list | tuple) else (value,)
    return plain(", ".join(str(one) for one in many))


def guarded(callback: Callable[P, None]) -> Callable[P, None]:
    """Wrap a widget callback: these run before the page, outside its guard."""

    @wraps(callback)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except ConsoleError as error:
            leave_refusal(error)

    return run


def leave_refusal(error: ConsoleError) -> None:
    """Leave a refusal that the next `notices()` draws."""
    leave(f"**{heading(error)}**  \n{detail(error)}", "error")


def leave(text: str, kind: Kind = "success") -> None:
    """Leave a message that the next `notices()` draws."""
    state.put(state.NOTICES, [*state.get(state.NOTICES, []), (kind, text)])


def notices() -> None:
    """Draw what callbacks left, once. The shell calls it; fragments call it themselves."""
    left: list[tuple[Kind, str]] = state.get(state.NOTICES, [])
    state.drop(state.NOTICES)
    for kind, text in left:
        box = {"error": st.error, "success": st.success, "info": st.info, "warning": st.warning}
        box[kind](text, icon=_ICONS[kind])
