"""What the guardrails cost and how well they find: `python bench/guardrails.py`.

Times are the best of several rounds, since the machine may have other work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from services.guardrails.guard import Guard
from services.guardrails.models import Place
from services.guardrails.policy import CHECKS, Policy
from services.guardrails.regression import case_policy, run
from services.guardrails.stream import StreamGuard

ROUNDS, CALLS = 15, 60
_ENGLISH = (
    "Thank you for your question about the harvest. The orchard lies on the northern slope, where "
    "the morning mist keeps the soil moist until June. We usually begin with the early pears; "
    "after that come the plums, and the last apples are picked when the first frost is near. "
)
_TURKISH = (
    "Bahçeyle ilgili sorunuz için teşekkürler. Meyvelik kuzey yamacında, sabah sisinin toprağı "
    "haziran ayına kadar nemli tuttuğu yerdedir. Önce erkenci armutlar toplanır; ardından erikler "
    "gelir, son elmalar ise ilk kırağıdan hemen önce sandıklara dizilir. "
)
TEXTS = {"en": (_ENGLISH * 9)[:2048], "tr": (_TURKISH * 9)[:2048]}


def best_us(call: Callable[[], object]) -> float:
    """The shortest mean time of a call over some rounds, microseconds."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        times.append((time.perf_counter() - began) / CALLS)
    return 1e6 * min(times)


def armed(*checks: str) -> Guard:
    """A guard with some checks at one place, whichever places a policy would give them."""
    rules = [
        replace(rule, places=frozenset({Place.OUTPUT}), settings=_roomy(rule.check, rule.settings))
        for rule in case_policy().rules
        if rule.check in checks
    ]
    return Guard(Policy(tuple(rules), ""), Place.OUTPUT)


def _roomy(check: str, settings: object) -> object:
    clean = {"length": {"max_characters": 100_000}, "language": {"allow": ["tr", "en"]}}
    return clean.get(check, settings)


def streamed(guard: Guard, tokens: list[str]) -> None:
    """Let a text through token by token."""
    stream = StreamGuard(guard)
    for token in tokens:
        stream.feed(token)
    stream.finish()


def main() -> None:
    """Print the tables."""
    print(f"{'clean 2 KB, us':<16}{'en':>10}{'tr':>10}")
    for name in (*CHECKS, "all ten"):
        guard = armed(*CHECKS) if name == "all ten" else armed(name)
        assert not any(guard.findings(text) for text in TEXTS.values()), name
        row = [best_us(lambda guard=guard, text=text: guard.check(text)) for text in TEXTS.values()]
        print(f"{name:<16}{row[0]:>10.1f}{row[1]:>10.1f}")
    print(f"\n{'streamed, us per token':<28}{'en':>10}{'tr':>10}")
    for name, checks in (
        ("masks only", ("pii", "secrets", "disclaimers")),
        ("all ten", tuple(CHECKS)),
    ):
        guard = armed(*checks)
        row = []
        for text in TEXTS.values():
            tokens = [text[at : at + 4] for at in range(0, len(text), 4)]
            began = time.perf_counter()
            streamed(guard, tokens)
            row.append(1e6 * (time.perf_counter() - began) / len(tokens))
        print(f"{name:<28}{row[0]:>10.1f}{row[1]:>10.1f}")
    print(f"\n{'check':<16}{'cases':>8}{'precision':>12}{'recall':>10}")
    for score in run(case_policy()):
        print(f"{score.check:<16}{score.cases:>8}{score.precision:>12.3f}{score.recall:>10.3f}")


if __name__ == "__main__":
    main()
