"""The card of the review desk: a prompt, two answers, a verdict, all by keyboard.

Streamlit keeps C and R for itself and knows no punctuation, hence digits and a few letters.
Shortcuts rest while the cursor is in a text field.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from console import state
from console.components import diff, keys, text
from console.i18n import t
from labeling.models import Card
from services.preferences.models import Response

MARKDOWN = "review.markdown"
EDITING = "review.editing"
COMPARING = "review.comparing"
_SHOWN = "review.shown"
_MAX_ACTIVE_MS = 30 * 60 * 1000

Act = Callable[..., None]


def prompt(card: Card) -> None:
    """Draw what both answers reply to."""
    text.turns(card.prompt.turns, as_markdown=bool(state.get(MARKDOWN)))


def draw(card: Card) -> None:
    """Draw prompt and answers, and start the clock when the card is new."""
    if state.get(_SHOWN, ("", 0.0))[0] != card.pair_id:
        state.put(_SHOWN, (card.pair_id, time.monotonic()))
    prompt(card)
    if state.get(COMPARING):
        st.caption(t("review.difference_caption"))
        diff.draw(card.left.text, card.right.text)
        return
    for column, response, label in _sides(card):
        with column:
            note = t("review.edited", version=response.version) if response.version > 1 else ""
            as_markdown = bool(state.get(MARKDOWN))
            text.answer(response.text, label=label, as_markdown=as_markdown, note=note)


def _sides(card: Card) -> Iterator[tuple[DeltaGenerator, Response, str]]:
    left, right = st.columns(2, gap="medium")
    yield left, card.left, t("review.left")
    yield right, card.right, t("review.right")


def active_ms(pair_id: str) -> int | None:
    """How long the card has been on the screen, milliseconds; None if it was not, or for hours."""
    shown, since = state.get(_SHOWN, ("", 0.0))
    milliseconds = round((time.monotonic() - since) * 1000)
    return milliseconds if shown == pair_id and milliseconds <= _MAX_ACTIVE_MS else None


def verdicts(card: Card, vote: Act) -> None:
    """Draw the seven grades under the answers that they favour.

    A button's key names the pair: a key struck before the next card is on the screen still means
    the card that was seen, never the one that is about to come.
    """
    grades = (
        (t("review.left_is"), (("1", -3), ("2", -2), ("3", -1))),
        (t("review.neither"), (("4", 0),)),
        (t("review.right_is"), (("5", 1), ("6", 2), ("7", 3))),
    )
    with st.container(key="review_verdicts"):
        for column, (caption, buttons) in zip(st.columns([3, 1.15, 3]), grades, strict=True):
            with column:
                st.caption(caption)
                with st.container(horizontal=True, gap="xsmall"):
                    for key, verdict in buttons:
                        st.button(
                            t(f"review.grade_{abs(verdict)}"),
                            key=f"review.vote.{key}.{card.pair_id}",
                            shortcut=key,
                            width="stretch",
                            on_click=vote,
                            args=(card.pair_id, verdict),
                        )


def actions(card: Card, *, vote: Act, skip: Act, undo: Act) -> None:
    """Draw what else can be done with a card."""
    with st.container(horizontal=True, gap="xsmall", key="review_actions"):
        pair_id = card.pair_id
        _action("both_bad", "0", "thumb_down", vote, (pair_id, "both_bad"), of=pair_id)
        _action("edit", "E", "edit", toggle, (EDITING,))
        _action("skip", "S", "skip_next", skip, (pair_id,), of=pair_id)
        _action("undo", "Z", "undo", undo, ())
        _action("difference", "D", "difference", toggle, (COMPARING,))
        _action("markdown", "M", "format_bold", toggle, (MARKDOWN,))
        key_sheet()


def _action(
    name: str, key: str, icon: str, act: Act, args: tuple[object, ...], *, of: str = ""
) -> None:
    """Draw one button; a view that is turned on has a frame.

    Args:
        of: The pair that the button is about, if it is about one.
    """
    st.button(
        t(f"review.{name}"),
        key=f"review.{name}.{of}",
        shortcut=key,
        icon=f":material/{icon}:",
        type="secondary" if args and state.get(str(args[0])) is True else "tertiary",
        on_click=act,
        args=args,
    )


def key_sheet() -> None:
    """Draw the sheet of keys."""
    keys.sheet(
        (
            ("1 2 3", t("review.key_left")),
            ("4", t("review.key_tie")),
            ("5 6 7", t("review.key_right")),
            ("0", t("review.both_bad")),
            ("E", t("review.edit")),
            ("S", t("review.skip")),
            ("Z", t("review.undo")),
            ("D", t("review.difference")),
            ("M", t("review.markdown")),
        )
    )


def toggle(flag: str) -> None:
    """Turn one of the views on or off."""
    state.put(flag, not state.get(flag, False))


def editor(card: Card, save: Act) -> None:
    """Draw both answers in forms; what is saved becomes a new version."""
    for column, response, label in _sides(card):
        # The key names the version, so that no text bleeds to the next card.
        key = f"review.text.{response.id}"
        with column, st.form(f"review.form.{response.id}"):
            st.text_area(label, response.text, height=260, key=key)
            st.form_submit_button(
                t("review.save_edit"),
                type="primary",
                on_click=save,
                args=(card.pair_id, response.id, key),
            )
    _action("cancel_edit", "E", "close", toggle, (EDITING,))


def undo_alone(undo: Act) -> None:
    """Draw the way back where there is no card."""
    _action("undo", "Z", "undo", undo, ())
