"""Data sets as files: the same pairs and choices always give the same bytes.

A folder holds `train.jsonl` and `eval.jsonl` (TRL's conversational format with explicit prompt, and
the pair's id), `dropped.jsonl` (every other pair of the tenant, with the reason) and
`manifest.json` (RFC 8785 canonical JSON with the digest of each of them).
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import rfc8785
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.errors import Conflict, InvalidInput, StorageFull
from services.preferences import queries
from services.preferences.models import Manifest, Pair, PairStatus
from services.preferences.store import DecisionRow, PairRow
from services.preferences.text import normalised

PARTS = ("train", "eval", "dropped")
FILES = frozenset({*(f"{part}.jsonl" for part in PARTS), "manifest.json"})
VERSION = "param-console/dataset/v1"


@dataclass(frozen=True)
class Choices:
    """What goes into a data set and how it is split.

    Attributes:
        include_unreviewed: Take pairs that nobody decided on, with the preference that they were
            imported with; the manifest names them.
        eval_fraction: Share of the prompts that is held out, from 0 up to but not including 1.
        seed: Another seed holds other prompts out.
    """

    include_unreviewed: bool = False
    eval_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a fraction that leaves nothing to train on.

        Raises:
            InvalidInput: The fraction is out of range.
        """
        if not 0 <= self.eval_fraction < 1:
            raise InvalidInput(
                f"eval_fraction: expected from 0 to below 1, found {self.eval_fraction}"
            )


def share(seed: int, prompt_key: str) -> float:
    """Where a prompt falls, from 0 to below 1: below the eval fraction it is held out.

    It depends on nothing but the prompt and the seed, so a prompt stays on its side when others
    come or go.
    """
    digest = hashlib.sha256(f"param.split.v1|{seed}|{prompt_key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def pseudonym(tenant_id: str, actor_id: str) -> str:
    """A name for an annotator that tells one from another and nobody who it is."""
    digest = hashlib.sha256(f"param.annotator.v1|{tenant_id}|{actor_id}".encode())
    return digest.hexdigest()[:12]


def write(session: Session, tenant_id: str, choices: Choices, folder: Path) -> Manifest:
    """Write a data set into an empty folder.

    Args:
        session: One consistent state; it may be read twice.

    Raises:
        StorageFull: The disk is full.
    """
    forced: dict[str, str] = {}
    while True:
        tally, parts = _Tally(), _Parts(choices, forced)
        with _Files(folder) as files:
            for chunk in queries.every(session, tenant_id):
                for one in chunk:
                    _put(one, choices, parts, tally, files)
            digests = files.digests()
        # One pass, but for small sets in which chance left one side without any prompt.
        if forced or not (forced := parts.missing()):
            break
    content = _manifest(session, tenant_id, choices, tally, digests)
    data = rfc8785.dumps(content)
    _write_synced(folder / "manifest.json", data)
    rows = {part: digests[f"{part}.jsonl"]["rows"] for part in PARTS}
    return Manifest(
        folder=folder,
        sha256=hashlib.sha256(data).hexdigest(),
        n_train=rows["train"],
        n_eval=rows["eval"],
        n_dropped=rows["dropped"],
        content=content,
    )


def _put(
    one: queries.Stored, choices: Choices, parts: _Parts, tally: _Tally, files: _Files
) -> None:
    reason = _drop_reason(one.pair, choices)
    if reason is None:
        files.add(parts.of(one.prompt_key, one.split), _row(one.pair))
        tally.take(one)
    else:
        tally.dropped[reason] += 1
        files.add("dropped", {"pair_id": one.pair.id, "reason": reason})


class _Parts:
    """The part of each prompt; a prompt is in one part only."""

    def __init__(self, choices: Choices, forced: dict[str, str]) -> None:
        self._choices, self._forced = choices, forced
        self._used: set[str] = set()
        self._first: str | None = None
        self._several = False
        self._free: list[tuple[float, str]] = []

    def of(self, prompt_key: str, bound: str | None) -> str:
        """`train` or `eval`."""
        self._first = self._first or prompt_key
        self._several = self._several or prompt_key != self._first
        place = share(self._choices.seed, prompt_key)
        part = "eval" if place < self._choices.eval_fraction else "train"
        part = bound or self._forced.get(prompt_key, part)
        self._used.add(part)
        if bound is None:
            # The two outermost prompts are all that `missing` needs.
            ends = sorted({*self._free, (place, prompt_key)})
            self._free = ends if len(ends) < 3 else [ends[0], ends[-1]]
        return part

    def missing(self) -> dict[str, str]:
        """The prompt that must change sides lest one part stay empty; empty if none must."""
        wanted = {"train", "eval"} - self._used
        can = self._several and self._free and self._choices.eval_fraction > 0
        if len(wanted) != 1 or not can:
            return {}
        (part,) = wanted
        return {self._free[0 if part == "eval" else -1][1]: part}


def _preferred_id(pair: Pair, choices: Choices) -> str | None:
    if pair.status is PairStatus.APPROVED:
        return pair.chosen_response_id
    if pair.status is PairStatus.UNREVIEWED and choices.include_unreviewed:
        return pair.imported_preference
    return None


def _drop_reason(pair: Pair, choices: Choices) -> str | None:
    """Why a pair is not in the data set; None where it is."""
    if pair.status is PairStatus.REJECTED:
        return "rejected in review"
    if pair.status is PairStatus.UNREVIEWED and not choices.include_unreviewed:
        return "unreviewed"
    if pair.response(_preferred_id(pair, choices)) is None:
        return "no preference"
    first, second = (normalised(response.text) for response in pair.responses)
    if not first or not second:
        return "empty response"
    return "identical responses" if first == second else None


def _row(pair: Pair) -> dict[str, Any]:
    chosen = pair.response(pair.chosen_response_id or pair.imported_preference)
    rejected = next(response for response in pair.responses if response is not chosen)
    return {
        "pair_id": pair.id,
        "prompt": [{"role": turn.role, "content": turn.content} for turn in pair.prompt.turns],
        "chosen": [{"role": "assistant", "content": chosen.text if chosen else ""}],
        "rejected": [{"role": "assistant", "content": rejected.text}],
    }


@dataclass
class _Tally:
    """What the manifest says of the pairs."""

    dropped: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    unreviewed: list[str] = field(default_factory=list)
    demo: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)

    def take(self, one: queries.Stored) -> None:
        pair = one.pair
        self.languages[pair.language] += 1
        self.sources[pair.source] += 1
        if pair.status is PairStatus.UNREVIEWED:
            self.unreviewed.append(pair.id)
        if one.mark == "demo":
            self.demo.append(pair.id)
        if pair.is_edited:
            self.edited.append(pair.id)


