"""What can be configured."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

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
        answer_after: What an answer waits for: `journal`, its line in the journal, which outlives the
            process but not a power failure, or `commit`, its rows in the database.
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
    answer_after: str = "journal"
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
