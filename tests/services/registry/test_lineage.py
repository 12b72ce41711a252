"""From a pair to what learned from it, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.db import Database
from services.errors import InvalidInput, NotFound, NotPermitted
from services.registry.lineage import KnownRun, Lineages
from services.registry.mirror import _tags
from services.tenants.names import pseudonym
from tests.services.evaluation.world import ANNOTATOR, ENGINEER, STRANGER, World, build


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return build(database, tmp_path)


@pytest.fixture
def lineages(world: World) -> Lineages:
    return Lineages(world.registry, world.preferences)


def run(world: World, name: str = "run-1", adapter: str | None = None) -> KnownRun:
    return KnownRun(name, world.dataset.sha256, "succeeded", adapter)


def test_an_adapter_leads_back_to_every_pair_and_person(world: World, lineages: Lineages) -> None:
    found = lineages.of_adapter(ENGINEER, "legal", world.adapter.name, [])
    assert [one.id for one in found.runs] == ["run-1"]
    assert [one.id for one in found.datasets] == [world.dataset.id]
    assert (len(found.learned), len(found.pairs)) == (
        world.dataset.n_train, world.dataset.n_train + world.dataset.n_eval,
    )  # fmt: skip
    assert set(found.people) == {pseudonym("legal", ENGINEER.id)}
    assert "Elif" not in repr(found)
    assert ENGINEER.id not in {pair.decided_by for pair in found.pairs}


def test_a_learned_pair_leads_to_runs_and_adapters_and_a_held_out_one_to_none(
    world: World, lineages: Lineages
) -> None:
    known = lineages.of_adapter(ENGINEER, "legal", world.adapter.name, [])
    learned = known.learned[0].pair_id
    held_out = next(pair.pair_id for pair in known.pairs if pair.part == "eval")
    runs = [run(world, adapter=world.adapter.name), run(world, "run-2"),
            KnownRun("run-3", "0" * 64, "succeeded", "other-000000000000")]  # fmt: skip
    found = lineages.of_pair(ENGINEER, "legal", f" {learned} ", runs)
    assert [one.id for one in found.runs] == ["run-1", "run-2"]
    assert found.adapters == (world.adapter.name,)
    spared = lineages.of_pair(ENGINEER, "legal", held_out, runs)
    assert (len(spared.held), spared.runs, spared.adapters) == (1, (), ())


def test_a_data_set_that_is_gone_is_named(world: World, lineages: Lineages) -> None:
    (world.dataset.folder / "provenance.jsonl").unlink()
    with pytest.raises(NotFound, match=r"expected provenance.jsonl with its pairs, found FileNot"):
        lineages.of_adapter(ENGINEER, "legal", world.adapter.name, [])


def test_lineage_stays_within_the_tenant(world: World, lineages: Lineages) -> None:
    pair_id = world.preferences.pairs(ENGINEER, "legal", limit=1).pairs[0].id
    for actor in (STRANGER, ANNOTATOR):
        with pytest.raises(NotPermitted):
            lineages.of_adapter(actor, "legal", world.adapter.name, [])
        with pytest.raises(NotPermitted):
            lineages.of_pair(actor, "legal", pair_id, [])
    with pytest.raises(NotFound):
        lineages.of_pair(STRANGER, "medical", pair_id, [])
    with pytest.raises(NotFound):
        lineages.of_adapter(STRANGER, "medical", world.adapter.name, [])


@pytest.mark.parametrize("pair_id", ["", "  ", "x" * 101])
def test_an_id_of_no_pair_is_refused(lineages: Lineages, pair_id: str) -> None:
    with pytest.raises(InvalidInput, match="pair id: expected 1 to 100"):
        lineages.of_pair(ENGINEER, "legal", pair_id, [])


def test_mlflow_is_told_the_digest_of_every_file(world: World) -> None:
    tags = _tags(world.adapter, world.registry._files(world.adapter))
    files = world.dataset.manifest["files"]
    assert tags["param.file_sha256.train.jsonl"] == files["train.jsonl"]["sha256"]
    assert tags["param.file_sha256.eval.jsonl"] == files["eval.jsonl"]["sha256"]
    assert len(tags["param.adapter_sha256"]) == len(tags["param.config_sha256"]) == 64
