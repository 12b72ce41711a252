"""Evidence that must be judged alike by every verifier: `python -m tests.vectors.generate`.

Writes `receipts.json` beside this file: valid evidence, and the same evidence spoiled in one way
each. All keys are made from published seeds, so every run writes the same bytes; only the time
stamp (`stamp.json`, made once by `openssl ts`) cannot be made again and is read. Verdicts and
failed checks are set down by hand beside each vector; the sentences under `told` are those of the
Python verifier, to be read by people when they change.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

from services.attestation.files import read_file
from services.attestation.strict import read_json
from services.errors import VerificationFailed
from tests.vectors import of_attacks, of_bundles, of_keys, of_receipts, of_statements
from tests.vectors.evidence import Document, jwks

FILE = Path(__file__).with_name("receipts.json")


def vectors() -> Iterator[Document]:
    """All vectors, valid ones first."""
    yield from of_receipts.valid()
    yield from of_attacks.valid()
    for part in (of_receipts, of_keys, of_bundles, of_statements, of_attacks):
        yield from part.spoiled()


def told(vector: Document) -> list[str]:
    """Why a vector does not hold, in the words of the Python verifier."""
    texts = {name: _bytes(vector[name]) for name in ("request", "response")}
    try:
        given = jwks() if vector["jwks"] is None else vector["jwks"]
        trusted = read_json(json.dumps(given).encode(), "key set")
        found = read_file(vector["file"].encode()).verify(trusted, **texts)
    except VerificationFailed as error:
        return [error.message]
    return [check.detail for check in found.checks if not check.ok]


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def document() -> str:
    """The file's text."""
    head = {"about": "See tests/vectors/generate.py and docs/verify.md.", "jwks": jwks()}
    lines = ",\n".join(
        json.dumps(one | {"told": told(one)}, ensure_ascii=False) for one in vectors()
    )
    return json.dumps(head, indent=1)[:-2] + ',\n "vectors": [\n' + lines + "\n]}\n"


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
    print(f"{FILE}: {len(list(vectors()))} vectors")
