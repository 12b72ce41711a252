"""The proof bundle: one file with which a receipt is checked against the log, offline.

It holds the receipt, the entry of the log that it names, the path from that entry to a signed
checkpoint, a time stamp where there is one, the key set, and further signed statements. The form
is written down in `docs/verify.md`; `static/source` reads the same form in a browser.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cryptography.x509 import Certificate

from services.attestation import further, receipts
from services.attestation.checks import Check, bad, failed, well
from services.attestation.forms import number, path_of, read_entry, short_text
from services.attestation.notes import open_signed_note
from services.attestation.receipts import ReceiptFacts, VerifiedReceipt, facts_of
from services.attestation.strict import exact_keys, from_base64, read_json
from services.attestation.timestamps import check_stamp
from services.attestation.words import Refused, limit, shown
from services.audit.merkle import leaf_hash, timestamp
from services.audit.proofs import check_inclusion
from services.audit.verification import read_checkpoint
from services.errors import VerificationFailed

FORMAT = "https://param-console.dev/proof-bundle/v1"
ORIGIN = "param-console/audit"
"""Name of the log in its checkpoints."""
MAX_BUNDLE_BYTES = 4 * 1024 * 1024
MOST_STATEMENTS = 200
NO_STAMP = limit("no_stamp")
UNCHECKED_STAMP = limit("unchecked_stamp")
NOT_COMPARED = limit("compared")

_FIELDS = ("format", "receipt", "salt", "log", "keys", "statements")
_LOG = ("entry", "leaf_index", "tree_size", "path", "checkpoint", "timestamp")
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
        raise Refused("bundle.format", "proof bundle", format=FORMAT)
    statements = fields["statements"]
    if not isinstance(statements, list) or len(statements) > MOST_STATEMENTS:
        raise Refused("list", "proof bundle: statements", least=0, most=MOST_STATEMENTS)
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
        raise Refused("file.salt", "receipt file")
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
    log = LogPart(bundle["log"], jwks, roots)
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
        facts = facts_of(found.statement)
        checks.append(further.check(bundle["statements"], log, jwks, facts))
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
    wrong = [name for name, value in expected.items() if not _same(entry, name, value)]
    wrong += [name for name, value in detailed.items() if not _same(details, name, value)]
    return wrong[0] if wrong else None


def _same(details: Mapping[str, Any], name: str, value: Any) -> bool:
    return name in details and type(details[name]) is type(value) and details[name] == value


class LogPart:
    """The log's part of a bundle, and what came out of checking it."""

    def __init__(self, fields: Mapping[str, Any], jwks: Any, roots: Sequence[Certificate]) -> None:
        self._fields = fields
        self._jwks = jwks
        self._entry = from_base64(fields["entry"], "proof bundle: entry")
        self._index = number(fields["leaf_index"], "leaf_index")
        self.size = number(fields["tree_size"], "tree_size")
        self._path = path_of(fields["path"])
        self._note = short_text(fields["checkpoint"], "checkpoint")
        self.root: bytes | None = None
        self.not_established = [NOT_COMPARED]
        self.stamp_check = self._stamp(fields["timestamp"], roots)

    def checks(self, facts: ReceiptFacts) -> list[Check]:
        """Entry, checkpoint and inclusion."""
        return [self._checkpoint(), self._entry_check(facts), self._inclusion()]

    def _checkpoint(self) -> Check:
        try:
            size, root = _checkpoint_in(open_signed_note(self._note, ORIGIN, self._jwks))
        except Refused as error:
            return failed("checkpoint", error)
        if size != self.size:
            return bad("checkpoint", "checkpoint.size", found=size, size=self.size)
        self.root = root
        return well("checkpoint", "checkpoint.ok", size=size)

    def _entry_check(self, facts: ReceiptFacts) -> Check:
        entry = read_entry(self._entry, "log entry")
        if leaf_hash(self._entry).hex() != facts.audit_leaf_hash:
            return bad("entry", "entry.other", seq=facts.audit_seq)
        wrong = agreement(facts, entry)
        if wrong is not None:
            return bad("entry", "entry.says", seq=facts.audit_seq, field=wrong)
        return well("entry", "entry.ok", seq=facts.audit_seq)

    def _inclusion(self) -> Check:
        if self.root is None:
            return bad("inclusion", "inclusion.no_checkpoint")
        seq = self._index + 1
        if not _same(read_entry(self._entry, "log entry"), "seq", seq):
            return bad("inclusion", "inclusion.other_entry")
        try:
            check_inclusion(leaf_hash(self._entry), self._index, self.size, self._path, self.root)
        except VerificationFailed:
            return bad("inclusion", "inclusion.none")
        return well("inclusion", "inclusion.ok", seq=seq, size=self.size)

    def _stamp(self, fields: Any, roots: Sequence[Certificate]) -> Check | None:
        if fields is None:
            self.not_established.append(NO_STAMP)
            return None
        exact_keys(fields, ("authority", "response"), "proof bundle: timestamp")
        authority = short_text(fields["authority"], "timestamp: authority")
        response = from_base64(fields["response"], "proof bundle: timestamp: response")
        try:
            said_at = check_stamp(response, self._note.encode(), roots=roots)
        except Refused as error:
            return failed("timestamp", error)
        if not roots:
            self.not_established.append(UNCHECKED_STAMP)
        told = {"at": timestamp(said_at), "authority": shown(authority, 200)}
        return well("timestamp", "stamp.ok", **told)


def _checkpoint_in(text: str) -> tuple[int, bytes]:
    """Size and root of a checkpoint's text, its signature checked before."""
    try:
        size, root = read_checkpoint(text, ORIGIN, lambda whole: whole)
    except VerificationFailed as error:
        raise Refused("checkpoint.form", "checkpoint", origin=ORIGIN) from error
    if size >= 2**53:
        raise Refused("checkpoint.form", "checkpoint", origin=ORIGIN)
    return size, root


def encoded(data: bytes) -> str:
    """Bytes as bundles write them."""
    return base64.b64encode(data).decode()
