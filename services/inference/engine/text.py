"""Tokens to text, piece by piece: whole characters only, and nothing past a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"
"""What a decoder writes for bytes that are no whole character."""


class Detokenizer:
    """Text of a growing list of tokens.

    A token may end in the middle of a UTF-8 character (byte-level vocabularies split Turkish
    letters and emoji): the character is held back until it is whole.

    Args:
        decode: Token ids to text; special tokens are left out by it.

    Source: the window of text-generation-inference: each decoding begins at the tokens before
        the new ones, since many vocabularies place spaces by what stands before.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._start = 0  # where the window begins
        self._read = 0  # tokens before this one ended in whole characters
        self._shown = 0  # characters of the window that have been handed out

    def push(self, token: int) -> str:
        """Add one token; returns the text that it completes, often one word, sometimes nothing."""
        self._ids.append(token)
        window = self._decode(self._ids[self._start :])
        # Only the last replacement character can still become a real one.
        settled = window.removesuffix(REPLACEMENT)
        text, self._shown = settled[self._shown :], max(self._shown, len(settled))
        if settled == window:
            self._start, self._read = self._read, len(self._ids)
            self._shown = len(self._decode(self._ids[self._start : self._read]))
        return text


class StopFinder:
    """Watches a text for stop strings, which may be spread over several tokens.

    Args:
        stops: Strings that end the answer and are no part of it; none of them empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Take the next piece of text.

        Returns:
            What may be shown now, and the stop string that was met, if any. The end of the
            text is held back for as long as it may be the beginning of a stop string.
        """
        self._held += text
        found = [(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            at, stop = min(found)
            shown, self._held = self._held[:at], ""
            return shown, stop
        keep = self._possible_beginning()
        split = len(self._held) - keep
        shown, self._held = self._held[:split], self._held[split:]
        return shown, None

    def flush(self) -> str:
        """What was held back and turned out to be no stop string."""
        shown, self._held = self._held, ""
        return shown

    def _possible_beginning(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
