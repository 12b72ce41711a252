"""How a refusal is shown: one box, a heading in the reader's language, the service's sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Literal, ParamSpec

import streamlit as st

from console import state
from console.components.text import plain
from console.i18n import has, t
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
    """What was expected and found: the service's sentence, or ours where it is always the same."""
    key = f"errors.{error.code}_text"
    return t(key) if has(key) else plain(error.message)


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
