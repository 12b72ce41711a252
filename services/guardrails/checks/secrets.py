"""Credentials, by the form that their issuers gave them.

Source of the forms: the issuers' own documentation; an entry says whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import re2

from services.guardrails.checks.check import Claimed, Form
from services.guardrails.models import Span

# No \b stands before a letter that is not ASCII; Turkish puts "my", "your" and "its" behind.
_NAMED = (
    r"(?:\b(?:password|passwd|pwd|secret|api[_ -]?key|token|parola(?:m|n|[sn]ı|[mn]ız)?)"
    r"|[şs]ifre(?:m|n|si|[mn]iz)?)"
)
_KINDS = (
    # Cut off before its end, it reaches as far as its lines do.
    (
        "private_key",
        r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"
        r"(?:[A-Za-z0-9+/=\s:,-]*?-----END (?:[A-Z]+ )*PRIVATE KEY-----|(?:\s*[A-Za-z0-9+/=]{16,})+)",
    ),
    ("param_key", r"\bpk_[A-Za-z0-9_-]{32,64}\b"),
    ("anthropic_key", r"\bsk-ant-[A-Za-z0-9_-]{20,200}"),
    ("openai_key", r"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,200}"),
    ("aws_key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("github_token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255})\b"),
    ("gitlab_token", r"\bglpat-[A-Za-z0-9_-]{20,64}"),
    ("slack_token", r"\bxox[abeprs]-[A-Za-z0-9-]{10,200}"),
    ("google_key", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("stripe_key", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,200}\b"),
    ("huggingface_token", r"\bhf_[A-Za-z0-9]{30,64}\b"),
    ("npm_token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("jwt", r"\beyJ[A-Za-z0-9_-]{8,1000}\.eyJ[A-Za-z0-9_-]{8,1000}\.[A-Za-z0-9_-]{8,1000}"),
    ("url_password", r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,64}:[^\s:/@]{3,128}@[A-Za-z0-9.-]{1,253}"),
    ("password", rf"(?i){_NAMED}[\"']?(?: is| :|:| =|=)\s{{0,3}}[\"']?[^\s\"',;]{{8,512}}"),
)  # fmt: skip
KINDS = tuple(name for name, _ in _KINDS)
REACH = 8_400
"""A private key of 8 KB between its two lines, characters; everything else is shorter."""

_LONGEST_NAMED = 560
_VARIED = re2.compile(r"[0-9!#$%&*+/=?@^_~-]")
# What stands where a secret would: a name in brackets, a variable, a call, an invitation.
_STAND_IN = re2.compile(
    r"(?i)^(?:[$<{\[%]|(?:[*x.•]+|your|my|the|some|any|new|example|changeme|placeholder|sizin|os\.|env|process\.)"
    r"(?:[-_.*x•].*)?$)|^[a-z_.]+\(|^[a-z]+://[^\s:@]*$"
)

GROWING = (
    (r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----[A-Za-z0-9+/=\s:,-]*$", REACH),
    (r"-{1,5}(?:B(?:E(?:G(?:I(?:N[A-Z ]*-{0,5})?)?)?)?)?$", 60),
    (r"[A-Za-z0-9_.-]+$", 3_020),
    (r"[a-z][a-z0-9+.-]*(?::/?|://[^\s]*)?$", 480),
    (rf"(?i:{_NAMED}[\"']?(?: is| i| :|:| =|=| )?\s{{0,3}}[\"']?[^\s\"',;]*)$", 560),
    (r"(?i:api(?:[_ -](?:k(?:ey?)?)?)?)$", 8),
    (r"[^\s]+$", 40),
)
"""The ends of a text that may still grow into a credential, and how long each can be."""


class Secrets:
    """Keys, tokens and passwords.

    Args:
        kinds: Which of `KINDS`; all by default.
    """

    name = "secrets"
    form: Form = "plain"
    reach = REACH

    def __init__(self, kinds: Iterable[str] = KINDS) -> None:
        wanted = set(kinds)
        chosen = [(name, pattern) for name, pattern in _KINDS if name in wanted]
        self.patterns = tuple(pattern for _, pattern in chosen)
        self._kinds = [(name, re2.compile(pattern)) for name, pattern in chosen]

    def find(self, text: str) -> Iterator[Span]:
        """See `Check.find`."""
        claimed = Claimed(len(text))
        for name, pattern in self._kinds:
            for found in pattern.finditer(text):
                start, end = found.span()
                if name == "password" and not _looks_secret(found.group()):
                    # "password: correct" is prose, but the next name may stand in what it names.
                    start, end = _within(pattern, text, start, end)
                end = min(end, start + REACH)
                if start < end and not claimed.is_known(start, end):
                    claimed.take(name, start, end)
        return iter(claimed.spans())


def _looks_secret(text: str) -> bool:
    value = re2.split(r"[:=]|\bis\b", text, maxsplit=1)[-1].strip(" \"'.")
    return bool(_VARIED.search(value)) and len(value) >= 8 and not _STAND_IN.search(value)


def _within(pattern: Any, text: str, start: int, end: int) -> tuple[int, int]:
    """Where the first secret begins inside what was none; an empty place for nowhere."""
    at = start + 1
    while (found := pattern.search(text[at : end + _LONGEST_NAMED])) and at + found.start() < end:
        if _looks_secret(found.group()):
            return at + found.start(), at + found.end()
        at += found.start() + 1
    return end, end
