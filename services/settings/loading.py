"""From variables and `param.toml` to `Settings`."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from services.errors import WrongConfiguration
from services.settings.groups import alerts, cluster, evidence, judge, upstreams
from services.settings.model import DEFAULT_BASE_MODEL, SECRETS, Settings
from services.settings.values import home_folder, host_name, integer, log_level, outside_url


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
    home = home_folder(cwd / Path(str(values.get("home", "var"))).expanduser())
    host = str(values.get("host", "127.0.0.1"))
    port = {
        name: integer(values, f"{name}_port", default, 1, 65535)
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
        max_upload_mb=integer(values, "max_upload_mb", 100, 1, 100_000),
        torch_threads=integer(values, "torch_threads", 0, 0, 1024),
        session_hours=integer(values, "session_hours", 12, 1, 24 * 365),
        log_level=log_level(str(values.get("log_level", "INFO")).upper()),
        label_studio_url=outside_url(values, "label_studio_url"),
        label_studio_token=str(values.get("label_studio_token", "")),
        label_studio_hook_secret=str(values.get("label_studio_hook_secret", "")),
        label_studio_every_s=integer(values, "label_studio_every_s", 300, 0, 86_400),
        training_devices=str(values.get("training_devices", "auto")),
        worker_host=host_name(values),
        **upstreams(values),
        **cluster(values),
        **judge(values),
        **alerts(values),
        **evidence(values),
    )
