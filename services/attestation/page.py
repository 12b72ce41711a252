"""The verifier for everyone: one static page that checks evidence in the reader's own browser.

`static/source/` holds its parts, which are put together with the words of all verifiers when somebody
asks for it: the button on page Verify, the gateway's `/verify`, or, to keep it elsewhere,
`python -m services.attestation.page > verify.html`.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path

from services.attestation.words import words

_SOURCE = Path(__file__).with_name("static") / "source"
_VERIFIER = ("reading.js", "signatures.js", "receipt.js", "log.js", "statements.js", "verify.js")


@cache
def verifier_page() -> tuple[bytes, str]:
    """The page, and the content security policy that lets nothing run but what is in it."""
    page = _assembled()
    return page.encode(), policy_of(page)


def policy_of(page: str) -> str:
    """The policy of a page: nothing is loaded, and only its own script and styles, by hash."""
    script, style = (_hash(_between(page, name)) for name in ("script", "style"))
    return (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _assembled() -> str:
    said = json.dumps(words(), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    script = "\n".join(
        (
            '"use strict";',
            f"const WORDS = {said};",
            *(_part(name) for name in _VERIFIER),
            'if (typeof document !== "undefined") (() => {',
            _part("page.js") + "})();\n",
        )
    )
    page = _part("page.html").replace("STYLE", _part("style.css")).replace("SCRIPT", script)
    return page.replace("POLICY", policy_of(page), 1)


def _part(name: str) -> str:
    return (_SOURCE / name).read_text(encoding="utf-8")


def _between(page: str, name: str) -> str:
    found = re.search(f"<{name}>(.*?)</{name}>", page, re.DOTALL)
    assert found is not None, f"the page has one {name}"
    return found[1]


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"


if __name__ == "__main__":
    sys.stdout.buffer.write(verifier_page()[0])
