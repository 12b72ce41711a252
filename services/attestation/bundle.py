"""The proof bundle: one file with which a receipt is checked against the log, offline.

It holds the receipt, the entry of the log that it names, the path from that entry to a signed
checkpoint, a time stamp where there is one, the key set, and further signed statements. The form
is written down in `docs/verify.md`; `static/verify.html` reads the same form in a browser.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cryptography.x509 import Certificate

from services.attestation import receipts
from services.attestation.notes import open_signed_note
from services.attestation.receipts import Check, ReceiptFacts, VerifiedReceipt, facts_of
from services.attestation.statements import Statement, open_statement, unlinked
from services.attestation.strict import exact_keys, from_base64, read_json
from services.attestation.timestamps import check_stamp
from services.audit.merkle import leaf_hash, timestamp
from services.audit.proofs import check_inclusion
from services.audit.verification import read_checkpoint
from services.errors import VerificationFailed

FORMAT = "https://param-console.dev/proof-bundle/v1"
ORIGIN = "param-console/audit"
"""Name of the log in its checkpoints."""
MAX_BUNDLE_BYTES = 4 * 1024 * 1024
MOST_STATEMENTS = 200
NO_STAMP = "when at the latest: no time-stamping authority signed this checkpoint"
UNCHECKED_STAMP = "that the time stamp is genuine: the authority's certificate was not checked here"
NOT_COMPARED = "that this is the log that others see: compare the checkpoint with a copy of theirs"

_FIELDS = ("format", "receipt", "salt", "log", "keys", "statements")
_LOG = ("entry", "leaf_index", "tree_size", "path", "checkpoint", "timestamp")
ENTRY_FIELDS = (
    "action", "actor_id", "actor_name", "at", "details", "seq", "subject", "tenant_id",
)  # fmt: skip
_KIND = re.compile(r"/([a-z0-9-]{1,40})/v[0-9]{1,3}\Z")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")

Logged = Callable[[ReceiptFacts], list[Check]]


def is_bundle(document: Any) -> bool:
    """Whether a document says that it is a proof bundle."""
    return isinstance(document, dict) and "format" in document


def read_bundle(data: bytes) -> dict[str, Any]:
    """The bundle in these bytes, its outer form checked.

    Raises:
        VerificationFailed: It is none.
    """
    found = read_json(data, "proof bundle", most=MAX_BUNDLE_BYTES)
    fields = exact_keys(found, _FIELDS, "proof bundle")
    if fields["format"] != FORMAT:
        raise VerificationFailed(
            f"proof bundle: expected the format {FORMAT}, found {str(fields['format'])[:80]!r}"
        )
    statements = fields["statements"]
    if not isinstance(statements, list) or len(statements) > MOST_STATEMENTS:
        raise VerificationFailed(
            f"proof bundle: expected a list of at most {MOST_STATEMENTS} statements"
        )
    read_salt(fields["salt"])
    exact_keys(fields["log"], _LOG, "proof bundle: log")
    return fields


def read_salt(value: Any) -> bytes | None:
    """The salt of a receipt document: 64 hex digits, or nothing.

    Raises:
        VerificationFailed: It is something else.
    """
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise VerificationFailed("receipt file: expected a salt of 64 hex digits, found another")
    return bytes.fromhex(value)


def verify_bundle(
    bundle: Mapping[str, Any],
    jwks: Any,
    *,
    request: bytes | None = None,
    response: bytes | None = None,
    salt: bytes | None = None,
    roots: Sequence[Certificate] = (),
) -> VerifiedReceipt:
    """Check a bundle against keys that the caller trusts; needs no database and no network.

    Args:
        bundle: From `read_bundle`. Its own key set is not used.
        jwks: The issuer's key set, had from somewhere other than the bundle.
        request: The exact bytes that were asked, to compare; likewise `response`.
        salt: Used instead of the bundle's.
        roots: Certificates that a time stamp must lead to.

    Returns:
        The receipt's statement and all checks; look at `holds`.

    Raises:
        VerificationFailed: Form, signature or key of the receipt do not hold, or the bundle is
            malformed: then nothing it says counts.
    """
    log = _Log(bundle["log"], jwks, roots)
    found = receipts.verify(
        bundle["receipt"],
        jwks,
        request=request,
        response=response,
        salt=salt or read_salt(bundle["salt"]),
        logged=log.checks,
    )
    checks = [*found.checks]
    if log.stamp_check is not None:
        checks.append(log.stamp_check)
    if bundle["statements"]:
        checks.append(_statements_check(bundle["statements"], log, jwks, facts_of(found.statement)))
    return replace(
        found, checks=checks, not_established=[*found.not_established, *log.not_established]
    )


def agreement(facts: ReceiptFacts, entry: Mapping[str, Any]) -> str | None:
    """What contradicts between a receipt and the log entry it names; None where nothing does.

    Args:
        entry: The fields of an entry as the log hashes them.
    """
    details = entry["details"] if isinstance(entry["details"], dict) else {}
    expected = {
        "seq": facts.audit_seq,
        "subject": f"request:{facts.request_id}",
        "tenant_id": facts.tenant_id,
        "actor_id": facts.actor_id,
    }
    detailed = {
        "request_commitment": facts.request_commitment,
        "response_commitment": facts.response_commitment,
        "alias": facts.alias,
        "served": facts.served,
        "adapter_digest": facts.adapter_digest,
        "arm": facts.arm,
        "prompt_tokens": facts.prompt_tokens,
        "completion_tokens": facts.completion_tokens,
        "cost_micro": facts.cost_micro,
    }
    wrong = [name for name, value in expected.items() if entry[name] != value]
    wrong += [name for name, value in detailed.items() if not _same(details, name, value)]
    return wrong[0] if wrong else None


def _same(details: Mapping[str, Any], name: str, value: Any) -> bool:
    return name in details and type(details[name]) is type(value) and details[name] == value


class _Log:
    """The log's part of a bundle, and what came out of checking it."""

    def __init__(self, fields: Mapping[str, Any], jwks: Any, roots: Sequence[Certificate]) -> None:
        self._fields = fields
        self._jwks = jwks
        self._entry = from_base64(fields["entry"], "proof bundle: entry")
        self._index = number(fields["leaf_index"], "leaf_index")
        self._size = number(fields["tree_size"], "tree_size")
        self._path = path_of(fields["path"])
        self._note = _text(fields["checkpoint"], "checkpoint")
        self.root: bytes | None = None
        self.not_established = [NOT_COMPARED]
        self.stamp_check = self._stamp(fields["timestamp"], roots)

    @property
    def size(self) -> int:
        """Entries of the tree."""
        return self._size

    def checks(self, facts: ReceiptFacts) -> list[Check]:
        """Entry, checkpoint and inclusion."""
        return [self._checkpoint(), self._entry_check(facts), self._inclusion()]

    def _checkpoint(self) -> Check:
        def read(note: str) -> str:
            return open_signed_note(note, ORIGIN, self._jwks)

        try:
            size, root = read_checkpoint(self._note, ORIGIN, read)
        except VerificationFailed as error:
            return Check("checkpoint", False, error.message)
        if size != self._size:
            return Check(
                "checkpoint", False, f"it is of size {size}, the proof is about {self._size}"
            )
        self.root = root
        return Check("checkpoint", True, f"the log at size {size}, signed by a trusted key")

    def _entry_check(self, facts: ReceiptFacts) -> Check:
        where = f"entry {facts.audit_seq} of the log"
        entry = exact_keys(read_json(self._entry, "log entry"), ENTRY_FIELDS, "log entry")
        if leaf_hash(self._entry).hex() != facts.audit_leaf_hash:
            return Check("entry", False, f"{where} is another than the receipt was signed for")
        wrong = agreement(facts, entry)
        if wrong is not None:
            return Check("entry", False, f"{where} says something else about {wrong}")
        return Check("entry", True, f"{where} says the same as the receipt")

    def _inclusion(self) -> Check:
        entry = read_json(self._entry, "log entry")
        if self.root is None:
            return Check("inclusion", False, "there is no checkpoint that it could be shown in")
        if entry["seq"] != self._index + 1:
            return Check("inclusion", False, "the proof is about another entry")
        try:
            check_inclusion(leaf_hash(self._entry), self._index, self._size, self._path, self.root)
        except VerificationFailed as error:
            return Check("inclusion", False, error.message)
        return Check(
            "inclusion", True, f"entry {self._index + 1} is one of the {self._size} of the log"
        )

    def _stamp(self, fields: Any, roots: Sequence[Certificate]) -> Check | None:
        if fields is None:
            self.not_established.append(NO_STAMP)
            return None
        exact_keys(fields, ("authority", "response"), "proof bundle: timestamp")
        authority = _text(fields["authority"], "timestamp: authority")[:200]
        response = from_base64(fields["response"], "proof bundle: timestamp: response")
        try:
            said_at = check_stamp(response, self._note.encode(), roots=roots)
        except VerificationFailed as error:
            return Check("timestamp", False, error.message)
        if not roots:
            self.not_established.append(UNCHECKED_STAMP)
        return Check("timestamp", True, f"not later than {timestamp(said_at)}, says {authority}")


