import shutil
import threading
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from services.audit.outbox import OutboxRow
from services.db import Database
from services.errors import (
    Conflict,
    DigestMismatch,
    GateFailed,
    InvalidInput,
    MissingModel,
    NotFound,
    NotPermitted,
    StorageFull,
)
from services.registry import folders
from services.registry.digest import adapter_digest
from services.registry.models import Adapter, Admission
from services.registry.service import Registry
from services.tenants.models import Actor, Role
from tests.conftest import free_port, require
from tests.services.registry.adapters import BASE_DIGEST, DATASET_SHA256, write_adapter

ENGINEER = Actor("user", "u1", "Elif", {"legal": frozenset({Role.ENGINEER})})
MANAGER = Actor("user", "u2", "Mert", {"legal": frozenset({Role.MANAGER})})
STRANGER = Actor("user", "u3", "Nil", {"medical": frozenset({Role.ENGINEER})})
PASSED = Admission.by_gate(passed=True, shortfalls=(), reason="")


def choose(registry: Registry, actor: Actor, tenant_id: str, name: str) -> None:
    registry.set_champion(actor, tenant_id, name, PASSED)


@pytest.fixture
def registry(database: Database, tmp_path: Path) -> Registry:
    """MLflow is a server at which nobody listens: registration must not need it."""
    return Registry(database, tmp_path / "adapters", f"http://127.0.0.1:{free_port()}")


def register(
    registry: Registry, folder: Path, actor: Actor = ENGINEER, **changes: object
) -> Adapter:
    facts = {
        "alias": "legal", "folder": folder, "base_model": "smollm2", "base_digest": BASE_DIGEST,
        "run_id": "run-1", "dataset_sha256": DATASET_SHA256, "metrics": {"loss": 0.25},
    } | changes  # fmt: skip
    return registry.register(actor, str(facts.pop("tenant_id", "legal")), **facts)  # type: ignore[arg-type]


def actions(registry: Registry) -> list[str]:
    with registry.db.read() as session:
        return list(session.scalars(select(OutboxRow.action).order_by(OutboxRow.id)))


def test_another_tenant_can_neither_see_nor_register_nor_choose(
    registry: Registry, tmp_path: Path
) -> None:
    name = register(registry, write_adapter(tmp_path / "a")).name
    for refused in (
        lambda: registry.get(STRANGER, "legal", name),
        lambda: registry.list(STRANGER, "legal"),
        lambda: registry.lineage(STRANGER, "legal", name),
        lambda: registry.of_run(STRANGER, "legal", "run-1"),
        lambda: registry.champion(STRANGER, "legal", "legal"),
        lambda: registry.set_champion(STRANGER, "legal", name, PASSED),
        lambda: register(registry, tmp_path / "a", STRANGER),
    ):
        with pytest.raises(NotPermitted):
            refused()
    assert registry.list(STRANGER, "medical") == []
    assert registry.of_run(STRANGER, "medical", "run-1") is None
    with pytest.raises(NotFound, match="tenant medical has no adapter"):
        registry.get(STRANGER, "medical", name)


def test_a_manager_reads_but_neither_registers_nor_chooses(
    registry: Registry, tmp_path: Path
) -> None:
    name = register(registry, write_adapter(tmp_path / "a")).name
    assert registry.get(MANAGER, "legal", name).name == name
    with pytest.raises(NotPermitted, match="train"):
        register(registry, tmp_path / "a", MANAGER)
    with pytest.raises(NotPermitted, match="served"):
        registry.set_champion(MANAGER, "legal", name, PASSED)


def test_the_name_is_the_alias_and_the_first_twelve_digits(
    registry: Registry, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "a")
    adapter = register(registry, folder)
    assert adapter.name == f"legal-{adapter_digest(folder)[:12]}"
    assert adapter.path == tmp_path / "adapters" / adapter.name
    assert registry.verify_digest(adapter) == adapter.digest
    assert adapter.size_bytes == (folder / "adapter_model.safetensors").stat().st_size
    assert adapter.metrics == {"loss": 0.25}


def test_registering_again_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    first = register(registry, write_adapter(tmp_path / "a"))
    assert register(registry, tmp_path / "a") == first
    assert registry.list(ENGINEER, "legal") == [first]
    assert actions(registry) == ["adapter.registered"]


