"""Checkpoints, proofs and bundles over HTTP; kept texts of a tenant that asked for them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from services.attestation.files import read_file
from services.audit.proofs import check_consistency, check_inclusion
from services.errors import NotFound
from tests.services.gateway.conftest import SYSTEM, Edge, eventually


def hashes(found: dict[str, Any], *names: str) -> list[bytes]:
    return [base64.b64decode(found[name]) for name in names]


def test_anyone_asks_for_the_checkpoint_and_for_proofs(edge: Edge) -> None:
    edge.chat(edge.key("legal"))
    edge.services.audit.sequence()
    made = edge.services.audit.checkpoint()
    assert made is not None
    newest = edge.get("/v1/audit/checkpoint").json()
    assert edge.get("/v1/audit/checkpoint?format=note").text == newest["note"]
    size = newest["size"]
    found = edge.get(f"/v1/audit/proof?seq=2&size={size}").json()
    path = [base64.b64decode(node) for node in found["path"]]
    leaf, root = hashes(found, "leaf_hash", "root")
    assert root.hex() == newest["root"]
    check_inclusion(leaf, 1, size, path, root)
    grown = edge.get(f"/v1/audit/proof?first=1&second={size}").json()
    path = [base64.b64decode(node) for node in grown["path"]]
    check_consistency(1, hashes(grown, "first_root")[0], size, root, path)
    for asked, status in (
        ("", 400), ("?seq=x", 400), ("?seq=1&first=1", 400), ("?first=5&second=2", 400),
        ("?seq=999999", 404), ("?seq=0", 404), ("?seq=" + "9" * 400, 400),
    ):  # fmt: skip
        assert edge.get(f"/v1/audit/proof{asked}").status_code == status, asked


@pytest.mark.parametrize("stream", [False, True])
def test_a_bundle_proves_an_answer_with_its_texts(edge: Edge, stream: bool) -> None:
    key = edge.key("legal")
    answer = edge.chat(key, stream=stream)
    receipt_id = answer.headers["x-param-receipt"]
    eventually(lambda: edge.get(f"/v1/receipts/{receipt_id}", key).status_code == 200)
    data = edge.get(f"/v1/receipts/{receipt_id}/bundle", key).content
    body = answer.content.partition(b": receipt ")[0] if stream else answer.content
    jwks = edge.get("/.well-known/jwks.json").json()
    found = read_file(data).verify(jwks, request=answer.request.content, response=body)
    assert [check.name for check in found.checks if not check.ok] == []
    assert len(found.checks) == 8
    told = edge.http.post(f"{edge.url}/v1/verify", content=data).json()
    assert told["ok"] is True
    assert told["checks"][-1]["name"] == "audit"
    other = edge.key("medical")
    assert edge.get(f"/v1/receipts/{receipt_id}/bundle", other).status_code == 404
    assert edge.get(f"/v1/receipts/{receipt_id}/bundle").status_code == 401


def test_the_verifier_page_comes_with_its_policy(edge: Edge) -> None:
    page = edge.get("/verify")
    assert page.headers["content-security-policy"].startswith("default-src 'none';")
    assert "crypto.subtle" in page.text


@pytest.mark.parametrize("stream", [False, True])
def test_texts_are_kept_for_a_tenant_that_asked_and_for_no_other(edge: Edge, stream: bool) -> None:
    retention = edge.services.evidence.retention
    mine, other = edge.key("legal"), edge.key("medical")
    retention.choose(SYSTEM, "legal", days=3)
    assert edge.app is not None
    gateway = edge.app.gateway
    assert gateway is not None
    eventually(lambda: gateway.directory.keep_days("legal") == 3)
    answer, foreign = edge.chat(mine, "Kimim ben?", stream=stream), edge.chat(other)
    request_id = answer.headers["x-request-id"]
    eventually(lambda: retention.kept(SYSTEM, "legal"))
    kept = retention.read(SYSTEM, "legal", request_id)
    assert kept.request == answer.request.content
    assert kept.response == answer.content.partition(b": receipt ")[0]
    with pytest.raises(NotFound):
        retention.read(SYSTEM, "medical", foreign.headers["x-request-id"])
