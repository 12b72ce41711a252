"""Configuration, read once: the environment (`PARAM_*`) over an optional `param.toml`.

Owns every default and every environment variable; refuses values that cannot work, naming the
variable. Nothing else in the project reads the environment.
"""

from __future__ import annotations

import logging
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from services.errors import WrongConfiguration

DEFAULT_BASE_MODEL = "smollm2-135m-instruct"
SECRETS = (
    "label_studio_token",
    "label_studio_hook_secret",
    "fallback_key",
    "gateway_admin_token",
    "judge_api_key",
    "rollback_hook_secret",
    "alert_slack_url",
    "alert_jira_token",
    "alert_webhook_secret",
    "checkpoint_copy_token",
    "key_service_token",
)
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
        training_devices: What this host trains on, one run at a time each: `auto`, or `cpu` and
            `cuda:N` parted by commas; GPUs joined by + train one run together.
        worker_host: Name of this host among those that share the database; its own by default.
        session_hours: How long a sign-in lasts, hours.
        log_level: Level name of the `logging` module.
        label_studio_url: Where a Label Studio server answers; empty for none.
        label_studio_token: Access token of the account that synchronises; a secret.
        label_studio_hook_secret: What the secret of each project's webhook is made from; empty
            for no webhooks; a secret.
        label_studio_every_s: Pause between two looks at Label Studio, seconds; 0 for never.
        kubeconfig: File that names a Kubernetes cluster, or `in-cluster`; empty for none.
        kube_context: Name of a context in that file; its current one if empty.
        cluster_namespace: Where runs live on the cluster.
        cluster_image: Container image of runs; empty for no runs on the cluster.
        cluster_volume: PersistentVolumeClaim that holds `home` for the runs' pods.
        cluster_home: Where pods see `home`; the same path if empty.
        cluster_queue: Kueue's LocalQueue for runs; empty where Kueue does not decide.
        cluster_runtime: ClusterTrainingRuntime that runs begin from.
        cluster_gpus: GPUs of a run on the cluster, on each of its nodes.
        cluster_nodes: Nodes that a run there is spread over.
        cluster_cpu: CPU request of a run there, as Kubernetes writes quantities.
        cluster_memory: Memory of a run there, likewise.
        engine_connect_s: How long the gateway waits for a connection to an engine, seconds.
        engine_first_byte_s: How long for the first piece of a streamed answer, seconds.
        engine_between_bytes_s: How long for each further piece of it, seconds.
        engine_answer_s: How long for a whole answer without streaming, seconds.
        breaker_failures: After so many failures in a row an engine is left alone for a while.
        breaker_open_s: How long it is left alone before one request tries it again, seconds.
        fallback_url: A second engine, without `/v1`, which answers where the first one fails
            and the tenant allows it; empty for none.
        fallback_model: The model that is asked for there.
        fallback_key: API key of the second engine; a secret.
        gateway_admin_token: What the console shows at the gateway's admin endpoints; a file in
            `home` holds one where this is empty; a secret.
        judge_url: Where the AI judge answers in Anthropic's protocol, without `/v1`.
        judge_model: The model that judges pairs; empty for no judge.
        judge_api_key: API key of the judge; a secret.
        judge_price: What a million tokens of the judge cost, US dollars: prompt/completion, such
            as `2/10`; empty for what the price table or the list of known models says.
        judge_effort: How hard the judge thinks, `low` to `max`, where the model takes it.
        rollback_hook_secret: What an Alertmanager shows to roll back by webhook; empty for no such
            webhook; a secret.
        alert_slack_url: A Slack incoming webhook that hears of rollouts; empty for none; a secret.
        alert_jira_url: A Jira that gets an issue for each rollout that ends; empty for none.
        alert_jira_project: Key of the project there.
        alert_jira_token: A personal token, or `e-mail:token` of Jira Cloud; a secret.
        alert_webhook_url: Where rollouts are posted as JSON; empty for none.
        alert_webhook_secret: What those posts are signed with; a secret.
        checkpoint_copy: A second place for the audit log's signed checkpoints, a folder or an
            address that takes GET and PUT; empty for none.
        checkpoint_copy_token: Sent to that address as a bearer token; a secret.
        timestamp_url: An RFC 3161 time-stamping authority for checkpoints; empty for none.
        timestamp_roots: PEM file of the certificates that its own must lead to; without it the
            authority's signature is not checked.
        timestamp_every_min: Minutes until the newest checkpoint is stamped again.
        key_service_url: A key service that signs in place of key files; empty for none.
        key_service_token: Sent to it as a bearer token; a secret.
        key_service_purposes: Which keys lie there, of `receipt`, `checkpoint` and `event`; each
            receipt then costs a question to it.
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
    kubeconfig: str = ""
    kube_context: str = ""
    cluster_namespace: str = "default"
    cluster_image: str = ""
    cluster_volume: str = ""
    cluster_home: str = ""
    cluster_queue: str = ""
    cluster_runtime: str = "torch-distributed"
    cluster_gpus: int = 1
    cluster_nodes: int = 1
    cluster_cpu: str = "4"
    cluster_memory: str = "16Gi"
    training_devices: str = "auto"
    worker_host: str = ""
    rollback_hook_secret: str = field(default="", repr=False)
    alert_slack_url: str = field(default="", repr=False)
    alert_jira_url: str = ""
    alert_jira_project: str = ""
    alert_jira_token: str = field(default="", repr=False)
    alert_webhook_url: str = ""
    alert_webhook_secret: str = field(default="", repr=False)
    engine_connect_s: int = 3
    engine_first_byte_s: int = 120
    engine_between_bytes_s: int = 60
    engine_answer_s: int = 600
    breaker_failures: int = 5
    breaker_open_s: int = 10
    fallback_url: str = ""
    fallback_model: str = ""
    fallback_key: str = field(default="", repr=False)
    gateway_admin_token: str = field(default="", repr=False)
    judge_url: str = "https://api.anthropic.com"
    judge_model: str = ""
    judge_api_key: str = field(default="", repr=False)
    judge_price: str = ""
    judge_effort: str = ""
    checkpoint_copy: str = ""
    checkpoint_copy_token: str = field(default="", repr=False)
    timestamp_url: str = ""
    timestamp_roots: str = ""
    timestamp_every_min: int = 60
    key_service_url: str = ""
    key_service_token: str = field(default="", repr=False)
    key_service_purposes: str = "checkpoint,event"

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
        training_devices=str(values.get("training_devices", "auto")),
        worker_host=_host_name(values),
        **_upstreams(values),
        **_cluster(values),
        **_judge(values),
        **_alerts(values),
        **_evidence(values),
    )