def _statements_check(listed: Sequence[Any], log: _Log, jwks: Any, facts: ReceiptFacts) -> Check:
    found: list[Statement] = []
    for place, one in enumerate(listed, start=1):
        fields = exact_keys(one, ("name", "envelope", "log"), f"statement {place}")
        _text(fields["name"], f"statement {place}: name")
        try:
            statement, key = open_statement(fields["envelope"], jwks)
            seq = _logged_at(fields["log"], statement, log)
        except VerificationFailed as error:
            return Check("statements", False, f"statement {place}: {error.message}")
        if key.last_valid_index is not None and (seq is None or seq > key.last_valid_index):
            return Check(
                "statements", False, f"statement {place}: its key was revoked and the log does "
                "not show that it is older",
            )  # fmt: skip
        found.append(statement)
    loose = unlinked(found, _roots(facts))
    if loose:
        return Check(
            "statements", False, f"statement {loose[0] + 1} has nothing to do with this receipt"
        )
    return Check(
        "statements", True,
        f"{len(found)} signed, each tied to this receipt by digests: {_kinds(found)}",
    )  # fmt: skip


def _kinds(found: Sequence[Statement]) -> str:
    """What the statements are about, by their types: `dataset, run, rollout-event (3)`."""
    matches = [_KIND.search(one.predicate_type) for one in found]
    counted = Counter("other" if match is None else match[1] for match in matches)
    return ", ".join(kind if n == 1 else f"{kind} ({n})" for kind, n in counted.items())


