"""The further statements of a proof bundle: each signed, in the log, and tied to the receipt."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from services.attestation.checks import Check, bad, failed, well
from services.attestation.forms import number, path_of, read_entry, short_text
from services.attestation.receipts import ReceiptFacts
from services.attestation.statements import Statement, open_statement, unlinked
from services.attestation.strict import exact_keys, from_base64
from services.attestation.words import Refused
from services.audit.merkle import leaf_hash
from services.audit.proofs import check_inclusion
from services.errors import VerificationFailed

_KIND = re.compile(r"/([a-z0-9-]{1,40})/v[0-9]{1,3}\Z")


class Tree(Protocol):
    """What the checkpoint of a bundle shows.

    Attributes:
        size: Entries.
        root: Tree head over them; None where the checkpoint does not hold.
    """

    size: int
    root: bytes | None


def check(listed: Sequence[Any], tree: Tree, jwks: Any, facts: ReceiptFacts) -> Check:
    """Whether all statements hold and belong to the receipt.

    Raises:
        VerificationFailed: The bundle is malformed.
    """
    found: list[Statement] = []
    for place, given in enumerate(listed, start=1):
        fields = exact_keys(given, ("name", "envelope", "log"), f"statement {place}")
        short_text(fields["name"], f"statement {place}: name")
        try:
            statement, key = open_statement(fields["envelope"], jwks)
            seq = _logged_at(fields["log"], statement, tree)
        except Refused as error:
            return failed("statements", error.within(f"statement {place}"))
        if key.last_valid_index is not None and (seq is None or seq > key.last_valid_index):
            return bad("statements", "statements.revoked", place=place)
        if any(one.payload_sha256 == statement.payload_sha256 for one in found):
            return bad("statements", "statements.twice", place=place)
        found.append(statement)
    loose = unlinked(found, _roots(facts))
    if loose:
        return bad("statements", "statements.loose", place=loose[0] + 1)
    return well("statements", "statements.ok", count=len(found), kinds=_kinds(found))


def _kinds(found: Sequence[Statement]) -> str:
    """What the statements are about, by their types: `dataset, run, rollout-event (3)`."""
    matches = [_KIND.search(one.predicate_type) for one in found]
    counted = Counter("other" if match is None else match[1] for match in matches)
    return ", ".join(kind if n == 1 else f"{kind} ({n})" for kind, n in counted.items())


def _logged_at(fields: Any, statement: Statement, tree: Tree) -> int | None:
    """The number of the log entry that names a statement; None where none is shown.

    Raises:
        VerificationFailed: What is shown does not hold.
    """
    if fields is None:
        return None
    exact_keys(fields, ("entry", "leaf_index", "path"), "log")
    data = from_base64(fields["entry"], "log: entry")
    entry = read_entry(data, "log: entry")
    index, path = number(fields["leaf_index"], "leaf_index"), path_of(fields["path"])
    details = entry["details"] if isinstance(entry["details"], dict) else {}
    if tree.root is None or statement.payload_sha256 not in details.values():
        raise Refused("statement.entry", "log")
    try:
        check_inclusion(leaf_hash(data), index, tree.size, path, tree.root)
    except VerificationFailed as error:
        raise Refused("inclusion.none", "log") from error
    return index + 1


def _roots(facts: ReceiptFacts) -> list[str]:
    """The digests that a receipt itself names."""
    named = [facts.adapter_digest or facts.base_digest, facts.policy_digest]
    return [digest for digest in named if digest]
