r"""How well each check finds what it should, told from labelled cases.

`cases/<check>.tsv` holds one case a line: the language (of the conversation, where the text is in
a third one), the place, the kinds that must be found (`-` for none) and the text, in which `\n`,
`\t`, `\\` and `\uXXXX` stand for what cannot stand in a line. Every name, number and key in
them is invented.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from services.errors import InvalidInput
from services.guardrails.guard import Guard
from services.guardrails.models import Place
from services.guardrails.policy import CHECKS, Policy, Rule, read_policy

FOLDER = Path(__file__).with_name("cases")
_ESCAPE = re.compile(r"\\(?:([nt\\])|u([0-9a-fA-F]{4}))")
_ESCAPED = {"n": "\n", "t": "\t", "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Case:
    """A text with what must be found in it.

    Attributes:
        line: In the check's file, from 1.
        language: `tr` or `en`.
        expected: Kinds; empty where nothing must be found.
    """

    line: int
    language: str
    place: Place
    expected: frozenset[str]
    text: str


@dataclass(frozen=True, slots=True)
class Score:
    """How a check did; positives are counted by kind, since a text may have several.

    Attributes:
        cases: Texts that were read.
        true_negatives: Texts in which nothing was to be found, and nothing was.
        failed: A line for each text that was misjudged, without the text.
    """

    check: str
    cases: int
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    failed: tuple[str, ...] = ()

    @property
    def precision(self) -> float:
        """Part of what was found that was to be found, 0 to 1; 1 where nothing was found."""
        return _part(self.true_positives, self.false_positives)

    @property
    def recall(self) -> float:
        """Part of what was to be found that was found, 0 to 1; 1 where nothing was to be found."""
        return _part(self.true_positives, self.false_negatives)


def run(policy: Policy) -> list[Score]:
    """Each check of a policy on its labelled cases.

    Cases at places where the policy does not look, and kinds that it did not choose, are left
    out. A check that knows nothing without a tenant's own words (`topics`, `copyright`, `length`,
    `language`) is measured with those of `cases/policy.yaml`, for which its cases were written.

    Raises:
        InvalidInput: A file of cases is damaged.
    """
    return [_score(rule) for rule in policy.rules]


def case_policy() -> Policy:
    """The policy for which the cases were written: all checks, everywhere."""
    return read_policy((FOLDER / "policy.yaml").read_text(encoding="utf-8"))


@cache
def cases(check: str) -> tuple[Case, ...]:
    """The labelled cases of a check.

    Raises:
        InvalidInput: Its file is damaged; the message names the line.
    """
    path = FOLDER / f"{check}.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(_case(path.name, number, line) for number, line in enumerate(lines, 1))


def _case(file: str, number: int, line: str) -> Case:
    parts = line.split("\t")
    is_case = len(parts) == 4 and parts[0] in ("tr", "en") and parts[1] in set(Place)
    if not is_case or not parts[2]:
        raise InvalidInput(
            f"{file}, line {number}: expected language, place, kinds and text between tabs, "
            f"found {len(parts)} parts"
        )
    language, place, kinds, text = parts
    expected = frozenset() if kinds == "-" else frozenset(kinds.split(","))
    return Case(number, language, Place(place), expected, _ESCAPE.sub(_unescaped, text))


def _unescaped(found: re.Match[str]) -> str:
    letter, code = found.groups()
    return _ESCAPED[letter] if letter else chr(int(code, 16))


def _score(rule: Rule) -> Score:
    if any(CHECKS[rule.check].settings.values()):
        written_for = next(one for one in case_policy().rules if one.check == rule.check)
        rule = replace(rule, settings=written_for.settings)
    guards = {place: Guard(Policy((rule,), ""), place) for place in rule.places}
    wanted = frozenset(rule.kinds)
    judged = [
        (
            case,
            case.expected & wanted if wanted else case.expected,
            frozenset(one.kind for one in guards[case.place].findings(case.text)),
        )
        for case in cases(rule.check)
        if case.place in guards
    ]
    return Score(
        check=rule.check,
        cases=len(judged),
        true_positives=sum(len(expected & found) for _, expected, found in judged),
        false_positives=sum(len(found - expected) for _, expected, found in judged),
        false_negatives=sum(len(expected - found) for _, expected, found in judged),
        true_negatives=sum(not expected and not found for _, expected, found in judged),
        failed=tuple(_failed(judged)),
    )


def _failed(judged: Iterable[tuple[Case, frozenset[str], frozenset[str]]]) -> Iterator[str]:
    for case, expected, found in judged:
        if expected != found:
            yield (
                f"line {case.line} ({case.language}, {case.place.value}): "
                f"expected {_listed(expected)}, found {_listed(found)}"
            )


def _listed(kinds: frozenset[str]) -> str:
    return ", ".join(sorted(kinds)) or "nothing"


def _part(right: int, wrong: int) -> float:
    return right / (right + wrong) if right + wrong else 1.0