def _logged_at(fields: Any, statement: Statement, log: _Log) -> int | None:
    """The number of the log entry that names a statement; None where none is shown.

    Raises:
        VerificationFailed: What is shown does not hold.
    """
    if fields is None:
        return None
    exact_keys(fields, ("entry", "leaf_index", "path"), "statement: log")
    data = from_base64(fields["entry"], "statement: log entry")
    entry = exact_keys(
        read_json(data, "statement: log entry"), ENTRY_FIELDS, "statement: log entry"
    )
    index, path = number(fields["leaf_index"], "leaf_index"), path_of(fields["path"])
    details = entry["details"] if isinstance(entry["details"], dict) else {}
    if log.root is None or statement.payload_sha256 not in details.values():
        raise VerificationFailed("log: expected an entry that names this statement, found another")
    check_inclusion(leaf_hash(data), index, log.size, path, log.root)
    return index + 1


def _roots(facts: ReceiptFacts) -> list[str]:
    """The digests that a receipt itself names."""
    named = [facts.adapter_digest or facts.base_digest, facts.policy_digest]
    return [digest for digest in named if digest]


def number(value: Any, what: str) -> int:
    """A whole number as bundles write it: a decimal string.

    Raises:
        VerificationFailed: It is something else.
    """
    if not isinstance(value, str) or not _NUMBER.fullmatch(value) or int(value) >= 2**53:
        raise VerificationFailed(
            f"proof bundle: {what}: expected a whole number as a decimal string, found another"
        )
    return int(value)


def path_of(value: Any) -> list[bytes]:
    """The hashes of a proof, each 32 bytes in base64.

    Raises:
        VerificationFailed: It is something else.
    """
    if not isinstance(value, list) or len(value) > 64:
        raise VerificationFailed("proof bundle: path: expected a list of at most 64 hashes")
    path = [from_base64(node, "proof bundle: path") for node in value]
    if any(len(node) != 32 for node in path):
        raise VerificationFailed("proof bundle: path: expected hashes of 32 bytes")
    return path


def encoded(data: bytes) -> str:
    """Bytes as bundles write them."""
    return base64.b64encode(data).decode()


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or len(value) > 16384:
        raise VerificationFailed(f"proof bundle: {what}: expected a text, found another")
    return value
