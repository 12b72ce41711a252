"""Which programs make up an installation, and how each is started."""

from __future__ import annotations

import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from urllib.parse import urlsplit

from console.processes.ports import Port
from console.processes.supervision import Program
from services.errors import NotFound, WrongConfiguration
from services.settings import SECRETS, Settings

ROOT = Path(__file__).parents[2]
NAMES = ("engine", "gateway", "worker", "console", "playground")
PYTHON = sys.executable
QUIET = {
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",  # models are fetched by `param model pull` only
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Nothing here calls home."""


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a child process: the parent's own, with every setting written out.

    So all processes of one start agree, whatever folder they run in and whatever becomes of
    `param.toml` meanwhile.
    """
    inherited = dict(os.environ)  # noqa: TID251 - handed on whole, no setting is read here
    # A secret that a file holds stays there: the child is told of the file too.
    told = {
        f"PARAM_{f.name.upper()}": str(getattr(settings, f.name))
        for f in fields(Settings)
        if f.name not in SECRETS
    }
    told["MLFLOW_TRACKING_URI"] = settings.mlflow_tracking_uri
    return {**inherited, **QUIET, **told, "PYTHONUNBUFFERED": "1"}


def engine_choice(settings: Settings, wanted: str | None) -> tuple[str, Settings]:
    """Which engine runs, and the settings that lead to it.

    Args:
        wanted: `embedded`, `vllm`, a URL, or None: then the engine that `PARAM_ENGINE_URL`
            names, and the embedded one where it names none.

    Returns:
        `embedded`, `vllm` or `outside`, and settings whose `engine_url` is that engine's.

    Raises:
        WrongConfiguration: It is none of these.
    """
    own = f"http://{_reachable(settings.host)}:{settings.engine_port}"
    if wanted is None:
        return ("embedded" if settings.engine_url == own else "outside"), settings
    if wanted in {"embedded", "vllm"}:
        return wanted, replace(settings, engine_url=own)
    parts = urlsplit(wanted)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise WrongConfiguration(
            f"--engine: expected embedded, vllm or an http(s) URL, found {wanted!r}"
        )
    return "outside", replace(settings, engine_url=wanted.rstrip("/").removesuffix("/v1"))


def programs(settings: Settings, engine: str) -> list[Program]:
    """Every program that the supervisor starts.

    Args:
        engine: `embedded`, `vllm` or `outside`.
    """
    names = [name for name in NAMES if not (name == "engine" and engine == "outside")]
    return [program(name, settings, engine=engine) for name in names]


def program(name: str, settings: Settings, *, engine: str = "embedded") -> Program:
    """One program.

    Raises:
        NotFound: There is no program of that name.
        MissingModel: vLLM is asked for, and its environment or the base model is not there.
    """
    host = _reachable(settings.host)
    match name:
        case "engine":
            command, notes = _engine_command(settings, engine)
            return Program(
                name,
                command,
                notes=notes,
                ready_url=f"http://{host}:{settings.engine_port}/health",
                shown=f"http://{host}:{settings.engine_port}",
                start_timeout_s=600 if engine == "vllm" else 180,
                grace_s=20,
                stop_phase=2,
            )
        case "gateway":
            return Program(
                name,
                (PYTHON, "-m", "services.gateway"),
                ready_url=f"http://{host}:{settings.gateway_port}/healthz",
                shown=f"http://{host}:{settings.gateway_port}/v1",
                grace_s=30,
                stop_phase=1,
            )
        case "worker":
            return Program(
                name,
                (PYTHON, "-m", "console.serve", "worker"),
                ready_file=worker_ready_file(settings),
                shown="takes jobs",
                # Its own patience with handlers that save their state is 90 s; most need 5.
                grace_s=95,
                stop_phase=1,
            )
        case "console":
            return Program(
                name,
                _streamlit_command(settings),
                ready_url=f"http://{host}:{settings.console_port}/_stcore/health",
                shown=f"http://{host}:{settings.console_port}",
                cwd=ROOT,
            )
        case "playground":
            return Program(
                name,
                (PYTHON, "-m", "console.playground"),
                ready_url=f"http://{host}:{settings.playground_port}/healthz",
                shown=f"http://{host}:{settings.playground_port}",
            )
    raise NotFound(f"expected one of {', '.join(NAMES)}, found the program {name!r}")


def ports(settings: Settings, names: tuple[str, ...] | list[str]) -> list[Port]:
    """The ports of the named programs."""
    return [
        Port(name, settings.host, getattr(settings, f"{name}_port"), f"PARAM_{name.upper()}_PORT")
        for name in names
        if name != "worker"
    ]


def worker_ready_file(settings: Settings) -> Path:
    """Where the worker writes its process id once it takes jobs."""
    return settings.home / "run" / "worker.ready"


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104


def _streamlit_command(settings: Settings) -> tuple[str, ...]:
    return (
        *(PYTHON, "-m", "streamlit", "run", str(ROOT / "console" / "app.py")),
        *("--server.address", settings.host),
        *("--server.port", str(settings.console_port)),
        *("--server.headless", "true"),
        *("--server.fileWatcherType", "none"),
        *("--browser.gatherUsageStats", "false"),
        *("--server.maxUploadSize", str(settings.max_upload_mb)),
    )


def _engine_command(settings: Settings, engine: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The command and what people should know of it."""
    if engine != "vllm":
        return (PYTHON, "-m", "services.inference.engine"), ()
    from services.inference import model_store, vllm

    base = model_store.resolve(settings.base_model, settings.models_dir)
    options = vllm.VllmOptions(has_gpu=vllm.has_nvidia_gpu())
    found = vllm.command(settings, base, vllm.find_python(ROOT), options)
    return found.argv, found.left_out
