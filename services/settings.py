"""Configuration, read once: the environment (`PARAM_*`) over an optional `param.toml`.

Owns every default and every environment variable; refuses values that cannot work, naming the
variable. Nothing else in the project reads the environment.
"""

from __future__ import annotations

import logging
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from services.errors import WrongConfiguration

DEFAULT_BASE_MODEL = "smollm2-135m-instruct"
SECRETS = ("label_studio_token", "label_studio_hook_secret")
"""Settings that come from the environment, or from the file that `PARAM_…_FILE` names."""


@dataclass(frozen=True)
class Settings:
    """Everything that may differ between two installations.

    Attributes:
        home: Folder of all state (`PARAM_HOME`).
        database_url: SQLAlchemy URL; SQLite in `home` unless set.
        host: Address that every process listens on.
        gateway_port: TCP port of the gateway; likewise the other ports.
        gateway_url: Where the playground and the console reach the gateway.
        engine_url: Where the gateway reaches the engine, without `/v1`.
        base_model: A name that `param model pull` knows, a local folder, or a Hugging Face id.
        mlflow_tracking_uri: MLflow store; SQLite in `home` unless set.
        issuer: Name of this installation in receipts.
        max_upload_mb: Largest file that is imported, MiB.
        torch_threads: CPU threads of the engine and of training; 0 leaves it to torch.
        session_hours: How long a sign-in lasts, hours.
        log_level: Level name of the `logging` module.
        label_studio_url: Where a Label Studio server answers; empty for none.
        label_studio_token: Access token of the account that synchronises; a secret.
        label_studio_hook_secret: What the secret of each project's webhook is made from; empty
            for no webhooks; a secret.
        label_studio_every_s: Pause between two looks at Label Studio, seconds; 0 for never.
    """

    home: Path
    database_url: str
    host: str
    gateway_port: int
    engine_port: int
    console_port: int
    playground_port: int
    gateway_url: str
    console_url: str
    playground_url: str
    engine_url: str
    base_model: str
    mlflow_tracking_uri: str
    issuer: str
    max_upload_mb: int
    torch_threads: int
    session_hours: int
    log_level: str
    label_studio_url: str = ""
    label_studio_token: str = field(default="", repr=False)
    label_studio_hook_secret: str = field(default="", repr=False)
    label_studio_every_s: int = 300

    @property
    def models_dir(self) -> Path:
        """Folder of the pulled base models."""
        return self.home / "models"

    @property
    def adapters_dir(self) -> Path:
        """Folder of registered adapters, one folder each, named by the adapter."""
        return self.home / "adapters"

    @property
    def runs_dir(self) -> Path:
        """Folder of training and evaluation runs."""
        return self.home / "runs"

    @property
    def datasets_dir(self) -> Path:
        """Folder of frozen dataset snapshots."""
        return self.home / "datasets"

    @property
    def keys_dir(self) -> Path:
        """Folder of signing keys, mode 0700."""
        return self.home / "keys"


def load(environ: Mapping[str, str] | None = None, *, directory: Path | None = None) -> Settings:
    """Read the configuration of this process.

    Args:
        environ: Variables to read instead of the process's own.
        directory: Folder in which `param.toml` is looked for; the working directory by default.

    Raises:
        WrongConfiguration: `param.toml` cannot be parsed, holds an unknown key, or a value is
            of the wrong kind or out of range.
    """
    env = os.environ if environ is None else environ
    cwd = Path.cwd() if directory is None else directory
    values = _read_toml(_config_file(env, cwd))
    for known in fields(Settings):
        variable = f"PARAM_{known.name.upper()}"
        if env.get(variable):
            values[known.name] = env[variable]
        elif known.name in SECRETS and env.get(f"{variable}_FILE"):
            values[known.name] = _secret(f"{variable}_FILE", Path(env[f"{variable}_FILE"]))
    if env.get("MLFLOW_TRACKING_URI"):
        values["mlflow_tracking_uri"] = env["MLFLOW_TRACKING_URI"]
    return _build(values, cwd)


def _config_file(env: Mapping[str, str], cwd: Path) -> Path:
    named = env.get("PARAM_CONFIG")
    if named and not Path(named).is_file():
        raise WrongConfiguration(f"PARAM_CONFIG: expected a file, found none at {named}")
    return Path(named) if named else cwd / "param.toml"