def test_a_registration_that_died_after_the_copy_is_finished_by_the_next(
    registry: Registry, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "a")
    digest = adapter_digest(folder)
    folders.place(folder, registry.adapters_dir, f"legal-{digest[:12]}", digest)
    assert register(registry, folder).digest == digest
    assert [path.name for path in registry.adapters_dir.iterdir()] == [f"legal-{digest[:12]}"]


def test_equal_bytes_of_a_second_run_are_one_adapter_with_two_origins(
    registry: Registry, tmp_path: Path
) -> None:
    first = register(registry, write_adapter(tmp_path / "a"))
    again = register(registry, tmp_path / "a", run_id="run-2", dataset_sha256="e" * 64)
    assert again == first
    lineage = registry.lineage(ENGINEER, "legal", first.name)
    assert lineage.runs == (("run-1", DATASET_SHA256), ("run-2", "e" * 64))
    assert (lineage.run_id, lineage.dataset_sha256) == ("run-1", DATASET_SHA256)
    assert lineage.as_json()["runs"][1] == {"run_id": "run-2", "dataset_sha256": "e" * 64}
    assert registry.of_run(ENGINEER, "legal", "run-2") == first


def test_two_tenants_with_equal_bytes_share_no_row(registry: Registry, tmp_path: Path) -> None:
    ours = register(registry, write_adapter(tmp_path / "a"))
    theirs = register(registry, tmp_path / "a", STRANGER, tenant_id="medical", run_id="run-2")
    assert (ours.name, ours.tenant_id, ours.run_id) == (theirs.name, "legal", "run-1")
    assert (theirs.tenant_id, theirs.run_id) == ("medical", "run-2")
    assert registry.lineage(STRANGER, "medical", theirs.name).runs == (("run-2", DATASET_SHA256),)


def test_a_run_that_comes_back_with_other_bytes_is_refused(
    registry: Registry, tmp_path: Path
) -> None:
    register(registry, write_adapter(tmp_path / "a"))
    with pytest.raises(Conflict, match="run run-1"):
        register(registry, write_adapter(tmp_path / "b", seed=1))
    assert len(registry.list(ENGINEER, "legal")) == 1


def test_an_adapter_is_bound_to_one_base_model(registry: Registry, tmp_path: Path) -> None:
    register(registry, write_adapter(tmp_path / "a"))
    with pytest.raises(Conflict, match="expected base model digest bbbb"):
        register(registry, tmp_path / "a", run_id="run-2", base_digest="c" * 64)


@pytest.mark.parametrize(
    "alias", ["", "Legal", "-legal", "a/b", "..", "../up", "a.b", "ş", "a" * 49, "legal\n"]
)
def test_an_alias_that_could_leave_the_folder_is_refused(
    registry: Registry, tmp_path: Path, alias: str
) -> None:
    with pytest.raises(InvalidInput, match="alias: expected"):
        register(registry, write_adapter(tmp_path / "a"), alias=alias)
    assert not registry.adapters_dir.exists()


@pytest.mark.parametrize("name", ["../legal-0123456789ab", "legal", "legal-0123456789ab/..", ""])
def test_a_name_of_another_form_never_becomes_a_path(registry: Registry, name: str) -> None:
    for look in (registry.get, registry.lineage, partial(choose, registry)):
        with pytest.raises(InvalidInput, match="adapter name: expected"):
            look(ENGINEER, "legal", name)


@pytest.mark.parametrize("field", ["base_digest", "dataset_sha256"])
def test_a_short_digest_is_refused(registry: Registry, tmp_path: Path, field: str) -> None:
    with pytest.raises(InvalidInput, match="64 lower-case hex digits"):
        register(registry, write_adapter(tmp_path / "a"), **{field: "abc"})


def test_changed_weights_no_longer_match_their_name(registry: Registry, tmp_path: Path) -> None:
    adapter = register(registry, write_adapter(tmp_path / "a"))
    weights = adapter.path / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestMismatch, match=f"expected digest {adapter.digest}"):
        registry.verify_digest(adapter)
    with pytest.raises(DigestMismatch):
        register(registry, tmp_path / "a", run_id="run-2")


def test_other_bytes_under_the_same_twelve_digits_are_refused(
    registry: Registry, tmp_path: Path
) -> None:
    adapter = register(registry, write_adapter(tmp_path / "a"))
    with registry.db.write() as session:
        from services.registry.store import AdapterRow

        row = session.get(AdapterRow, ("legal", adapter.name))
        assert row is not None
        row.digest = adapter.digest[:12] + "0" * 52
    with pytest.raises(DigestMismatch, match="another adapter bears this name"):
        register(registry, tmp_path / "a", STRANGER, tenant_id="medical", run_id="run-2")


