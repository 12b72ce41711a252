"""Installs a Label Studio server into an environment of its own, and says how it is started.

`python -m labeling.label_studio.install` serves tests and trials on one machine. The server pins
older versions of many libraries than the console, so the two cannot share one environment. It is
Django's development server over SQLite: a team runs Label Studio as its makers describe.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

from services.errors import ConsoleError, MissingModel, Unavailable

REQUIREMENT = "label-studio==1.23.2"
ENVIRONMENT = ".venv-label-studio"
TOKEN_LENGTH = 40
"""Longest access token that the server takes, characters."""

_CHECK = "import importlib.metadata as m; print('label-studio', m.version('label-studio'))"
_PRIVATE = (
    "0.0.0.0/8,10.0.0.0/8,100.64.0.0/10,169.254.0.0/16,172.16.0.0/12,192.0.0.0/24,192.168.0.0/16,"
    "198.18.0.0/15,224.0.0.0/4,240.0.0.0/4,::1/128,fc00::/7,fe80::/10"
)
"""Networks that webhooks may not reach. The server's own list also holds 127.0.0.0/8, where the
gateway is on one machine."""


def install(environment: Path) -> None:
    """Make the environment, or bring an existing one up to date.

    Args:
        environment: Folder of the new virtual environment; about 0.8 GB.

    Raises:
        Unavailable: Something cannot be fetched or installed; what it is has been told.
    """
    python = environment / "bin" / "python"
    if not python.is_file():
        venv.create(environment, with_pip=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    # uv takes seconds where pip takes minutes; both read the same package index.
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    _run([*([uv, "pip", "install", "--python", str(python)] if uv else pip), "-q", REQUIREMENT])
    _run([str(python), "-c", _CHECK])


def find_program(root: Path, environment: str | None = None) -> Path:
    """The server's program.

    Args:
        root: Folder in which `make label-studio` was run.
        environment: Another virtual environment that holds it.

    Raises:
        MissingModel: It is not installed there.
    """
    folder = Path(environment) if environment else root / ENVIRONMENT
    program = folder / "bin" / "label-studio"
    if not program.is_file():
        raise MissingModel(
            f"expected Label Studio at {program}, found nothing; install it with: make label-studio"
        )
    return program


def command(program: Path, port: int) -> list[str]:
    """How the server is started, on loopback. A port that is taken is silently replaced."""
    return [
        str(program), "start", "--no-browser", "--internal-host", "127.0.0.1", "-p", str(port),
    ]  # fmt: skip


def environment(folder: Path, *, email: str, password: str, token: str) -> Mapping[str, str]:
    """What the server is told: where its data is, who its first account is, and to stay at home.

    Args:
        folder: Of its SQLite database and files.
        token: Of the first account, at most `TOKEN_LENGTH` characters; it counts only when the
            database is new.
    """
    return {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "XDG_CONFIG_HOME": str(folder / "xdg"),
        "XDG_DATA_HOME": str(folder / "xdg"),
        "LABEL_STUDIO_USERNAME": email,
        "LABEL_STUDIO_PASSWORD": password,
        "LABEL_STUDIO_USER_TOKEN": token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS": "false",
        "LABEL_STUDIO_USER_ADDITIONAL_BANNED_SUBNETS": _PRIVATE,
        "LATEST_VERSION_CHECK": "false",
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "DEBUG": "false",
        "LOG_LEVEL": "WARNING",
    }


def _run(command: list[str]) -> None:
    """Run a step; what it prints is shown as it comes."""
    if (code := subprocess.run(command, check=False).returncode) != 0:
        raise Unavailable(f"{' '.join(command[:5])} … failed with exit code {code} (see above)")


def main() -> int:
    """Install; 1 if it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m labeling.label_studio.install")
    parser.add_argument("environment", nargs="?", type=Path, default=Path(ENVIRONMENT))
    try:
        install(parser.parse_args().environment.absolute())
    except ConsoleError as error:
        print(f"label-studio: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
