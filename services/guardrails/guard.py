"""A policy put to work: one pass over a text, a closer look only where something was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import re2

from services.guardrails.checks import phrases, pii, secrets
from services.guardrails.checks.check import Check
from services.guardrails.checks.phrases import Phrases
from services.guardrails.checks.pii import PersonalData
from services.guardrails.checks.secrets import Secrets
from services.guardrails.checks.whole import Copyright, Length, OtherLanguage, language
from services.guardrails.models import Action, Finding, Place, Span, Verdict
from services.guardrails.policy import Policy, Rule
from services.guardrails.text import Plain, folded, plain, unpacked

NOTICES: Mapping[str, Mapping[str, str]] = {
    "medical": {
        "en": "This is general information and no medical advice. Please ask a doctor.",
        "tr": "Bu genel bir bilgidir, tıbbi tavsiye değildir. Lütfen bir hekime danışın.",
    },
    "legal": {
        "en": "This is general information and no legal advice. Please ask a lawyer.",
        "tr": "Bu genel bir bilgidir, hukuki tavsiye değildir. Lütfen bir avukata danışın.",
    },
}
_GROWING = {
    name: tuple((re2.compile(pattern), size) for pattern, size in listed)
    for name, listed in (("pii", pii.GROWING), ("secrets", secrets.GROWING))
}
_MOST_DISGUISE = 4
"""How many times longer than what it hides a disguise in a stream may be."""

_LONGEST_WORD = 512
"""Characters without a gap from which on a text is let through inside a word."""

_WITHOUT_GAPS = ("\u2e80", "\ud7ff")
"""Between these stand the scripts that write no blanks; what comes later are other forms of letters
and digits that may well stand in the middle of a number."""

_BETWEEN = "\n.\n"
"""Stands between texts that were packed apart: no phrase goes on behind a full stop."""


@dataclass(frozen=True)
class _Armed:
    """A check with what follows from its findings."""

    check: Check
    rule: Rule


class Guard:
    """The checks of a policy for one place.

    Args:
        appends: Whether checks that put a notice behind the text take part.

    Attributes:
        is_empty: Whether the policy wants nothing there.
        reach: Longest text that a stopping check can find, characters: so much of a stream is
            held back lest the beginning of a finding be out when its end arrives.
        most: Characters from which on a text is stopped as too long; None for no end.
    """

    def __init__(self, policy: Policy, place: Place, *, appends: bool = True) -> None:
        rules = [
            rule
            for rule in policy.rules
            if place in rule.places and (appends or rule.action is not Action.APPEND)
        ]
        armed = [_Armed(_build(rule), rule) for rule in rules]
        self.is_empty = not armed
        self._plain = _Sieve([one for one in armed if one.check.form == "plain"])
        self._folded = _Sieve([one for one in armed if one.check.form == "folded"])
        self._whole = [one for one in armed if one.check.form == "whole"]
        self._folded_whole = [one for one in armed if one.check.form == "folded whole"]
        self._raw = [one for one in armed if one.check.form == "raw"]
        self._unpacks = place is not Place.OUTPUT and self._folded.is_armed
        self._growing = [
            one for rule in rules if rule.check in _GROWING for one in _GROWING[rule.check]
        ]
        stops = [one for one in armed if one.rule.action is Action.BLOCK]
        self.reach = max((one.check.reach for one in stops if one.check.form != "plain"), default=0)
        lengths = [one.check for one in stops if isinstance(one.check, Length)]
        self.most = min((check.most for check in lengths), default=None)
        self._notices: Mapping[str, str] = next(
            (rule.settings.get("notices", {}) for rule in rules if rule.check == "disclaimers"), {}
        )

    def check(self, text: str) -> Verdict:
        """Read a whole text.

        Returns:
            The text as it may go on, and what was found.
        """
        findings = self.findings(text)
        if not findings:
            return Verdict(text)
        return Verdict(masked(text, findings) + self.notices(findings, text), findings)

    def findings(self, text: str, *, is_part: bool = False) -> tuple[Finding, ...]:
        """What is found in a text, in its order.

        Args:
            is_part: Whether it is a piece of a text, of which a whole text's language and length
                tell nothing.
        """
        bare = plain(text)
        found = self._plain.look(bare.text)
        size = len(bare.text)
        if self._folded.is_armed or self._folded_whole:
            low = folded(bare.text)
            found += self._folded.look(low, whole=size)
            for one in self._folded_whole:
                found += [_finding(one, Span(span.kind, 0, size)) for span in one.check.find(low)]
        if self._unpacks and (hidden := _BETWEEN.join(unpacked(bare.text))):
            found += self._folded.look(folded(plain(hidden).text), whole=size)
        if not is_part:
            for one in self._whole:
                found += [_finding(one, span) for span in one.check.find(bare.text)]
        if found and bare.origins is not None:
            found = list(_placed(bare, found))
        if not is_part:
            for one in self._raw:
                found += [_finding(one, span) for span in one.check.find(text)]
        return tuple(sorted(found, key=lambda one: one.span.start))

    def settled(self, text: str) -> int:
        """How much of a growing text no later text can turn into a finding, characters."""
        end = len(text)
        if self.reach:
            end -= len(_tail(text, self.reach, lambda tail: len(folded(plain(tail).text))))
        for growing, reach in self._growing:
            tail = _tail(text, reach, lambda tail: len(plain(tail).text))
            bare = plain(tail)
            if found := growing.search(bare.text):
                first, _ = bare.origin(found.start(), found.end())
                end = min(end, len(text) - len(tail) + first)
        return end if end == len(text) else _between_words(text, max(0, end))

    def notices(self, findings: Sequence[Finding], text: str) -> str:
        """What must stand behind a text, in its language; empty for nothing."""
        kinds = dict.fromkeys(one.kind for one in findings if one.action is Action.APPEND)
        if not kinds:
            return ""
        tongue = "tr" if language(plain(text).text) == "tr" else "en"
        lines = [self._notices.get(kind) or NOTICES[kind][tongue] for kind in kinds]
        return "".join(f"\n\n{line}" for line in lines if line not in text)


class _Sieve:
    """Tells in one pass which checks have to look closer.

    RE2's filter finds the literals that each pattern must have, and tries a pattern only where
    its own are there.
    """

    def __init__(self, armed: Sequence[_Armed]) -> None:
        self.is_armed = bool(armed)
        self._owners: list[_Armed] = []
        self._filter = re2.Filter()
        for one in armed:
            for pattern in one.check.patterns:
                self._filter.Add(pattern)
                self._owners.append(one)
        if armed:
            self._filter.Compile()

    def look(self, text: str, whole: int | None = None) -> list[Finding]:
        """What is found; over a whole text of so many characters where its form has no places."""
        if not self.is_armed or not (hits := self._filter.Match(text)):
            return []
        found: list[Finding] = []
        for one in {id(self._owners[hit]): self._owners[hit] for hit in hits}.values():
            wanted = set(one.rule.kinds)
            for span in one.check.find(text):
                if wanted and span.kind not in wanted:
                    continue
                place = span if whole is None else Span(span.kind, 0, whole)
                found.append(_finding(one, place))
        return found


def _finding(one: _Armed, span: Span) -> Finding:
    return Finding(one.rule.check, span.kind, one.rule.action, span)


def _placed(bare: Plain, findings: Iterable[Finding]) -> Iterable[Finding]:
    """The findings where they stood in the text as it came."""
    for one in findings:
        start, end = bare.origin(one.span.start, one.span.end)
        yield Finding(one.check, one.kind, one.action, Span(one.span.kind, start, end))


def masked(text: str, findings: Sequence[Finding]) -> str:
    """A text with a name in the place of each finding that is to be masked.

    Of findings that overlap the first gives the name, and nothing of any is left.
    """
    pieces: list[str] = []
    at = 0
    for one in findings:
        if one.action is not Action.MASK:
            continue
        if one.span.start >= at:
            pieces += [text[at : one.span.start], f"[{one.kind.upper()}]"]
        at = max(at, one.span.end)
    return "".join([*pieces, text[at:]])


def _between_words(text: str, end: int) -> int:
    """The last gap before a place: a pattern may read a word otherwise without its beginning."""
    least = max(0, end - _LONGEST_WORD)
    for at in range(end, least, -1):
        if text[at - 1].isspace() or _WITHOUT_GAPS[0] <= text[at - 1] <= _WITHOUT_GAPS[1]:
            return at
    return least


def _tail(text: str, reach: int, size: Callable[[str], int]) -> str:
    """The end of a text that is so many characters long without its disguise."""
    wanted = reach
    tail = text[-wanted:]
    while len(tail) < len(text) and wanted < _MOST_DISGUISE * reach and size(tail) < reach:
        wanted += reach
        tail = text[-wanted:]
    return tail


def _topics(rule: Rule) -> Phrases:
    listed = {
        topic: [phrases.words(*map(_word, words))] for topic, words in rule.settings["deny"].items()
    }
    return Phrases("topics", listed)


def _word(listed: str) -> str:
    """A word or phrase of a policy; with a star behind it also with any ending."""
    bare: str = re2.escape(folded(plain(listed.strip().rstrip("*")).text))
    return bare + "[a-z]{0,20}" if listed.strip().endswith("*") else bare


_BUILD: Mapping[str, Callable[[Rule], Check]] = {
    "pii": lambda rule: PersonalData(rule.kinds),
    "secrets": lambda rule: Secrets(rule.kinds),
    "jailbreak": lambda rule: Phrases("jailbreak", _chosen(phrases.JAILBREAK, rule)),
    "injection": lambda rule: Phrases("injection", _chosen(phrases.INJECTION, rule)),
    "toxicity": lambda rule: Phrases("toxicity", _chosen(phrases.TOXICITY, rule)),
    "disclaimers": lambda rule: Phrases("disclaimers", _chosen(phrases.TOPICS_OF_NOTICE, rule)),
    "topics": _topics,
    "copyright": lambda rule: Copyright(
        list(rule.settings["works"].items()), rule.settings.get("run", 12)
    ),
    "length": lambda rule: Length(rule.settings["max_characters"]),
    "language": lambda rule: OtherLanguage(rule.settings["allow"]),
}


def _build(rule: Rule) -> Check:
    return _BUILD[rule.check](rule)


def _chosen(kinds: Mapping[str, Sequence[str]], rule: Rule) -> Mapping[str, Sequence[str]]:
    return {kind: patterns for kind, patterns in kinds.items() if kind in rule.kinds}
