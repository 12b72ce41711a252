"""the whole loop"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.db.types import Json, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The audit log is append-only for everybody who comes through the database, too.
TRIGGERS_SQLITE = [
    """CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log BEGIN SELECT RAISE(ABORT, 'audit_log is append-only'); END""",
    """CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log BEGIN SELECT RAISE(ABORT, 'audit_log is append-only'); END""",
    """CREATE TRIGGER audit_log_no_replace BEFORE INSERT ON audit_log WHEN EXISTS (SELECT 1 FROM audit_log WHERE seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'audit_log is append-only'); END""",
    """CREATE TRIGGER audit_checkpoints_no_update BEFORE UPDATE ON audit_checkpoints BEGIN SELECT RAISE(ABORT, 'audit_checkpoints is append-only'); END""",
    """CREATE TRIGGER audit_checkpoints_no_delete BEFORE DELETE ON audit_checkpoints BEGIN SELECT RAISE(ABORT, 'audit_checkpoints is append-only'); END""",
    """CREATE TRIGGER audit_checkpoints_no_replace BEFORE INSERT ON audit_checkpoints WHEN EXISTS (SELECT 1 FROM audit_checkpoints WHERE size = NEW.size) BEGIN SELECT RAISE(ABORT, 'audit_checkpoints is append-only'); END""",
]
TRIGGERS_POSTGRESQL = [
    """CREATE OR REPLACE FUNCTION param_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only'; END $$""",
    """CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION param_refuse_change()""",
    """CREATE OR REPLACE FUNCTION param_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only'; END $$""",
    """CREATE TRIGGER audit_checkpoints_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_checkpoints FOR EACH STATEMENT EXECUTE FUNCTION param_refuse_change()""",
]


