"""The verifier for everyone: one static page that checks evidence in the reader's own browser."""

from __future__ import annotations

import base64
import re
from functools import cache
from hashlib import sha256
from pathlib import Path

PAGE = Path(__file__).with_name("static") / "verify.html"


@cache
def verifier_page() -> tuple[bytes, str]:
    """The page, and the content security policy that lets nothing run but what is in it."""
    page = PAGE.read_bytes()
    return page, policy_of(page.decode())


def policy_of(page: str) -> str:
    """The policy of a page: nothing is loaded, and only its own script and styles, by hash."""
    script, style = (_hash(_between(page, name)) for name in ("script", "style"))
    return (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _between(page: str, name: str) -> str:
    found = re.search(f"<{name}>(.*?)</{name}>", page, re.DOTALL)
    assert found is not None, f"the page has one {name}"
    return found[1]


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"
