"""What is no policy is refused in one sentence that names the place."""

from __future__ import annotations

import time

import pytest

from services.errors import InvalidInput
from services.guardrails.models import Action, Place
from services.guardrails.policy import CHECKS, MAX_BYTES, default_policy, read_policy
from services.guardrails.regression import case_policy


def policy(checks: str) -> str:
    return f"version: 1\nchecks: {checks}\n"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "policy: expected names with values, found nothing"),
        ("- 1", "policy: expected names with values, found a list of 1"),
        ("checks: {}", "version: expected 1, found nothing"),
        ("version: 2\nchecks: {}", "version: expected 1, found 2"),
        ("version: true\nchecks: {}", "version: expected 1, found True"),
        ("version: 1\nrules: {}", "policy: expected only checks, version, found 'rules'"),
        ("version: 1\n1: {}", "policy: expected only checks, version, found 1"),
        (policy("{pii: {on: [input]}}"), "checks.pii: expected only action, kinds, places, found 'on'"),
        ("version: 1\nchecks: []", "checks: expected names with values, found a list of 0"),
        (policy("{piii: {}}"), "checks: expected only copyright, disclaimers"),
        (policy("{pii: mask}"), "checks.pii: expected names with values, found 'mask'"),
        (policy("{pii: {}}"), "checks.pii.places: expected a list out of input, output, tools"),
        (policy("{pii: {places: input}}"), "checks.pii.places: expected a list"),
        (policy("{pii: {places: [hall]}}"), "found 'hall'"),
        (policy("{pii: {places: [[input]]}}"), "found a list of 1"),
        (policy("{pii: {places: [input], action: shout}}"), "block or flag or mask, found 'shout'"),
        (policy("{pii: {places: [input], action: [mask]}}"), "found a list of 1"),
        (policy("{toxicity: {places: [input], action: mask}}"), "block or flag, found 'mask'"),
        (policy("{pii: {places: [input], kinds: []}}"), "checks.pii.kinds: expected a list"),
        (policy("{pii: {places: [input], kinds: [e-mail]}}"), "found 'e-mail'"),
        (policy("{length: {places: [input], kinds: [x]}}"), "checks.length: expected only"),
        (policy("{length: {places: [input]}}"), "checks.length.max_characters: expected a number"),
        (policy("{length: {places: [input], max_characters: 0}}"), "at least 1, found 0"),
        (policy("{length: {places: [input], max_characters: true}}"), "found True"),
        (policy("{length: {places: [input], max_characters: 1.5}}"), "found 1.5"),
        (policy("{topics: {places: [input]}}"), "checks.topics.deny: expected topics"),
        (policy("{topics: {places: [input], deny: {a: []}}}"), "checks.topics.deny.a: expected"),
        (policy("{topics: {places: [input], deny: {a: ['--']}}}"), "found '--'"),
        (policy("{topics: {places: [input], deny: {a: [7]}}}"), "found 7"),
        (policy('{topics: {places: [input], deny: {a: ["\\u200b"]}}}'), "at most 80 characters"),
        (policy("{topics: {places: [input], deny: {'<b>': [x]}}}"), "names of at most 60"),
        (policy("{language: {places: [input], allow: [klingon]}}"), "found 'klingon'"),
        (policy("{copyright: {places: [output], works: {a: ' '}}}"), "works.a: expected a text"),
        (policy("{copyright: {places: [output], works: {a: b}, run: 3}}"), "at least 4, found 3"),
        (policy("{disclaimers: {places: [output], notices: {tax: x}}}"), "found 'tax'"),
        (policy("{disclaimers: {places: [input]}}"), "expected a list out of output, found 'input'"),
        (policy("{pii: {places: [input]}, pii: {places: [input]}}"), "'pii' twice, again on line 2"),
        (policy("{[a]: 1}"), "expected names before colons"),
        (policy("{pii: &a {places: [input]}, secrets: *a}"), "written out, found *a on line 2"),
        (policy("{pii: !!python/object:os.system {}}"), "expected YAML, found could not determine"),
        ("version: 1\nchecks: {", "policy: expected YAML"),
        ("version: 1\nchecks: 2026-99-99", "policy: expected YAML, found a bad value"),
        ("version: " + "9" * 5000, "policy: expected YAML, found a bad value"),
        ("version: 1\nchecks: \x00", "policy: expected YAML"),
        ("version: 1\nchecks: '\ud800'", "policy: expected YAML"),
        ("[" * 500, "policy: expected"),
        ("#" * (MAX_BYTES + 1), "policy: expected at most 1,048,576 bytes, found more"),
    ],
)  # fmt: skip
def test_what_is_no_policy_is_refused(source: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_policy(source)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    began = time.perf_counter()
    with pytest.raises(InvalidInput, match="written out"):
        read_policy("\n".join(lines))
    assert time.perf_counter() - began < 2


def test_deep_nesting_is_refused_and_no_crash() -> None:
    with pytest.raises(InvalidInput):
        read_policy("version: 1\nchecks: " + "[" * 100_000)


def test_too_many_words_are_refused() -> None:
    listed = ", ".join(f"word{number}" for number in range(1_001))
    with pytest.raises(InvalidInput, match="at most 1,000 words"):
        read_policy(policy(f"{{topics: {{places: [input], deny: {{a: [{listed}]}}}}}}"))


def test_what_a_policy_leaves_out_has_a_default() -> None:
    read = read_policy(policy("{pii: {places: [input]}, jailbreak: {places: [tools]}}"))
    assert [(rule.check, rule.action) for rule in read.rules] == [
        ("pii", Action.MASK),
        ("jailbreak", Action.BLOCK),
    ]
    assert read.rules[0].kinds == CHECKS["pii"].kinds
    assert read.rules[1].places == {Place.TOOLS}


def test_the_digest_is_of_the_source_as_it_came() -> None:
    one, other = read_policy(policy("{}")), read_policy(policy("{}") + "# more\n")
    assert one.digest != other.digest
    assert len(one.digest) == 64


def test_the_shipped_policies_are_policies() -> None:
    assert default_policy().rules
    assert {rule.check for rule in case_policy().rules} == set(CHECKS)