def upgrade() -> None:
    op.create_table(
        "audit_checkpoints",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("root", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_audit_checkpoints")),
    )
    op.create_table(
        "audit_log",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=True),
        sa.Column("actor_id", sa.String(), nullable=False),
        sa.Column("actor_name", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("details", Json, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("leaf_hash", sa.String(), nullable=False),
        sa.Column("chain_hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_log")),
    )
    with op.batch_alter_table("audit_log", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_audit_log_action_seq"), ["action", "seq"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_audit_log_subject"), ["subject"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_audit_log_tenant_id_seq"), ["tenant_id", "seq"], unique=False
        )

    op.create_table(
        "audit_outbox",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=True),
        sa.Column("actor_id", sa.String(), nullable=False),
        sa.Column("actor_name", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("details", Json, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_outbox")),
    )
    with op.batch_alter_table("audit_outbox", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_outbox_at"), ["at"], unique=False)

    op.create_table(
        "audit_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("chain_hash", sa.String(), nullable=False),
        sa.Column("edge", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_state")),
    )
    op.create_table(
        "datasets",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("folder", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("n_train", sa.Integer(), nullable=False),
        sa.Column("n_eval", sa.Integer(), nullable=False),
        sa.Column("manifest", Json, nullable=False),
        sa.Column("actor_id", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("tenant_id", "sha256", name=op.f("uq_datasets_tenant_id_sha256")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("payload", Json, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=True),
        sa.Column("worker", sa.String(), nullable=True),
        sa.Column("heartbeat_at", UtcDateTime(), nullable=True),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("created_by_id", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_jobs_status_queue_created_at"),
            ["status", "queue", "created_at"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_jobs_tenant_id_created_at"), ["tenant_id", "created_at"], unique=False
        )
        batch_op.create_index(
            "uq_jobs_active_slot",
            ["queue", "slot"],
            unique=True,
            sqlite_where=sa.text("status IN ('running', 'stopping')"),
            postgresql_where=sa.text("status IN ('running', 'stopping')"),
        )

    op.create_table(
        "pair_imports",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("read", sa.Integer(), nullable=False),
        sa.Column("imported", sa.Integer(), nullable=False),
        sa.Column("duplicates", sa.Integer(), nullable=False),
        sa.Column("rejected", sa.Integer(), nullable=False),
        sa.Column("actor_id", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pair_imports")),
    )
    with op.batch_alter_table("pair_imports", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pair_imports_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "price_tables",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("prices", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_price_tables")),
    )
    op.create_table(
        "prompts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("turns", Json, nullable=False),
        sa.Column("folded", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompts")),
        sa.UniqueConstraint("tenant_id", "key", name=op.f("uq_prompts_tenant_id_key")),
    )
    op.create_table(
        "registry_adapters",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("base_model", sa.String(), nullable=False),
        sa.Column("base_digest", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("dataset_sha256", sa.String(), nullable=False),
        sa.Column("config_sha256", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("metrics", Json, nullable=False),
        sa.Column("parameters", Json, nullable=False),
        sa.Column("mlflow_run_id", sa.String(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", name=op.f("pk_registry_adapters")),
    )
    with op.batch_alter_table("registry_adapters", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_registry_adapters_name"), ["name"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_registry_adapters_tenant_id_created_at"),
            ["tenant_id", "created_at"],
            unique=False,
        )

    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("stable", sa.String(), nullable=True),
        sa.Column("candidate", sa.String(), nullable=False),
        sa.Column("salt", sa.String(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollouts")),
    )
    with op.batch_alter_table("rollouts", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_rollouts_tenant_id_alias_started_at"),
            ["tenant_id", "alias", "started_at"],
            unique=False,
        )

    op.create_table(
        "sign_in_attempts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("username_sha256", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in_attempts")),
    )
    with op.batch_alter_table("sign_in_attempts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sign_in_attempts_at"), ["at"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_sign_in_attempts_username_sha256_at"),
            ["username_sha256", "at"],
            unique=False,
        )

    op.create_table(
        "tenants",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("tps", sa.Integer(), nullable=False),
        sa.Column("rpm", sa.Integer(), nullable=False),
        sa.Column("daily_tokens", sa.BigInteger(), nullable=False),
        sa.Column("timezone", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("display_name", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("username", name=op.f("uq_users_username")),
    )
    op.create_table(
        "alias_targets",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("adapter", sa.String(), nullable=True),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_alias_targets_tenant_id")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_alias_targets")),
    )
    with op.batch_alter_table("alias_targets", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_alias_targets_tenant_id_alias_seq"),
            ["tenant_id", "alias", "seq"],
            unique=False,
        )

    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("key_sha256", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_api_keys_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("key_sha256", name=op.f("uq_api_keys_key_sha256")),
    )
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_api_keys_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "evaluations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("adapter", sa.String(), nullable=False),
        sa.Column("adapter_digest", sa.String(), nullable=False),
        sa.Column("base_model", sa.String(), nullable=False),
        sa.Column("base_digest", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("dataset_sha256", sa.String(), nullable=False),
        sa.Column("prompts", Json, nullable=True),
        sa.Column("beta", sa.Double(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_evaluations_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
        sa.UniqueConstraint("job_id", name=op.f("uq_evaluations_job_id")),
    )
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_evaluations_tenant_id_adapter"), ["tenant_id", "adapter"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_evaluations_tenant_id_created_at"),
            ["tenant_id", "created_at"],
            unique=False,
        )

    op.create_table(
        "grants",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_grants_user_id")),
        sa.PrimaryKeyConstraint("user_id", "tenant_id", "role", name=op.f("pk_grants")),
    )
    with op.batch_alter_table("grants", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_grants_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "pairs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("prompt_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("import_id", sa.String(), nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("source_line", sa.Integer(), nullable=True),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("imported_preference", sa.String(), nullable=True),
        sa.Column("extra", Json, nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("chosen_response_id", sa.String(), nullable=True),
        sa.Column("rejected_response_id", sa.String(), nullable=True),
        sa.Column("mark", sa.String(), nullable=False),
        sa.Column("decisions", sa.Integer(), nullable=False),
        sa.Column("lease_holder", sa.String(), nullable=True),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["import_id"], ["pair_imports.id"], name=op.f("fk_pairs_import_id")
        ),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_pairs_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pairs")),
        sa.UniqueConstraint("tenant_id", "key", name=op.f("uq_pairs_tenant_id_key")),
        sa.UniqueConstraint("tenant_id", "position", name=op.f("uq_pairs_tenant_id_position")),
    )
    with op.batch_alter_table("pairs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pairs_import_id"), ["import_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_pairs_prompt_id"), ["prompt_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_pairs_tenant_id_lease_holder"),
            ["tenant_id", "lease_holder"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_pairs_tenant_id_status_position"),
            ["tenant_id", "status", "position"],
            unique=False,
        )

    op.create_table(
        "receipts",
        sa.Column("receipt_id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("actor_id", sa.String(), nullable=False),
        sa.Column("envelope", Json, nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_receipts_tenant_id")),
        sa.PrimaryKeyConstraint("receipt_id", name=op.f("pk_receipts")),
    )
    with op.batch_alter_table("receipts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_receipts_request_id"), ["request_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_receipts_tenant_id_created_at"),
            ["tenant_id", "created_at"],
            unique=False,
        )

    op.create_table(
        "registry_champions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("actor_name", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "name"],
            ["registry_adapters.tenant_id", "registry_adapters.name"],
            name=op.f("fk_registry_champions_tenant_id_name"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registry_champions")),
    )
    with op.batch_alter_table("registry_champions", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_registry_champions_tenant_id_alias_id"),
            ["tenant_id", "alias", "id"],
            unique=False,
        )

    op.create_table(
        "registry_mirrors",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model_uri", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "name"],
            ["registry_adapters.tenant_id", "registry_adapters.name"],
            name=op.f("fk_registry_mirrors_tenant_id_name"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "name", name=op.f("pk_registry_mirrors")),
    )
    op.create_table(
        "registry_origins",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("dataset_sha256", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "name"],
            ["registry_adapters.tenant_id", "registry_adapters.name"],
            name=op.f("fk_registry_origins_tenant_id_name"),
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_registry_origins")),
    )
    with op.batch_alter_table("registry_origins", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_registry_origins_tenant_id_name"), ["tenant_id", "name"], unique=False
        )

    op.create_table(
        "rollout_steps",
        sa.Column("rollout_id", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("actor_id", sa.String(), nullable=False),
        sa.Column("actor_name", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rollout_id"], ["rollouts.id"], name=op.f("fk_rollout_steps_rollout_id")
        ),
        sa.PrimaryKeyConstraint("rollout_id", "seq", name=op.f("pk_rollout_steps")),
    )
    op.create_table(
        "sessions",
        sa.Column("token_sha256", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sessions_user_id")),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_sessions")),
    )
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sessions_expires_at"), ["expires_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_sessions_user_id"), ["user_id"], unique=False)

    op.create_table(
        "training_runs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("spec", Json, nullable=False),
        sa.Column("spec_sha256", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("dataset_sha256", sa.String(), nullable=False),
        sa.Column("base_digest", sa.String(), nullable=False),
        sa.Column("adapter", sa.String(), nullable=True),
        sa.Column("mlflow_run_id", sa.String(), nullable=True),
        sa.Column("result", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_training_runs_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_runs")),
        sa.UniqueConstraint("job_id", name=op.f("uq_training_runs_job_id")),
    )
    with op.batch_alter_table("training_runs", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_training_runs_tenant_id_created_at"),
            ["tenant_id", "created_at"],
            unique=False,
        )

    op.create_table(
        "usage",
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("served", sa.String(), nullable=False),
        sa.Column("arm", sa.String(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_micro", sa.BigInteger(), nullable=False),
        sa.Column("price_version", sa.String(), nullable=False),
        sa.Column("latency_ms", sa.BigInteger(), nullable=False),
        sa.Column("ttft_ms", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_usage_tenant_id")),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_usage")),
    )
    with op.batch_alter_table("usage", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_usage_tenant_id_alias_at"), ["tenant_id", "alias", "at"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_usage_tenant_id_at"), ["tenant_id", "at"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_usage_tenant_id_day"), ["tenant_id", "day"], unique=False
        )

    op.create_table(
        "evaluation_answers",
        sa.Column("evaluation_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("prompt", Json, nullable=False),
        sa.Column("base", sa.String(), nullable=False),
        sa.Column("adapter", sa.String(), nullable=False),
        sa.Column("base_tokens", sa.Integer(), nullable=False),
        sa.Column("adapter_tokens", sa.Integer(), nullable=False),
        sa.Column("base_repetition", sa.Double(), nullable=False),
        sa.Column("adapter_repetition", sa.Double(), nullable=False),
        sa.Column("base_degenerate", sa.Boolean(), nullable=False),
        sa.Column("adapter_degenerate", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluations.id"], name=op.f("fk_evaluation_answers_evaluation_id")
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "position", name=op.f("pk_evaluation_answers")),
    )
    op.create_table(
        "evaluation_pairs",
        sa.Column("evaluation_id", sa.String(), nullable=False),
        sa.Column("pair_id", sa.String(), nullable=False),
        sa.Column("prompt_key", sa.String(), nullable=False),
        sa.Column("base_chosen", sa.Double(), nullable=False),
        sa.Column("base_rejected", sa.Double(), nullable=False),
        sa.Column("adapter_chosen", sa.Double(), nullable=False),
        sa.Column("adapter_rejected", sa.Double(), nullable=False),
        sa.Column("chosen_tokens", sa.Integer(), nullable=False),
        sa.Column("rejected_tokens", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluations.id"], name=op.f("fk_evaluation_pairs_evaluation_id")
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "pair_id", name=op.f("pk_evaluation_pairs")),
    )
    op.create_table(
        "evaluation_summaries",
        sa.Column("evaluation_id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("body", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"],
            ["evaluations.id"],
            name=op.f("fk_evaluation_summaries_evaluation_id"),
        ),
        sa.PrimaryKeyConstraint("evaluation_id", name=op.f("pk_evaluation_summaries")),
    )
    op.create_table(
        "pair_decisions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("pair_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("chosen_response_id", sa.String(), nullable=True),
        sa.Column("rejected_response_id", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("mark", sa.String(), nullable=False),
        sa.Column("actor_id", sa.String(), nullable=False),
        sa.Column("review_id", sa.String(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name=op.f("fk_pair_decisions_pair_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pair_decisions")),
        sa.UniqueConstraint("pair_id", "number", name=op.f("uq_pair_decisions_pair_id_number")),
    )
    op.create_table(
        "pair_reviews",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("pair_id", sa.String(), nullable=False),
        sa.Column("annotator_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("left_response_id", sa.String(), nullable=False),
        sa.Column("right_response_id", sa.String(), nullable=False),
        sa.Column("preferred_response_id", sa.String(), nullable=True),
        sa.Column("strength", sa.Integer(), nullable=True),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("active_ms", sa.Integer(), nullable=True),
        sa.Column("response_id", sa.String(), nullable=True),
        sa.Column("undoes_id", sa.String(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name=op.f("fk_pair_reviews_pair_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pair_reviews")),
        sa.UniqueConstraint(
            "tenant_id",
            "annotator_id",
            "number",
            name=op.f("uq_pair_reviews_tenant_id_annotator_id_number"),
        ),
        sa.UniqueConstraint("undoes_id", name=op.f("uq_pair_reviews_undoes_id")),
    )
    with op.batch_alter_table("pair_reviews", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pair_reviews_pair_id"), ["pair_id"], unique=False)

    op.create_table(
        "responses",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("pair_id", sa.String(), nullable=False),
        sa.Column("root_id", sa.String(), nullable=False),
        sa.Column("parent_id", sa.String(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("extra", Json, nullable=True),
        sa.Column("author_id", sa.String(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name=op.f("fk_responses_pair_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_responses")),
        sa.UniqueConstraint("root_id", "version", name=op.f("uq_responses_root_id_version")),
    )
    with op.batch_alter_table("responses", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_responses_pair_id"), ["pair_id"], unique=False)

    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in TRIGGERS_SQLITE if is_sqlite else TRIGGERS_POSTGRESQL:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    with op.batch_alter_table("responses", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_responses_pair_id"))

    op.drop_table("responses")
    with op.batch_alter_table("pair_reviews", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_pair_reviews_pair_id"))

    op.drop_table("pair_reviews")
    op.drop_table("pair_decisions")
    op.drop_table("evaluation_summaries")
    op.drop_table("evaluation_pairs")
    op.drop_table("evaluation_answers")
    with op.batch_alter_table("usage", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_usage_tenant_id_day"))
        batch_op.drop_index(batch_op.f("ix_usage_tenant_id_at"))
        batch_op.drop_index(batch_op.f("ix_usage_tenant_id_alias_at"))

    op.drop_table("usage")
    with op.batch_alter_table("training_runs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_training_runs_tenant_id_created_at"))

    op.drop_table("training_runs")
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sessions_user_id"))
        batch_op.drop_index(batch_op.f("ix_sessions_expires_at"))

    op.drop_table("sessions")
    op.drop_table("rollout_steps")
    with op.batch_alter_table("registry_origins", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_registry_origins_tenant_id_name"))

    op.drop_table("registry_origins")
    op.drop_table("registry_mirrors")
    with op.batch_alter_table("registry_champions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_registry_champions_tenant_id_alias_id"))

    op.drop_table("registry_champions")
    with op.batch_alter_table("receipts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_receipts_tenant_id_created_at"))
        batch_op.drop_index(batch_op.f("ix_receipts_request_id"))

    op.drop_table("receipts")
    with op.batch_alter_table("pairs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_pairs_tenant_id_status_position"))
        batch_op.drop_index(batch_op.f("ix_pairs_tenant_id_lease_holder"))
        batch_op.drop_index(batch_op.f("ix_pairs_prompt_id"))
        batch_op.drop_index(batch_op.f("ix_pairs_import_id"))

    op.drop_table("pairs")
    with op.batch_alter_table("grants", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_grants_tenant_id"))

    op.drop_table("grants")
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_evaluations_tenant_id_created_at"))
        batch_op.drop_index(batch_op.f("ix_evaluations_tenant_id_adapter"))

    op.drop_table("evaluations")
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_api_keys_tenant_id"))

    op.drop_table("api_keys")
    with op.batch_alter_table("alias_targets", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_alias_targets_tenant_id_alias_seq"))

    op.drop_table("alias_targets")
    op.drop_table("users")
    op.drop_table("tenants")
    with op.batch_alter_table("sign_in_attempts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sign_in_attempts_username_sha256_at"))
        batch_op.drop_index(batch_op.f("ix_sign_in_attempts_at"))

    op.drop_table("sign_in_attempts")
    with op.batch_alter_table("rollouts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_rollouts_tenant_id_alias_started_at"))

    op.drop_table("rollouts")
    with op.batch_alter_table("registry_adapters", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_registry_adapters_tenant_id_created_at"))
        batch_op.drop_index(batch_op.f("ix_registry_adapters_name"))

    op.drop_table("registry_adapters")
    op.drop_table("prompts")
    op.drop_table("price_tables")
    with op.batch_alter_table("pair_imports", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_pair_imports_tenant_id"))

    op.drop_table("pair_imports")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_jobs_active_slot",
            sqlite_where=sa.text("status IN ('running', 'stopping')"),
            postgresql_where=sa.text("status IN ('running', 'stopping')"),
        )
        batch_op.drop_index(batch_op.f("ix_jobs_tenant_id_created_at"))
        batch_op.drop_index(batch_op.f("ix_jobs_status_queue_created_at"))

    op.drop_table("jobs")
    op.drop_table("datasets")
    op.drop_table("audit_state")
    with op.batch_alter_table("audit_outbox", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_audit_outbox_at"))

    op.drop_table("audit_outbox")
    with op.batch_alter_table("audit_log", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_audit_log_tenant_id_seq"))
        batch_op.drop_index(batch_op.f("ix_audit_log_subject"))
        batch_op.drop_index(batch_op.f("ix_audit_log_action_seq"))

    op.drop_table("audit_log")
    op.drop_table("audit_checkpoints")