def _cluster(values: Mapping[str, Any]) -> dict[str, Any]:
    """Which cluster there is, and what runs are given on it."""
    texts = {one.name: one.default for one in fields(Settings)
             if one.name.startswith(("kube", "cluster_")) and one.name not in ("cluster_gpus", "cluster_nodes")}  # fmt: skip
    found = {name: str(values.get(name, default)).strip() for name, default in texts.items()}
    for name in ("cluster_namespace", "cluster_volume", "cluster_queue", "cluster_runtime"):
        if not re.fullmatch(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?", found[name]):
            raise WrongConfiguration(
                f"PARAM_{name.upper()}: expected a name as Kubernetes takes it, "
                f"found {found[name]!r}"
            )
    for name in ("cluster_cpu", "cluster_memory"):
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?(m|[kKMGT]i?)?", found[name]):
            raise WrongConfiguration(
                f"PARAM_{name.upper()}: expected a quantity such as 4, 500m or 16Gi, "
                f"found {found[name]!r}"
            )
    needed = {
        "cluster_image": ("kubeconfig", "cluster_volume"),
        "cluster_volume": ("cluster_image",),
    }
    for name, others in needed.items():
        for other in others:
            if found[name] and not found[other]:
                raise WrongConfiguration(
                    f"PARAM_{other.upper()}: expected it beside PARAM_{name.upper()}, found none"
                )
    return found | {
        "cluster_gpus": _integer(values, "cluster_gpus", 1, 0, 64),
        "cluster_nodes": _integer(values, "cluster_nodes", 1, 1, 64),
    }


def _evidence(values: Mapping[str, Any]) -> dict[str, Any]:
    """Where evidence is kept beside the database, and who vouches for its time and its keys."""
    copy = str(values.get("checkpoint_copy", ""))
    is_url = copy.startswith(("http://", "https://"))
    known = ("receipt", "checkpoint", "event")
    purposes = [one.strip() for one in str(values.get("key_service_purposes", "")).split(",")]
    if unknown := [one for one in purposes if one and one not in known]:
        raise WrongConfiguration(
            f"PARAM_KEY_SERVICE_PURPOSES: expected some of {', '.join(known)}, found {unknown[0]!r}"
        )
    return {
        "checkpoint_copy": copy if is_url or not copy else str(Path(copy).expanduser().resolve()),
        "checkpoint_copy_token": str(values.get("checkpoint_copy_token", "")),
        "timestamp_url": _outside_url(values, "timestamp_url"),
        "timestamp_roots": str(values.get("timestamp_roots", "")),
        "timestamp_every_min": _integer(values, "timestamp_every_min", 60, 1, 10_080),
        "key_service_url": _outside_url(values, "key_service_url"),
        "key_service_token": str(values.get("key_service_token", "")),
        "key_service_purposes": ",".join(one for one in purposes if one) or "checkpoint,event",
    }


def _upstreams(values: Mapping[str, Any]) -> dict[str, Any]:
    """How the gateway reaches its engines, and who may look at it."""
    url = _outside_url(values, "fallback_url").removesuffix("/v1")
    model = str(values.get("fallback_model", "")).strip()
    if bool(url) != bool(model):
        missing = "PARAM_FALLBACK_MODEL" if url else "PARAM_FALLBACK_URL"
        raise WrongConfiguration(f"{missing}: expected it beside the other one, found it empty")
    return {
        "engine_connect_s": _integer(values, "engine_connect_s", 3, 1, 600),
        "engine_first_byte_s": _integer(values, "engine_first_byte_s", 120, 1, 86_400),
        "engine_between_bytes_s": _integer(values, "engine_between_bytes_s", 60, 1, 86_400),
        "engine_answer_s": _integer(values, "engine_answer_s", 600, 1, 86_400),
        "breaker_failures": _integer(values, "breaker_failures", 5, 1, 10_000),
        "breaker_open_s": _integer(values, "breaker_open_s", 10, 1, 3_600),
        "fallback_url": url,
        "fallback_model": model,
        "fallback_key": str(values.get("fallback_key", "")),
        "gateway_admin_token": str(values.get("gateway_admin_token", "")),
    }


def _alerts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Who outside hears of rollouts, and who may call one back; addresses may be secrets."""
    found = {
        name: str(values.get(name, "")).strip()
        for name in (
            "rollback_hook_secret", "alert_slack_url", "alert_jira_url", "alert_jira_project",
            "alert_jira_token", "alert_webhook_url", "alert_webhook_secret",
        )
    }  # fmt: skip
    for name in ("alert_slack_url", "alert_jira_url", "alert_webhook_url"):
        found[name] = found[name].rstrip("/")
        if found[name] and not found[name].startswith(("http://", "https://")):
            raise WrongConfiguration(
                f"PARAM_{name.upper()}: expected http://… or https://…, found something else"
            )
    if found["alert_jira_url"] and not found["alert_jira_project"]:
        raise WrongConfiguration(
            "PARAM_ALERT_JIRA_PROJECT: expected it beside PARAM_ALERT_JIRA_URL, found it empty"
        )
    if 0 < len(found["rollback_hook_secret"]) < 16:
        raise WrongConfiguration(
            "PARAM_ROLLBACK_HOOK_SECRET: expected at least 16 characters, found fewer"
        )
    return found


def _judge(values: Mapping[str, Any]) -> dict[str, Any]:
    """The judge's settings; what they mean for money is checked where it is spent."""
    url = _outside_url(values, "judge_url").removesuffix("/v1") or Settings.judge_url
    effort = str(values.get("judge_effort", ""))
    if effort not in {"", "low", "medium", "high", "xhigh", "max"}:
        raise WrongConfiguration(
            f"PARAM_JUDGE_EFFORT: expected low, medium, high, xhigh or max, found {effort!r}"
        )
    price = str(values.get("judge_price", ""))
    if price and not re.fullmatch(r"\d{1,6}(\.\d{1,6})?/\d{1,6}(\.\d{1,6})?", price):
        raise WrongConfiguration(
            "PARAM_JUDGE_PRICE: expected US dollars for a million tokens as prompt/completion, "
            f"such as 2/10, found {price!r}"
        )
    return {
        "judge_url": url,
        "judge_model": str(values.get("judge_model", "")),
        "judge_api_key": str(values.get("judge_api_key", "")),
        "judge_price": price,
        "judge_effort": effort,
    }


def _host_name(values: Mapping[str, Any]) -> str:
    found = str(values.get("worker_host", ""))
    if len(found) > 100 or not all(letter.isalnum() or letter in ".-_" for letter in found):
        raise WrongConfiguration(
            f"PARAM_WORKER_HOST: expected at most 100 letters, digits, dots, - and _, found {found!r}"
        )
    return found


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