def _manifest(
    session: Session, tenant_id: str, choices: Choices, tally: _Tally, digests: dict[str, Any]
) -> dict[str, Any]:
    deciders = session.scalars(
        select(DecisionRow.actor_id)
        .join(PairRow, PairRow.id == DecisionRow.pair_id)
        .where(
            DecisionRow.tenant_id == tenant_id,
            DecisionRow.number == PairRow.decisions,
            DecisionRow.verdict == PairStatus.APPROVED.value,
        )
        .distinct()
    )
    return {
        "format": VERSION,
        "tenant": tenant_id,
        "query": {
            "status": ["approved", "unreviewed"] if choices.include_unreviewed else ["approved"]
        },
        "split": {
            "by": "prompt",
            "eval_fraction": str(choices.eval_fraction),
            "seed": choices.seed,
        },
        "files": digests,
        "counts": {part: digests[f"{part}.jsonl"]["rows"] for part in PARTS},
        "dropped": dict(tally.dropped),
        "languages": dict(tally.languages),
        "sources": dict(tally.sources),
        "annotators": sorted(pseudonym(tenant_id, actor_id) for actor_id in deciders),
        "unreviewed": tally.unreviewed,
        "demo": tally.demo,
        "edited": tally.edited,
    }


class _Files:
    """The three JSON Lines files, digested as they are written."""

    def __init__(self, folder: Path) -> None:
        self._paths = {part: folder / f"{part}.jsonl" for part in PARTS}
        self._open: dict[str, BinaryIO] = {}
        self._digests = {part: hashlib.sha256() for part in PARTS}
        self._rows = Counter[str]()
        self._bytes = Counter[str]()

    def __enter__(self) -> _Files:
        self._open = {part: path.open("wb") for part, path in self._paths.items()}
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()

    def add(self, part: str, row: dict[str, Any]) -> None:
        data = orjson.dumps(row, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
        self._open[part].write(data)
        self._digests[part].update(data)
        self._rows[part] += 1
        self._bytes[part] += len(data)

    def digests(self) -> dict[str, Any]:
        """Digest, size and rows of each file, which are on the disk from then on."""
        for file in self._open.values():
            file.flush()
            os.fsync(file.fileno())
        return {
            f"{part}.jsonl": {
                "sha256": self._digests[part].hexdigest(),
                "bytes": self._bytes[part],
                "rows": self._rows[part],
            }
            for part in PARTS
        }


def is_whole(folder: Path, manifest: Manifest) -> bool:
    """Whether a folder holds exactly the files of a manifest, byte for byte."""
    wanted = {name: facts["sha256"] for name, facts in manifest.content["files"].items()}
    wanted["manifest.json"] = manifest.sha256
    if not folder.is_dir() or {path.name for path in folder.iterdir()} != wanted.keys():
        return False
    for name, digest in wanted.items():
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                return False
    return True


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def reported() -> Iterator[None]:
    """Say a full disk and a refused folder in our words.

    Raises:
        StorageFull: The disk is full.
        InvalidInput: The folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageFull("the disk is full; no data set was written") from error
        raise InvalidInput(
            f"folder {error.filename}: expected one that can be written, found: {error.strerror}"
        ) from error


@dataclass(frozen=True)
class Stage:
    """A place beside the target, where files wait until they are complete.

    Attributes:
        folder: Empty at first.
    """

    folder: Path

    def place(self, target: Path) -> None:
        """Put the folder in the target's place in one step.

        Raises:
            Conflict: Something that is no data set has come there meanwhile.
        """
        _refuse_other(target)
        if target.exists():
            target.rename(self.folder.parent / "former")
        self.folder.rename(target)


@contextmanager
def staged(target: Path) -> Iterator[Stage]:
    """A stage for the target; what is not put in place by the end is removed.

    Raises:
        Conflict: The target is there and holds something that is no data set.
        StorageFull: The disk is full.
        InvalidInput: The folder cannot be written.
    """
    with reported():
        target = target.absolute()
        _refuse_other(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            folder = work / "new"
            folder.mkdir()
            yield Stage(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _refuse_other(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise Conflict(f"{target.name}: expected a folder or nothing there, found a file")
    names = {path.name for path in target.iterdir()}
    if other := sorted(names - FILES):
        raise Conflict(
            f"folder {target.name}: expected it empty or with an earlier export, "
            f"found {other[0]!r}; nothing was written"
        )
