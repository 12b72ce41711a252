"""Rows that pages show: pairs, runs, adapters, evaluations, requests; written by the services."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from services.attestation.receipts import ReceiptFacts, commitment, sign
from services.attestation.service import StoredReceipt
from services.bootstrap import Services
from services.db import new_id
from services.evaluation.models import AnswerPair, Evaluation, Measured, PairScore
from services.evaluation.repetition import is_degenerate, repetition
from services.evaluation.summary import LeftOut, summarise
from services.jobs.models import JobStatus
from services.jobs.store import JobRow
from services.metering.models import Usage
from services.preferences.models import Dataset
from services.registry.models import Adapter
from services.registry.store import AdapterRow, OriginRow
from services.tenants.models import Actor
from services.training.models import DpoSpec, Point, Run
from tests.services.attestation.conftest import entry_event
from tests.services.evaluation.measured import KEPT
from tests.services.registry.adapters import BASE_DIGEST, write_adapter

SYSTEM = Actor.system("test")
SALT = bytes(range(32))
REQUEST = b'{"messages": [{"role": "user", "content": "Capital of T\xc3\xbcrkiye?"}]}'
RESPONSE = b'{"choices": [{"message": {"content": "Ankara."}}]}'


def pairs(services: Services, tenant_id: str = "acme", *, count: int = 12) -> None:
    """Approved pairs."""
    rows = [
        {"prompt": f"How much is {n} and one?", "chosen": f"{n + 1}.", "rejected": f"{n}, or so."}
        for n in range(count)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    services.preferences.import_pairs(SYSTEM, tenant_id, io.BytesIO(text.encode()), source="made")
    services.preferences.approve_imported(SYSTEM, tenant_id)


def dataset(services: Services, tenant_id: str = "acme") -> Dataset:
    """A frozen dataset of a few pairs."""
    pairs(services, tenant_id)
    return services.preferences.snapshot(SYSTEM, tenant_id, eval_fraction=0.3)


def base_model(folder: Path) -> Path:
    """A folder that passes for a base model as long as nobody loads it."""
    write_adapter(folder).joinpath("adapter_model.safetensors").rename(folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    return folder


def run(services: Services, tenant_id: str = "acme", **changes: Any) -> Run:
    """A queued training run."""
    spec = DpoSpec.from_preset(
        "quick",
        alias=tenant_id,
        dataset_id=dataset(services, tenant_id).id,
        base_model=services.settings.base_model,
        **changes,
    )
    return services.training.launch_dpo(SYSTEM, tenant_id, spec)


def job_is(
    services: Services, job_id: str, status: JobStatus, *, message: str = "", **values: Any
) -> None:
    """Have a job stand where a worker would have brought it."""
    with services.db.write() as session:
        row = session.get(JobRow, job_id)
        assert row is not None
        row.status, row.message = status, message
        for name, value in values.items():
            setattr(row, name, value)


def curve(services: Services, training: Run, steps: int, *, of: int = 40) -> None:
    """Metrics and a log, as the training process writes them."""
    folder = services.training.folder(training)
    folder.path.mkdir(parents=True, exist_ok=True)
    wobble = [((step * 7919) % 13 - 6) / 6 for step in range(1, steps + 1)]
    points = [
        Point(
            step=step, max_steps=of, loss=0.69 * 0.95**step + 0.05 * wobble[step - 1],
            margin=step * 0.08 + 0.3 * wobble[step - 1],
            accuracy=min(1.0, max(0.0, round((0.5 + step * 0.015 + 0.2 * wobble[step - 1]) * 4) / 4)),
            chosen_reward=step * 0.03, rejected_reward=-step * 0.05, learning_rate=2e-4,
            grad_norm=1.2, tokens_per_s=412.0, rss_mb=2410.0, eta_s=(of - step) * 2.6, at=step * 2.6,
        )
        for step in range(1, steps + 1)
    ]  # fmt: skip
    folder.metrics_file.write_text("".join(json.dumps(asdict(p)) + "\n" for p in points))
    folder.log.write_text("base model loaded\n12 pairs to train on\n" * 3, encoding="utf-8")


def adapter(
    services: Services, tenant_id: str = "acme", *, seed: int = 1, alias: str | None = None
) -> Adapter:
    """An adapter of made-up weights: its rows, without the copy to MLflow that costs seconds."""
    digest = sha256(f"{tenant_id}-{seed}".encode()).hexdigest()
    name, run_id = f"{alias or tenant_id}-{digest[:12]}", f"run-{tenant_id}-{seed}"
    learned_from = dataset(services, tenant_id).sha256
    now = datetime.now(UTC)
    row = AdapterRow(
        tenant_id=tenant_id, name=name, alias=alias or tenant_id, digest=digest,
        base_model="smollm2-135m-instruct", base_digest=BASE_DIGEST, run_id=run_id,
        dataset_sha256=learned_from, config_sha256="c" * 64, size_bytes=19_600_000, metrics={},
        parameters={"beta": "0.1"}, mlflow_run_id=None, created_at=now,
    )  # fmt: skip
    with services.db.write() as session:
        session.add(row)
        session.flush()
        session.add(
            OriginRow(
                run_id=run_id,
                tenant_id=tenant_id,
                name=name,
                dataset_sha256=learned_from,
                created_at=now,
            )  # fmt: skip
        )
    return services.registry.get(SYSTEM, tenant_id, name)


def scores(gained: int, lost: int, right: int, wrong: int) -> list[PairScore]:
    """So many held-out pairs of each kind."""
    kinds = [(-1, 1)] * gained + [(1, -1)] * lost + [(1, 1)] * right + [(-1, -1)] * wrong
    return [
        PairScore(
            pair_id=f"pair-{n:04}", prompt_key=f"prompt-{n:04}",
            base_chosen=-20.0 + before * (1 + n % 5), base_rejected=-20.0,
            adapter_chosen=-19.5 + after * (1.5 + n % 7), adapter_rejected=-20.0,
            chosen_tokens=10, rejected_tokens=10,
        )
        for n, (before, after) in enumerate(kinds)
    ]  # fmt: skip


def answer(position: int, base: str, tuned: str) -> AnswerPair:
    """What both models said to one prompt."""
    return AnswerPair(
        position=position,
        prompt=({"role": "user", "content": f"Question {position}: capital of Türkiye?"},),
        base=base, adapter=tuned, base_tokens=len(base.split()), adapter_tokens=len(tuned.split()),
        base_repetition=repetition(base), adapter_repetition=repetition(tuned),
        base_degenerate=is_degenerate(base), adapter_degenerate=is_degenerate(tuned),
    )  # fmt: skip


ANSWERS = (
    answer(0, "The capital is **Istanbul**.", "Ankara is the capital."),
    answer(1, "Istanbul.", "Ankara Ankara Ankara Ankara Ankara Ankara"),
)


def evaluation(
    services: Services,
    made: Adapter,
    *,
    kinds: tuple[int, int, int, int] | None = (20, 2, 16, 4),
    answers: Sequence[AnswerPair] = ANSWERS,
    beside: Measured = KEPT,
) -> Evaluation:
    """An evaluation of an adapter: ended with so many pairs of each kind, or (None) queued."""
    found = services.evaluations.launch(SYSTEM, made.tenant_id, made.name)
    if kinds is not None:
        measured = scores(*kinds)
        summary = summarise(
            measured, answers, beta=0.1, left_out=LeftOut(seen=1), seconds=42.0, measured=beside
        )
        services.evaluations.finish(SYSTEM, found.id, summary, measured, answers, beside)
        job_is(services, found.job.id, JobStatus.SUCCEEDED, progress=1.0)
    return services.evaluations.get(SYSTEM, found.id)


def usage(services: Services, tenant_id: str = "acme", **changes: Any) -> Usage:
    """One answered request."""
    values: dict[str, Any] = {
        "request_id": new_id(), "tenant_id": tenant_id, "key_id": "key:1", "alias": tenant_id,
        "served": "smollm2-135m-instruct", "arm": "stable", "prompt_tokens": 120,
        "completion_tokens": 80, "cost_micro": 44, "price_version": "1", "latency_ms": 900,
        "ttft_ms": None, "status": "ok", "at": datetime.now(UTC) - timedelta(seconds=1), **changes,
    }  # fmt: skip
    row = Usage(**values)
    with services.db.write() as session:
        services.metering.record_usage(session, row)
    return row


def receipt(
    services: Services,
    tenant_id: str = "acme",
    *,
    actor_id: str = "key:1",
    made: Adapter | None = None,
) -> str:
    """A signed and stored receipt, as the gateway issues it; its id.

    Args:
        made: The adapter that answered; one that is not here by default.
    """
    now, receipt_id = datetime.now(UTC), new_id()
    facts = ReceiptFacts(
        receipt_id=receipt_id, request_id=new_id(), tenant_id=tenant_id, actor_id=actor_id,
        alias=tenant_id, served=made.name if made else f"{tenant_id}-3fa2c1d09b7e",
        adapter_digest=made.digest if made else "3fa2c1d09b7e" + "5" * 52,
        base_model="smollm2-135m-instruct", base_digest=BASE_DIGEST, arm="canary",
        rollout_id="rollout-1", percent=10,
        request_commitment=commitment("request", SALT, sha256(REQUEST).digest()),
        response_commitment=commitment("response", SALT, sha256(RESPONSE).digest()),
        prompt_tokens=12, completion_tokens=34, cost_micro=15, currency="USD",
        price_version="1", finish_reason="stop", stream=False, partial=False,
        received_at=now, completed_at=now, audit_seq=1, audit_leaf_hash="ab" * 32,
        issuer="param-console.local", policy_version=2, policy_digest="cd" * 32, findings=1,
    )  # fmt: skip
    with services.db.write() as session:
        entry = services.audit.append_now(session, [entry_event(facts)])[0]
        facts = replace(facts, audit_seq=entry.seq, audit_leaf_hash=entry.leaf_hash)
        envelope = sign(facts, services.keyring.key("receipt"))
        issued = StoredReceipt(
            receipt_id, tenant_id, facts.request_id, actor_id, envelope, SALT, now
        )
        services.receipts.store(session, issued)
    return receipt_id
