"""Personal data and secrets in a text: which kinds there are, never what they say.

What the gateway's guardrails find in an answer is what is looked for before anybody trains on it.
"""

from __future__ import annotations

from services.guardrails.checks import pii, secrets
from services.guardrails.guard import Guard
from services.guardrails.models import Place
from services.guardrails.policy import read_policy

PERSONAL = pii.KINDS
SECRETS = secrets.KINDS
MAX_LOOKED_AT = 200_000
"""Characters of a text that are searched."""

_GUARD = Guard(
    read_policy(
        "version: 1\n"
        "checks:\n"
        "  pii: {places: [output], action: flag}\n"
        "  secrets: {places: [output], action: flag}\n"
    ),
    Place.OUTPUT,
)
# Names that RFC 2606 keeps for examples belong to nobody.
_EXAMPLES = ("@example.", ".example", ".test", ".invalid", "@localhost")


def found_in(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Which kinds a text holds: personal data out of `PERSONAL`, secrets out of `SECRETS`."""
    text = text[:MAX_LOOKED_AT]
    kinds: dict[str, set[str]] = {"pii": set(), "secrets": set()}
    for one in _GUARD.findings(text):
        if one.kind != "email" or not _is_example(text[one.span.start : one.span.end]):
            kinds[one.check].add(one.kind)
    return frozenset(kinds["pii"]), frozenset(kinds["secrets"])


def _is_example(address: str) -> bool:
    domain = "@" + address.rpartition("@")[2].lower()
    return any(domain.startswith(mark) or domain.endswith(mark) for mark in _EXAMPLES)
