"""A key with published values, and a receipt to sign with it."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from services.attestation.keys import Key, Keyring
from services.attestation.receipts import ReceiptFacts, commitment
from services.attestation.strict import to_base64url
from services.audit.models import Event

NOW = datetime(2026, 11, 21, 8, 0, 0, 123456, tzinfo=UTC)
# RFC 8032, section 7.1, test 1.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
SALT = bytes(range(32))
REQUEST = b'{"messages":[{"role":"user","content":"Gr\xc3\xb6\xc3\x9fe?"}]}'
RESPONSE = '{"answer":"Größe 😀"}'.encode()


def facts(**changed: Any) -> ReceiptFacts:
    fields: dict[str, Any] = {
        "receipt_id": "r-1", "request_id": "q-1", "tenant_id": "acme", "actor_id": "key:k-1",
        "alias": "support", "served": "support-3fa2c1d09b7e", "adapter_digest": "3f" * 32,
        "base_model": "smollm2-135m-instruct", "base_digest": "ba" * 32, "arm": "canary",
        "rollout_id": "ro-1", "percent": 10,
        "request_commitment": commitment("request", SALT, sha256(REQUEST).digest()),
        "response_commitment": commitment("response", SALT, sha256(RESPONSE).digest()),
        "prompt_tokens": 12, "completion_tokens": 34, "cost_micro": 15, "currency": "USD",
        "price_version": "1", "finish_reason": "stop", "stream": False, "partial": False,
        "received_at": NOW, "completed_at": NOW, "audit_seq": 1, "audit_leaf_hash": "ab" * 32,
        "issuer": "test.local", "policy_version": 2, "policy_digest": "cd" * 32, "findings": 1,
    }  # fmt: skip
    return ReceiptFacts(**{**fields, **changed})


def entry_event(found: ReceiptFacts) -> Event:
    """What the gateway puts into the log for the request that a receipt is about."""
    names = (
        "request_commitment", "response_commitment", "alias", "served", "adapter_digest", "arm",
        "prompt_tokens", "completion_tokens", "cost_micro",
    )  # fmt: skip
    return Event(
        tenant_id=found.tenant_id,
        actor_id=found.actor_id,
        actor_name="key",
        action="inference.answered",
        subject=f"request:{found.request_id}",
        details={name: getattr(found, name) for name in names},
        at=found.completed_at,
    )


def jwk(key: Key, **changed: Any) -> dict[str, Any]:
    fields = {
        "kty": "OKP", "crv": "Ed25519", "x": to_base64url(key.public), "kid": key.kid,
        "purpose": key.purpose, "not_before": "2026-11-21T08:00:00.000000Z", "not_after": None,
    }  # fmt: skip
    return {**fields, **changed}


@pytest.fixture
def key() -> Key:
    return Key.from_seed("receipt", SEED)


@pytest.fixture
def jwks(key: Key) -> dict[str, Any]:
    return {"keys": [jwk(key)]}


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys", clock=lambda: NOW)
