"""From a pair to the runs that learned from it, and from an adapter back to its pairs and people.

Everything is read from what was frozen with the data: a data set's `provenance.jsonl` names each
pair, where it came from, and who decided, by a pseudonym. Nobody's name is looked up here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.errors import InvalidInput, NotFound
from services.preferences.models import Dataset
from services.preferences.service import Preferences
from services.registry.models import Adapter, Champion
from services.registry.service import Registry
from services.tenants.models import Actor

MAX_ID_CHARS = 100


@dataclass(frozen=True)
class KnownRun:
    """A training run, as lineage needs it.

    Attributes:
        status: Where it stands, in one word.
        adapter: What came out; None for nothing yet.
    """

    id: str
    dataset_sha256: str
    status: str
    adapter: str | None


@dataclass(frozen=True)
class LearnedPair:
    """One pair of a frozen data set.

    Attributes:
        part: `train` or `eval`: only pairs of `train` were learned from.
        decided_by: Pseudonym of who decided; empty for nobody.
        by_person: Whether a person decided on this very pair.
    """

    pair_id: str
    part: str
    source: str
    source_line: int | None
    language: str
    status: str
    mark: str
    decided_by: str
    by_person: bool


@dataclass(frozen=True)
class AdapterLineage:
    """An adapter, back to its pairs and people.

    Attributes:
        runs: Every run that made these bytes.
        datasets: What they learned from, as far as it is still there.
        missing: Digests of data sets that are not.
        pairs: Of those data sets, each pair once.
    """

    adapter: Adapter
    runs: tuple[KnownRun, ...]
    datasets: tuple[Dataset, ...]
    missing: tuple[str, ...]
    pairs: tuple[LearnedPair, ...]
    champion: Champion | None

    @property
    def learned(self) -> tuple[LearnedPair, ...]:
        """The pairs that it was trained on."""
        return tuple(pair for pair in self.pairs if pair.part == "train")

    @property
    def people(self) -> Counter[str]:
        """Pairs that it was trained on, by the pseudonym of who decided."""
        return Counter(pair.decided_by for pair in self.learned)


@dataclass(frozen=True)
class PairLineage:
    """A pair, on to the data sets that hold it and the runs and adapters that learned from it.

    Attributes:
        held: Each data set that holds it, with what it says of the pair.
        runs: Runs of data sets in whose `train` part it is; the others never learned from it.
    """

    pair_id: str
    held: tuple[tuple[Dataset, LearnedPair], ...]
    runs: tuple[KnownRun, ...]

    @property
    def adapters(self) -> tuple[str, ...]:
        """What came out of those runs, each once."""
        return tuple(dict.fromkeys(run.adapter for run in self.runs if run.adapter is not None))


class Lineages:
    """Follows pairs and adapters through one tenant's data sets and runs."""

    def __init__(self, registry: Registry, preferences: Preferences) -> None:
        self._registry = registry
        self._preferences = preferences

    def of_adapter(
        self, actor: Actor, tenant_id: str, name: str, runs: Sequence[KnownRun]
    ) -> AdapterLineage:
        """Where an adapter comes from.

        Args:
            runs: The tenant's runs; those that the registry alone remembers are added.

        Raises:
            NotPermitted: The actor may read neither models nor pairs of the tenant.
            NotFound: The tenant has no such adapter.
        """
        adapter = self._registry.get(actor, tenant_id, name)
        origins = self._registry.lineage(actor, tenant_id, name).runs
        known = {run.id: run for run in runs}
        made = tuple(
            known.get(run_id) or KnownRun(run_id, sha256, "", adapter.name)
            for run_id, sha256 in origins
        )
        by_digest = {one.sha256: one for one in self._preferences.datasets(actor, tenant_id)}
        wanted = dict.fromkeys(run.dataset_sha256 for run in made)
        datasets = tuple(by_digest[digest] for digest in wanted if digest in by_digest)
        pairs: dict[str, LearnedPair] = {}
        for dataset in datasets:
            for pair in _provenance(dataset):
                if pairs.get(pair.pair_id, pair).part != "train":
                    pairs[pair.pair_id] = pair
                pairs.setdefault(pair.pair_id, pair)
        return AdapterLineage(
            adapter=adapter,
            runs=made,
            datasets=datasets,
            missing=tuple(digest for digest in wanted if digest not in by_digest),
            pairs=tuple(pairs.values()),
            champion=self._registry.champion(actor, tenant_id, adapter.alias),
        )

    def of_pair(
        self, actor: Actor, tenant_id: str, pair_id: str, runs: Sequence[KnownRun]
    ) -> PairLineage:
        """Who learned from a pair.

        Raises:
            NotPermitted: The actor may not read pairs of the tenant.
            InvalidInput: The id is empty or too long.
            NotFound: The tenant has no such pair.
        """
        wanted = pair_id.strip()
        if not 0 < len(wanted) <= MAX_ID_CHARS:
            raise InvalidInput(
                f"pair id: expected 1 to {MAX_ID_CHARS} characters, found {len(wanted)}"
            ).because("length", field="pair_id", low=1, high=MAX_ID_CHARS, found=len(wanted))
        datasets = self._preferences.datasets(actor, tenant_id)
        held = tuple(
            (dataset, pair)
            for dataset in datasets
            for pair in _provenance(dataset, containing=wanted)
            if pair.pair_id == wanted
        )
        if not held:
            # Refuses an id that is none of the tenant's; a pair in no data set is no refusal.
            self._preferences.pair(actor, tenant_id, wanted)
        learned = {dataset.sha256 for dataset, pair in held if pair.part == "train"}
        return PairLineage(
            pair_id=wanted,
            held=held,
            runs=tuple(run for run in runs if run.dataset_sha256 in learned),
        )


def _provenance(dataset: Dataset, *, containing: str = "") -> Iterator[LearnedPair]:
    """What a data set's file says of its pairs.

    Args:
        containing: Only lines that hold this text are read: a file may have 100,000.

    Raises:
        NotFound: The file is gone, or not what was frozen.
    """
    path = dataset.folder / "provenance.jsonl"
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                if containing in line:
                    yield _pair(json.loads(line))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotFound(
            f"data set {dataset.id}: expected {path.name} with its pairs, "
            f"found {type(error).__name__}"
        ) from error


def _pair(row: dict[str, object]) -> LearnedPair:
    line = row["source_line"]
    return LearnedPair(
        pair_id=str(row["pair_id"]),
        part=str(row["part"]),
        source=str(row["source"]),
        source_line=line if isinstance(line, int) else None,
        language=str(row["language"]),
        status=str(row["status"]),
        mark=str(row["mark"] or ""),
        decided_by=str(row["decided_by"] or ""),
        by_person=bool(row["by_person"]),
    )
