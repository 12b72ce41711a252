"""Custody: each act leaves a statement, the chain is walked back, and what is wrong is told."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from services import bootstrap
from services import settings as configuration
from services.attestation.chain import Link
from services.attestation.custody import Kind, logged_as
from services.attestation.files import read_file
from services.attestation.receipts import sign
from services.attestation.service import StoredReceipt
from services.attestation.statements import open_statement
from services.attestation.store import CustodyRow
from services.audit.outbox import OutboxRow
from services.audit.store import AuditRow
from services.bootstrap import Services
from services.db import Database
from services.errors import InvalidInput, NotFound, NotPermitted, VerificationFailed
from services.evaluation.summary import LeftOut, summarise
from services.registry.models import Adapter
from services.rollouts.driving.store import StatementRow
from services.tenants.models import Actor, Limits, Role
from services.tenants.names import pseudonym
from services.training.models import DpoSpec
from tests.pages import seeds
from tests.services.attestation.conftest import NOW, SALT, entry_event, facts
from tests.services.evaluation.world import scores
from tests.services.registry.adapters import BASE_DIGEST, write_adapter
from tests.services.training.world import named_only

SYSTEM = Actor.system("test")
ENGINEER = Actor("user", "u1", "Elif", {"acme": frozenset({Role.ENGINEER})})
ANNOTATOR = Actor("user", "u2", "Can", {"acme": frozenset({Role.ANNOTATOR})})
STRANGER = Actor("user", "u3", "Nil", {"globex": frozenset({Role.ENGINEER})})


@pytest.fixture
def services(database: Database, tmp_path: Path) -> Iterator[Services]:
    built = bootstrap.build(
        configuration.load(
            {
                "PARAM_HOME": str(tmp_path / "home"),
                "PARAM_DATABASE_URL": database.url.render_as_string(hide_password=False),
                "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
            }
        )
    )
    for name in ("Acme", "Globex"):
        built.tenants.create(SYSTEM, name, limits=Limits(tps=1, rpm=1, daily_tokens=1))
    yield built
    built.close()


@pytest.fixture
def adapter(services: Services, tmp_path: Path) -> Adapter:
    """An adapter with all that leads to it: data, a run, a verdict."""
    return made(services, tmp_path)


def made(services: Services, folder: Path) -> Adapter:
    seeds.pairs(services)
    dataset = services.preferences.snapshot(ENGINEER, "acme", eval_fraction=0.3)
    spec = DpoSpec.from_preset("quick", alias="acme", dataset_id=dataset.id, base_model="tiny")
    services.training._resolve = named_only
    run = services.training.launch_dpo(ENGINEER, "acme", spec)
    adapter = services.registry.register(
        ENGINEER, "acme", alias="acme", folder=write_adapter(folder / "made"), base_model="tiny",
        base_digest=BASE_DIGEST, run_id=run.id, dataset_sha256=dataset.sha256, metrics={},
    )  # fmt: skip
    result = {"outcome": "succeeded", "final": {"loss": 0.25, "steps": 6}}
    services.training.record_outcome(ENGINEER, run.id, result=result, adapter=adapter.name)
    evaluation = services.evaluations.launch(ENGINEER, "acme", adapter.name, dataset_id=dataset.id)
    pairs = scores(gained=9, right=3)
    summary = summarise(pairs, [], beta=0.1, left_out=LeftOut(), seconds=1.0)
    services.evaluations.finish(ENGINEER, evaluation.id, summary, pairs, [])
    return adapter


def rows(services: Services) -> dict[str, CustodyRow]:
    with services.db.read() as session:
        return {row.kind: row for row in session.scalars(select(CustodyRow)).all()}


def kinds(link: Link) -> list[tuple[int, str, str]]:
    return [(depth, one.kind, one.problem) for depth, one in link.walk()]


def only(link: Link, kind: str) -> Link:
    [found] = [one for _depth, one in link.walk() if one.kind == kind]
    return found


def test_each_act_leaves_one_statement_that_names_those_before_it(
    services: Services, adapter: Adapter
) -> None:
    kept = rows(services)
    opened = {
        kind: open_statement(row.envelope, services.keyring.jwks())[0] for kind, row in kept.items()
    }
    assert set(opened) == {"dataset", "adapter", "run", "evaluation"}
    assert list(opened["dataset"].subjects.values()) == [adapter.dataset_sha256]
    data, registered = opened["dataset"].payload_sha256, opened["adapter"].payload_sha256
    assert data in opened["adapter"].refers_to
    assert {data, registered} <= opened["run"].refers_to
    assert {data, registered, opened["run"].payload_sha256} <= opened["evaluation"].refers_to
    assert all(
        opened[kind].subjects == {adapter.name: adapter.digest}
        for kind in ("adapter", "run", "evaluation")
    )
    assert opened["run"].predicate["metrics"] == {"loss": "0.25", "steps": "6"}
    assert opened["evaluation"].predicate["verdict"]


def test_the_log_names_each_statement_and_statements_name_no_person(
    services: Services, adapter: Adapter
) -> None:
    kept = rows(services)
    with services.db.read() as session:
        events = session.scalars(select(OutboxRow).order_by(OutboxRow.id)).all()
    actions = {
        "dataset": "dataset.frozen", "adapter": "adapter.registered", "run": "training.ended",
        "evaluation": "evaluation.finished",
    }  # fmt: skip
    for kind, row in kept.items():
        [act] = [one for one in events if one.action == actions[kind]]
        [own] = [one for one in events if one.subject == logged_as(row.sha256)]
        assert act.details["statement"] == own.details["statement"] == row.sha256
        assert own.actor_name == "custody"
        text = base64.b64decode(row.envelope["payload"]).decode()
        assert "Elif" not in text
        assert json.loads(text)["predicate"]["by"] == pseudonym("acme", "u1")
        assert "How much is" not in text


def test_a_whole_chain_leads_from_the_adapter_to_the_people(
    services: Services, adapter: Adapter
) -> None:
    found = services.chains.of(ENGINEER, adapter.name)
    assert found.broken == []
    assert kinds(found) == [
        (0, "adapter", ""), (1, "registration", ""), (2, "run", ""), (3, "dataset", ""),
        (4, "people", ""), (1, "evaluation", ""),
    ]  # fmt: skip
    assert only(found, "run").entry is None
    services.audit.sequence()
    again = services.chains.of_adapter(ENGINEER, "acme", adapter.name)
    assert again.broken == []
    assert only(again, "run").entry is not None


def test_what_was_made_without_statements_is_said_to_have_none(services: Services) -> None:
    adapter = seeds.adapter(services)
    with services.db.write() as session:
        session.execute(delete(CustodyRow))
    found = services.chains.of_adapter(ENGINEER, "acme", adapter.name)
    assert kinds(found) == [
        (0, "adapter", ""), (1, "registration", "missing"), (2, "run", "missing"),
        (3, "dataset", "missing"),
    ]  # fmt: skip


def test_another_tenant_and_an_annotator_see_no_chain(services: Services, adapter: Adapter) -> None:
    for actor in (STRANGER, ANNOTATOR):
        with pytest.raises(NotPermitted):
            services.chains.of_adapter(actor, "acme", adapter.name)
        with pytest.raises(NotFound):
            services.chains.of(actor, adapter.name)
    with pytest.raises(NotFound):
        services.chains.of_adapter(STRANGER, "globex", adapter.name)


def test_equal_names_of_two_tenants_are_told_apart(
    services: Services, adapter: Adapter, tmp_path: Path
) -> None:
    services.registry.register(
        SYSTEM, "globex", alias="acme", folder=tmp_path / "made", base_model="tiny",
        base_digest=BASE_DIGEST, run_id="run-9", dataset_sha256="d" * 64, metrics={},
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="found acme, globex; name one"):
        services.chains.of(SYSTEM, adapter.name)
    assert services.chains.of(ENGINEER, adapter.name).broken == []
    theirs = services.chains.of(SYSTEM, adapter.name, tenant_id="globex")
    assert [link.kind for link in theirs.broken] == ["run", "dataset"]


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("adapter", "registration"), ("run", "run"), ("dataset", "dataset"),
     ("evaluation", "evaluation")],
)  # fmt: skip
def test_a_changed_statement_does_not_hold(
    services: Services, adapter: Adapter, kind: Kind, shown: str
) -> None:
    envelope = rows(services)[kind].envelope
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["predicate"]["at"] = "2020-01-01T00:00:00.000000Z"
    forged = base64.b64encode(json.dumps(payload).encode()).decode()
    change(services, kind, envelope={**envelope, "payload": forged})
    broken = services.chains.of_adapter(ENGINEER, "acme", adapter.name).broken
    assert [(link.kind, link.problem) for link in broken] == [(shown, "signature")]


def test_a_genuine_statement_in_the_place_of_another_does_not_hold(
    services: Services, adapter: Adapter
) -> None:
    change(services, "run", envelope=rows(services)["evaluation"].envelope)
    broken = services.chains.of_adapter(ENGINEER, "acme", adapter.name).broken
    assert ("run", "missing") in [(link.kind, link.problem) for link in broken]
    assert "other" in [link.problem for link in broken]


def test_a_statement_that_is_gone_is_missed_by_those_that_build_on_it(
    services: Services, adapter: Adapter
) -> None:
    with services.db.write() as session:
        session.execute(delete(CustodyRow).where(CustodyRow.kind == "dataset"))
    broken = services.chains.of_adapter(ENGINEER, "acme", adapter.name).broken
    assert {(link.kind, link.problem) for link in broken} == {
        ("dataset", "missing"), ("registration", "material"), ("run", "material"),
        ("evaluation", "material"),
    }  # fmt: skip


def test_a_statement_that_no_entry_names_does_not_hold(
    services: Services, adapter: Adapter
) -> None:
    with services.db.write() as session:
        subject = logged_as(rows(services)["run"].sha256)
        session.execute(delete(OutboxRow).where(OutboxRow.subject == subject))
        assert session.scalar(select(AuditRow).where(AuditRow.subject == subject)) is None
    broken = services.chains.of_adapter(ENGINEER, "acme", adapter.name).broken
    assert [(link.kind, link.problem) for link in broken] == [("run", "unlogged")]


def test_an_act_that_fails_leaves_no_statement(services: Services) -> None:
    with pytest.raises(InvalidInput), services.db.write() as session:
        services.chains._custody.state_in_session(
            session, ENGINEER, "acme", kind="dataset", name="d", digest="d" * 64,
            facts={"share": 0.5}, materials={}, at=NOW,
        )  # fmt: skip
    with pytest.raises(VerificationFailed), services.db.write() as session:
        services.chains._custody.state_in_session(
            session, ENGINEER, "acme", kind="dataset", name="d", digest="no digest",
            facts={}, materials={}, at=NOW,
        )  # fmt: skip
    assert rows(services) == {}


def test_an_export_is_stated_too(services: Services, tmp_path: Path) -> None:
    seeds.pairs(services)
    manifest = services.preferences.export(ENGINEER, "acme", tmp_path / "out")
    row = rows(services)["dataset"]
    statement, _key = open_statement(row.envelope, services.keyring.jwks())
    assert statement.subjects == {f"export-{manifest.sha256[:12]}": manifest.sha256}
    named = {one["name"]: one["digest"]["sha256"] for one in statement.predicate["materials"]}
    assert named["file train.jsonl"] == manifest.content["files"]["train.jsonl"]["sha256"]


def test_a_receipts_bundle_carries_the_statements_of_its_adapter(
    services: Services, adapter: Adapter
) -> None:
    receipt_id = issue(services, served=adapter.name, adapter_digest=adapter.digest)
    bundle = services.evidence.bundles.make(ENGINEER, receipt_id)
    assert [one["name"].split()[0] for one in bundle["statements"]] == [
        "dataset", "adapter", "run", "evaluation",
    ]  # fmt: skip
    assert all(one["log"] is not None for one in bundle["statements"])
    entries = [base64.b64decode(one["log"]["entry"]).decode() for one in bundle["statements"]]
    assert not any("Elif" in entry for entry in entries)
    verified = read_file(json.dumps(bundle).encode()).verify(services.keyring.jwks())
    assert verified.holds
    [check] = [one for one in verified.checks if one.name == "statements"]
    assert check.detail.endswith("digests: dataset, adapter, run, evaluation")
    found = services.chains.of(ENGINEER, receipt_id)
    assert found.broken == []
    assert kinds(found)[:2] == [(0, "receipt", ""), (1, "adapter", "")]
    with pytest.raises(NotFound):
        services.chains.of(STRANGER, receipt_id)


def test_the_steps_of_its_rollouts_are_links_and_one_that_is_left_out_is_noticed(
    services: Services, adapter: Adapter
) -> None:
    rollout = services.rollouts.start(ENGINEER, "acme", "acme", adapter.name, percent=10)
    services.rollouts.step(ENGINEER, rollout.id, 40)
    services.rollouts.rollback(ENGINEER, rollout.id, reason="it repeats itself")
    whole = services.chains.of_adapter(ENGINEER, "acme", adapter.name)
    assert whole.broken == []
    assert len(only(whole, "rollout").parts) == 3
    with services.db.write() as session:
        session.execute(delete(StatementRow).where(StatementRow.seq == 2))
    broken = services.chains.of_adapter(ENGINEER, "acme", adapter.name).broken
    assert [(link.kind, link.problem) for link in broken] == [("step", "previous")]


def test_a_revoked_key_counts_only_for_what_the_log_shows_to_be_older(
    services: Services, adapter: Adapter
) -> None:
    services.audit.sequence()
    kid = services.keyring.key("event").kid
    services.keyring.rotate("event")
    services.keyring.revoke(kid, last_valid_index=10**6, reason="lost")
    assert services.chains.of_adapter(ENGINEER, "acme", adapter.name).broken == []


def test_a_key_that_was_revoked_before_them_makes_no_statement_hold(
    services: Services, adapter: Adapter
) -> None:
    kid = services.keyring.key("event").kid
    services.keyring.rotate("event")
    services.keyring.revoke(kid, last_valid_index=0, reason="lost")
    broken = services.chains.of_adapter(ENGINEER, "acme", adapter.name).broken
    assert {link.problem for link in broken} == {"revoked"}
    assert len(broken) == 4


def test_a_receipt_of_other_weights_does_not_lead_to_the_adapter(
    services: Services, adapter: Adapter
) -> None:
    receipt_id = issue(services, served=adapter.name, adapter_digest="3f" * 32)
    found = services.chains.of(ENGINEER, receipt_id)
    assert only(found, "adapter").problem == "other"
    bundle = services.evidence.bundles.make(ENGINEER, receipt_id)
    assert bundle["statements"] == []


def test_an_answer_of_the_base_model_has_no_chain_behind_it(services: Services) -> None:
    receipt_id = issue(services, served="smollm2-135m-instruct", adapter_digest=None)
    assert kinds(services.chains.of(ENGINEER, receipt_id)) == [(0, "receipt", "")]


def change(services: Services, kind: Kind, **values: Any) -> None:
    with services.db.write() as session:
        session.execute(update(CustodyRow).where(CustodyRow.kind == kind).values(**values))


def issue(services: Services, **changed: Any) -> str:
    """One receipt of acme, as the gateway issues it."""
    now = datetime.now(UTC)
    told = facts(completed_at=now, received_at=now, **changed)
    with services.db.write() as session:
        [entry] = services.audit.append_now(session, [entry_event(told)])
        told = replace(told, audit_seq=entry.seq, audit_leaf_hash=entry.leaf_hash)
        envelope = sign(told, services.keyring.key("receipt"))
        kept = StoredReceipt("r-1", "acme", told.request_id, "key:k-1", envelope, SALT, NOW)
        services.receipts.store(session, kept)
    return "r-1"