def _secret(variable: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongConfiguration(
            f"{variable}: expected a text file that can be read, found none at {path}"
        ) from error


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongConfiguration(f"{path.name}: expected TOML, found {error}") from error
    if named := sorted(set(values) & set(SECRETS)):
        raise WrongConfiguration(
            f"{path.name}: {named[0]} is a secret; set PARAM_{named[0].upper()}, or name a file "
            f"that holds it in PARAM_{named[0].upper()}_FILE"
        )
    known = {one.name for one in fields(Settings)} - set(SECRETS)
    if unknown := sorted(set(values) - known):
        raise WrongConfiguration(
            f"{path.name}: unknown key {unknown[0]!r}; known keys are {', '.join(sorted(known))}"
        )
    return values


def _build(values: dict[str, Any], cwd: Path) -> Settings:
    home = _home(cwd / Path(str(values.get("home", "var"))).expanduser())
    host = str(values.get("host", "127.0.0.1"))
    port = {
        name: _integer(values, f"{name}_port", default, 1, 65535)
        for name, default in (
            ("gateway", 8080), ("engine", 8000), ("console", 8501), ("playground", 7860),
        )
    }  # fmt: skip
    reach = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104

    def url(name: str) -> str:
        found = str(values.get(f"{name}_url", f"http://{reach}:{port[name]}")).rstrip("/")
        if not found.startswith(("http://", "https://")):
            raise WrongConfiguration(
                f"PARAM_{name.upper()}_URL: expected http://… or https://…, found {found!r}"
            )
        return found

    return Settings(
        home=home,
        database_url=str(values.get("database_url", f"sqlite:///{home / 'param.db'}")),
        host=host,
        gateway_port=port["gateway"],
        engine_port=port["engine"],
        console_port=port["console"],
        playground_port=port["playground"],
        gateway_url=url("gateway"),
        console_url=url("console"),
        playground_url=url("playground"),
        engine_url=url("engine").removesuffix("/v1"),
        base_model=str(values.get("base_model", DEFAULT_BASE_MODEL)),
        mlflow_tracking_uri=str(
            values.get("mlflow_tracking_uri", f"sqlite:///{home / 'mlflow.db'}")
        ),
        issuer=str(values.get("issuer", "param-console.local")),
        max_upload_mb=_integer(values, "max_upload_mb", 100, 1, 100_000),
        torch_threads=_integer(values, "torch_threads", 0, 0, 1024),
        session_hours=_integer(values, "session_hours", 12, 1, 24 * 365),
        log_level=_log_level(str(values.get("log_level", "INFO")).upper()),
        label_studio_url=_outside_url(values, "label_studio_url"),
        label_studio_token=str(values.get("label_studio_token", "")),
        label_studio_hook_secret=str(values.get("label_studio_hook_secret", "")),
        label_studio_every_s=_integer(values, "label_studio_every_s", 300, 0, 86_400),
    )


def _outside_url(values: Mapping[str, Any], name: str) -> str:
    """Address of a server that need not be there."""
    found = str(values.get(name, "")).rstrip("/")
    if found and not found.startswith(("http://", "https://")):
        raise WrongConfiguration(
            f"PARAM_{name.upper()}: expected http://… or https://…, found {found!r}"
        )
    return found


def _home(path: Path) -> Path:
    """The folder of all state, which is made later, where it can be made."""
    home = path.resolve()
    nearest = next(folder for folder in (home, *home.parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise WrongConfiguration(
            f"PARAM_HOME: expected a folder that can be written, or its place, found {nearest}"
        )
    return home


def _log_level(name: str) -> str:
    levels = logging.getLevelNamesMapping()
    if name not in levels:
        raise WrongConfiguration(
            f"PARAM_LOG_LEVEL: expected one of {', '.join(levels)}, found {name!r}"
        )
    return name


def _integer(values: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    raw = values.get(name, default)
    try:
        number = int(raw)
    except (TypeError, ValueError):
        number = low - 1
    if not low <= number <= high:
        raise WrongConfiguration(
            f"PARAM_{name.upper()}: expected a whole number from {low} to {high}, found {raw!r}"
        )
    return number
