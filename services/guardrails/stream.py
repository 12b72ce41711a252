"""A guard over a text that arrives piece by piece."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from services.guardrails.guard import Guard, masked
from services.guardrails.models import Action, Finding
from services.guardrails.text import plain

# A finding that is there whatever follows: a word that goes on, or something that is no word.
_WHATEVER_FOLLOWS = ("x", "\0")
_MOST_HELD = 16_384
"""Characters of findings without anything between them that wait for each other."""
_AT_ONCE = frozenset({Action.MASK, Action.BLOCK})


class StreamGuard:
    """Lets a text through as soon as no later piece can make a finding of it.

    What comes out, put together, is what `Guard.check` makes of the whole text; of a text that
    is blocked nothing comes out from the finding on. Held back is no more than the beginning of
    what may still become a finding: of prose, the last word.

    Attributes:
        findings: What was found so far; complete after `finish`.
        blocked_by: What stopped the text; nothing comes out any more.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._pending = ""
        self._passed: list[str] = []
        self._before = ""
        self._size = 0
        self.findings: list[Finding] = []
        self.blocked_by: Finding | None = None

    def feed(self, piece: str) -> str:
        """Take a piece; return what may go out now."""
        if self.blocked_by is not None:
            return ""
        self._pending += piece
        self._size += len(piece)
        if self._guard.most is not None and self._size > self._guard.most:
            return self._stop_at_length()
        end = self._guard.settled(self._pending)
        return self._release(end) if end or self._guard.reach else ""

    def finish(self, *, with_notices: bool = True) -> str:
        """Return the rest and, unless it is not wanted, what must stand behind the text."""
        if self.blocked_by is not None:
            return ""
        rest = self._release(len(self._pending), is_end=True)
        if self.blocked_by is not None:
            return ""
        text = "".join(self._passed)
        late = self._guard.findings(text)
        if blocking := _blocking(late):
            return self._stop(blocking)
        self.findings += [one for one in late if one.action not in _AT_ONCE]
        return rest + (self._guard.notices(late, text) if with_notices else "")

    def _release(self, end: int, *, is_end: bool = False) -> str:
        found = self._found()
        if blocking := _blocking(found):
            if is_end or self._is_certain():
                return self._stop(blocking)
            # The next letter may make another word of it; until then nothing goes out.
            return ""
        # A finding that is not over yet stays whole, and so does what overlaps it.
        # Nor does a finding go while what may be the next one touches it: where the first ends is
        # where the next may begin, and only both together tell.
        is_crowded = len(self._pending) > _MOST_HELD
        while not is_end and (
            cut := [
                one.span.start
                for one in found
                if one.span.start < end < one.span.end + (not is_crowded)
            ]
        ):
            end = min(cut)
        out = [one for one in found if one.span.end <= end]
        text, self._pending = self._pending[:end], self._pending[end:]
        if text:
            self._passed.append(text)
            self._before = (plain(text).text or self._before)[-1:]
            if self._before.isascii() and self._before.isalnum():
                self._before = "_"  # A letter like any other: a digit would belong to a number.
        self.findings += out
        return masked(text, out)

    def _is_certain(self) -> bool:
        return all(_blocking(self._found(after)) for after in _WHATEVER_FOLLOWS)

    def _found(self, after: str = "") -> list[Finding]:
        """What stands in the pending text; the character before it tells where words begin."""
        before = self._before
        found = self._guard.findings(before + self._pending + after, is_part=True)
        if before:
            found = tuple(_moved(one, -len(before)) for one in found)
        return [one for one in found if one.action in _AT_ONCE and one.span.end > 0]

    def _stop_at_length(self) -> str:
        """Nothing comes out from the finding on; what else was found is told of the rest."""
        whole = "".join([*self._passed, self._pending])
        late = self._guard.findings(whole)
        return self._stop(_blocking(late) or late[0])

    def _stop(self, finding: Finding) -> str:
        self.blocked_by = finding
        self.findings.append(finding)
        self._pending = ""
        return ""


def _blocking(findings: Iterable[Finding]) -> Finding | None:
    return next((one for one in findings if one.action is Action.BLOCK), None)


def _moved(finding: Finding, by: int) -> Finding:
    span = finding.span
    return replace(finding, span=replace(span, start=max(0, span.start + by), end=span.end + by))