def test_a_folder_that_is_gone_is_told_apart_from_changed_weights(
    registry: Registry, tmp_path: Path
) -> None:
    adapter = register(registry, write_adapter(tmp_path / "a"))
    shutil.rmtree(adapter.path)
    with pytest.raises(MissingModel):
        registry.verify_digest(adapter)
    register(registry, tmp_path / "a")
    assert registry.verify_digest(adapter) == adapter.digest


def test_only_the_two_proven_files_are_copied_and_read_only(
    registry: Registry, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / "optimizer.pt").write_bytes(b"pickle")
    copied = register(registry, folder).path
    modes = {path.name: path.stat().st_mode & 0o777 for path in copied.iterdir()}
    assert modes == {"adapter_config.json": 0o444, "adapter_model.safetensors": 0o444}


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    require(Path("/dev/full").exists(), "/dev/full")
    source = write_adapter(tmp_path / "a")
    digest = adapter_digest(source)
    with pytest.raises(StorageFull, match="no space left"):
        folders.place(source, tmp_path / "adapters", "legal-x", digest, copy=_onto_full_disk)
    assert list((tmp_path / "adapters").iterdir()) == []


def _onto_full_disk(source: Path, target: Path) -> None:
    (target / "adapter_config.json").write_bytes(b"{}")
    with Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")


def test_workers_that_register_the_same_run_at_once_agree(
    registry: Registry, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "a")
    found: list[Adapter] = []
    threads = [
        threading.Thread(target=lambda: found.append(register(registry, folder))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({adapter.name for adapter in found}) == 1
    assert actions(registry) == ["adapter.registered"]


def test_the_latest_choice_is_the_champion_and_earlier_ones_stay(
    registry: Registry, tmp_path: Path
) -> None:
    assert registry.champion(ENGINEER, "legal", "legal") is None
    old = register(registry, write_adapter(tmp_path / "a"))
    new = register(registry, write_adapter(tmp_path / "b", seed=1), run_id="run-2")
    registry.set_champion(ENGINEER, "legal", old.name, PASSED)
    registry.set_champion(ENGINEER, "legal", new.name, PASSED)
    champion = registry.champion(MANAGER, "legal", "legal")
    assert champion is not None
    assert (champion.adapter, champion.actor_name) == (new.name, "Elif")
    assert actions(registry).count("adapter.champion_set") == 2


def test_the_audit_event_names_the_whole_chain(registry: Registry, tmp_path: Path) -> None:
    adapter = register(registry, write_adapter(tmp_path / "a"))
    with registry.db.read() as session:
        row = session.scalars(select(OutboxRow)).one()
    assert (row.subject, row.tenant_id) == (f"adapter:{adapter.name}", "legal")
    assert row.details == {
        "digest": adapter.digest, "run_id": "run-1", "dataset_sha256": DATASET_SHA256,
        "base_model": "smollm2", "base_digest": BASE_DIGEST, "size_bytes": adapter.size_bytes,
    }  # fmt: skip


def test_nobody_becomes_champion_without_a_passed_gate_or_a_reason() -> None:
    with pytest.raises(GateFailed, match="found neither: It was never evaluated"):
        Admission.by_gate(passed=False, shortfalls=("It was never evaluated.",), reason="  ")
    with pytest.raises(InvalidInput, match="a reason to restore"):
        Admission.restored(" ")


@pytest.mark.parametrize(
    ("admission", "told"),
    [
        (PASSED, {"admission": "gate", "reason": "", "shortfalls": []}),
        (
            Admission.by_gate(passed=False, shortfalls=("Too few.",), reason=" the board asked "),
            {"admission": "override", "reason": "the board asked", "shortfalls": ["Too few."]},
        ),
        (
            Admission.restored("errors"),
            {"admission": "restored", "reason": "errors", "shortfalls": []},
        ),
    ],
)
def test_the_log_tells_why_an_adapter_became_champion(
    registry: Registry, tmp_path: Path, admission: Admission, told: dict[str, object]
) -> None:
    adapter = register(registry, write_adapter(tmp_path / "a"))
    registry.set_champion(ENGINEER, "legal", adapter.name, admission)
    with registry.db.read() as session:
        rows = session.scalars(select(OutboxRow)).all()
    (row,) = [row for row in rows if row.action == "adapter.champion_set"]
    assert row.details == {"alias": "legal", "digest": adapter.digest, **told}
