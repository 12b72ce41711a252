"""The `param` command over a real database: what it prints, what it refuses, how it exits."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from typer.main import get_command
from typer.testing import CliRunner

from console.cli import output
from console.cli.app import app
from services import bootstrap
from services.attestation.keys import Keyring
from services.attestation.receipts import ReceiptFacts, commitment, sign
from services.db import Database, utcnow
from services.settings import load
from services.tenants.models import Actor
from tests.conftest import free_port
from tests.services.registry.adapters import BASE_DIGEST, DATASET_SHA256, write_adapter

ROWS = [
    {"prompt": "Türkiye'nin başkenti?", "chosen": "Ankara.", "rejected": "İstanbul."},
    {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"},
    {"prompt": "Sky?", "chosen": "Blue", "rejected": "Green"},
]


@dataclass
class Ran:
    """How one command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Param = Callable[..., Ran]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "param.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, migrated: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copyfile(migrated, folder / "param.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARAM_HOME", str(folder))
    # Nobody answers there: the registry keeps its own rows, and mirrors them another time.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    for name in ("GATEWAY", "ENGINE", "CONSOLE", "PLAYGROUND"):
        monkeypatch.setenv(f"PARAM_{name}_PORT", str(free_port()))
    return folder


@pytest.fixture
def param(home: Path) -> Param:
    def run(*words: Any, status: int = 0) -> Ran:
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, f"{words}: {result.stdout}{result.stderr}"
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def legal(param: Param) -> str:
    param("tenants", "create", "Legal AI")
    return "legal-ai"


@pytest.fixture
def base_model(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = home / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    weights = struct.pack("<Q", len(header)) + header + bytes(4)
    (folder / "model.safetensors").write_bytes(weights)
    monkeypatch.setenv("PARAM_BASE_MODEL", str(folder))
    return folder


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS))
    return path


def commands(group: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        found += commands(command, (*path, name)) if inner else [((*path, name), command)]
    return found


def test_every_command_takes_json() -> None:
    every = commands(get_command(app))
    assert len(every) >= 30
    for path, command in every:
        options = {option for found in command.params for option in found.opts}
        assert "--json" in options, path


def test_help_answers_before_anything_heavy_is_imported() -> None:
    heavy = [
        "sqlalchemy",
        "alembic",
        "httpx",
        "rich",
        "pandas",
        "streamlit",
        "gradio",
        "torch",
        "mlflow",
        "fastapi",
    ]
    script = f"import sys, console.cli.app; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "create"), ("keys", "list"), ("tenants", "show"), ("keys", "revoke", "x"),
        ("pairs", "stats", "--tenant"), ("pairs", "export", "--out", "x", "--tenant"),
        ("train", "list", "--tenant"), ("train", "dpo", "--tenant"), ("eval", "run", "a", "--tenant"),
        ("rollout", "status", "--tenant"), ("rollout", "start", "a-0123456789ab", "--tenant"),
        ("cost", "report", "--tenant"),
    ],
)  # fmt: skip
def test_an_unknown_tenant_is_one_line_and_status_2(param: Param, words: tuple[str, ...]) -> None:
    if words[:2] == ("keys", "revoke"):
        words = ("keys", "revoke", "nowhere", "x")
    else:
        words = (*words, "nowhere")
    ran = param(*words, status=2)
    assert ran.out == ""
    assert ran.err.startswith("param: ")
    assert ran.err.count("\n") == 1


def test_an_error_is_json_where_json_was_asked_for(param: Param) -> None:
    ran = param("keys", "create", "nowhere", "--json", status=2)
    told = json.loads(ran.err)["error"]
    assert told["code"] == "not_found"
    assert "'nowhere'" in told["message"]


def test_a_wrong_setting_is_named(param: Param, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAM_GATEWAY_PORT", "eighty")
    assert "PARAM_GATEWAY_PORT" in param("tenants", "list", status=2).err


def test_a_database_that_cannot_be_reached_is_status_1(
    param: Param, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing"
    monkeypatch.setenv("PARAM_DATABASE_URL", url)
    ran = param("tenants", "list", "--json", status=1)
    assert json.loads(ran.err)["error"]["code"] == "unavailable"


def test_a_tenant_is_created_listed_and_shown(param: Param) -> None:
    made = param(
        "tenants", "create", "Işık Şirketi", "--tps", 3, "--rpm", 100, "--daily-tokens", 5, "--json"
    ).json
    assert made["id"] == "isik-sirketi"
    assert made["limits"] == {
        "tps": 3, "rpm": 100, "daily_tokens": 5, "concurrent": None, "monthly_micro": None,
    }  # fmt: skip
    assert [tenant["id"] for tenant in param("tenants", "list", "--json").json] == [made["id"]]
    shown = param("tenants", "show", made["id"], "--json").json
    assert shown["aliases"][0]["adapter"] is None
    assert "the base model" in param("tenants", "show", made["id"]).out


def test_a_tenant_exists_once(param: Param, legal: str) -> None:
    assert "Legal AI" in param("tenants", "create", "Legal AI", status=2).err or legal


def test_a_key_is_shown_once(param: Param, legal: str, home: Path) -> None:
    issued = param("keys", "create", legal, "--json").json
    assert issued["key"].startswith("pk_")
    assert issued["key"] not in param("keys", "list", legal, "--json").out
    assert issued["key"] not in param("tenants", "show", legal, "--json").out
    assert issued["key"].encode() not in (home / "param.db").read_bytes()


def test_a_revoked_key_is_marked(param: Param, legal: str) -> None:
    issued = param("keys", "create", legal, "--json").json
    param("keys", "revoke", legal, issued["prefix"])
    (key,) = param("keys", "list", legal, "--json").json
    assert key["revoked_at"] is not None


def test_a_user_signs_in_with_the_password_that_was_shown(param: Param, legal: str) -> None:
    first = param("users", "create", "ayse", "--role", "engineer", "--tenant", legal, "--json").json
    assert first["grants"] == {legal: ["engineer"]}
    second = param("users", "reset-password", "ayse", "--json").json
    assert second["password"] != first["password"]
    assert second["password"] not in param("users", "list", "--json").out
    services = bootstrap.build(load())
    assert services.tenants.sign_in("ayse", second["password"]).user.username == "ayse"
    services.db.close()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--role", "boss"), "'boss'"),
        (("--role", "system"), "'system'"),
        (("--role", "engineer"), "--tenant"),
    ],
)
def test_a_user_needs_a_role_for_people_and_a_tenant(
    param: Param, words: tuple[str, ...], expected: str
) -> None:
    assert expected in param("users", "create", "ayse", *words, status=2).err


def test_the_password_of_nobody_cannot_be_reset(param: Param) -> None:
    assert "'nobody'" in param("users", "reset-password", "nobody", status=2).err


def test_pairs_are_imported_counted_and_exported(
    param: Param, legal: str, pairs_file: Path, tmp_path: Path
) -> None:
    words = ("pairs", "import", pairs_file, "--tenant", legal)
    assert param(*words, "--dry-run", "--json").json["imported"] == len(ROWS)
    report = param(*words, "--json").json
    assert {name: report[name] for name in ("read", "imported", "duplicates", "rejected")} == {
        "read": 3, "imported": 3, "duplicates": 0, "rejected": 0,
    }  # fmt: skip
    assert param(*words, "--json").json["duplicates"] == len(ROWS)
    stats = param("pairs", "stats", "--tenant", legal, "--json").json
    assert (stats["total"], stats["by_status"]["unreviewed"]) == (3, 3)
    out = tmp_path / "out"
    manifest = param("pairs", "export", "--tenant", legal, "--out", out, "--all", "--json").json
    assert manifest["n_train"] + manifest["n_eval"] == len(ROWS)
    assert (out / "train.jsonl").exists()
    assert (out / "manifest.json").exists()


def test_a_bad_row_is_named_by_its_line_and_status_1(
    param: Param, legal: str, pairs_file: Path
) -> None:
    pairs_file.write_text(pairs_file.read_text() + '{"prompt": "x", "chosen": ""\n')
    ran = param("pairs", "import", pairs_file, "--tenant", legal, "--json", status=1)
    assert (ran.json["imported"], ran.json["rejected"]) == (3, 1)
    assert ran.json["errors"][0]["line"] == 4
    shown = param("pairs", "import", pairs_file, "--tenant", legal, status=1)
    assert "Not taken because" in shown.out


def test_strict_imports_all_or_nothing(param: Param, legal: str, pairs_file: Path) -> None:
    pairs_file.write_text(pairs_file.read_text() + '{"prompt": "x", "chosen": ""\n')
    words = ("pairs", "import", pairs_file, "--tenant", legal, "--strict")
    assert param(*words, "--json", status=1).json["imported"] == 0
    assert "nothing written" in param(*words, status=1).out
    assert param("pairs", "stats", "--tenant", legal, "--json").json["total"] == 0


def test_predictions_of_several_models_become_an_evaluation_set(
    param: Param, legal: str, tmp_path: Path
) -> None:
    files = [tmp_path / f"set-{model}.jsonl" for model in ("ada", "bob")]
    for file in files:
        file.write_text(f'{{"prompt": "Sky?", "response": "{file.stem}"}}\n')
    words = ("pairs", "import", *files, "--tenant", legal, "--purpose", "evaluation")
    report = param(*words, "--format", "self-instruct", "--json").json
    assert (report["imported"], report["rejected"]) == (1, 0)
    assert param("pairs", "stats", "--tenant", legal, "--json").json["by_source"] == {"set": 1}


@pytest.mark.parametrize("words", [("no-such-file",), (".",)])
def test_a_file_that_cannot_be_read_is_status_2(
    param: Param, legal: str, words: tuple[str, ...]
) -> None:
    ran = param("pairs", "import", *words, "--tenant", legal, status=2)
    assert "expected a file that can be read" in ran.err


def test_an_unknown_format_option_is_wrong_use(param: Param, legal: str, pairs_file: Path) -> None:
    ran = param("pairs", "import", pairs_file, "--tenant", legal, "--format", "xml", status=2)
    assert "label-studio" in ran.err


@pytest.mark.usefixtures("base_model")
def test_a_run_is_queued_shown_stopped_and_resumed(
    param: Param, legal: str, pairs_file: Path
) -> None:
    param("pairs", "import", pairs_file, "--tenant", legal)
    words = ("train", "dpo", "--tenant", legal, "--all", "--epochs", 2, "--json")
    run = param(*words).json
    assert (run["status"], run["spec"]["epochs"], run["spec"]["max_steps"]) == ("queued", 2.0, None)
    assert param("train", "show", run["id"], "--json").json["last_point"] is None
    assert param("train", "stop", run["id"], "--json").json["status"] == "stopped"
    assert param("train", "resume", run["id"], "--json").json["status"] == "queued"
    (listed,) = param("train", "list", "--tenant", legal, "--json").json
    assert listed["id"] == run["id"]


def test_a_wrong_number_freezes_no_dataset(
    param: Param, legal: str, pairs_file: Path, home: Path
) -> None:
    param("pairs", "import", pairs_file, "--tenant", legal)
    ran = param("train", "dpo", "--tenant", legal, "--all", "--beta", 0, status=2)
    assert "beta: expected a number" in ran.err
    assert not list((home / "datasets").glob("*"))


def test_a_run_is_cloned_with_one_change_and_both_are_compared(
    param: Param, legal: str, pairs_file: Path, base_model: Path, tmp_path: Path
) -> None:
    param("pairs", "import", pairs_file, "--tenant", legal)
    more = tmp_path / "more.yaml"
    more.write_text("weight_decay: 0.1\n", encoding="utf-8")
    words = ("train", "dpo", "--tenant", legal, "--all", "--advanced", more, "--json")
    first = param(*words).json
    again = param("train", "dpo", "--tenant", legal, "--like", first["id"], "--beta", 0.7, "--json")
    second = again.json
    assert second["spec"]["dataset_id"] == first["spec"]["dataset_id"]
    assert param("train", "diff", first["id"], second["id"], "--json").json == [
        {"name": "beta", "first": 0.1, "second": 0.7}
    ]
    written = param("train", "settings", second["id"]).out
    assert "weight_decay: 0.1  # of AdamW" in written
    more.write_text("weight_decays: 0.1\n", encoding="utf-8")
    assert "unknown key 'weight_decays'" in param(*words, status=2).err


def test_without_its_base_model_nothing_is_trained(
    param: Param, legal: str, pairs_file: Path
) -> None:
    param("pairs", "import", pairs_file, "--tenant", legal)
    assert "param model pull" in param("train", "dpo", "--tenant", legal, "--all", status=2).err


@pytest.fixture
def adapter(param: Param, legal: str, tmp_path: Path) -> str:
    services = bootstrap.build(load())
    made = services.registry.register(
        Actor.system("test"), legal, alias=legal, folder=write_adapter(tmp_path / "adapter"),
        base_model="smollm2-135m-instruct", base_digest=BASE_DIGEST, run_id="run-1",
        dataset_sha256=DATASET_SHA256, metrics={},
    )  # fmt: skip
    services.db.close()
    return made.name


def test_a_rollout_is_started_stepped_promoted_and_rolled_back(
    param: Param, legal: str, adapter: str
) -> None:
    started = param("rollout", "start", adapter, "--tenant", legal, "--json").json
    assert (started["state"], started["percent"]) == ("stepping", 10)
    rollout = started["id"]
    assert param("rollout", "step", rollout, 50, "--json").json["percent"] == 50
    refused = param("rollout", "promote", rollout, "--json", status=1)
    assert json.loads(refused.err)["error"]["code"] == "gate_failed"
    promoted = param("rollout", "promote", rollout, "--reason", "trial", "--json").json
    assert promoted["state"] == "promoted"
    shown = param("tenants", "show", legal, "--json").json
    assert shown["aliases"][0]["adapter"] == adapter
    param("rollout", "rollback", rollout, "--reason", "done")
    status = param("rollout", "status", rollout, "--json").json
    assert (status["state"], status["traffic"]["canary"]["requests"]) == ("rolled_back", 0)
    assert rollout in param("rollout", "status", "--tenant", legal).out


def test_a_rollback_needs_a_reason(param: Param) -> None:
    assert "--reason" in param("rollout", "rollback", "x", status=2).err


def test_rollout_status_wants_one_of_id_and_tenant(param: Param) -> None:
    assert "expected either" in param("rollout", "status", status=2).err


def test_an_adapter_without_evaluation_says_how_to_get_one(
    param: Param, legal: str, adapter: str
) -> None:
    ran = param("eval", "compare", adapter, "--tenant", legal, status=2)
    assert f"param eval run {adapter}" in ran.err


def test_every_change_stands_in_the_log_under_the_name_cli(param: Param, legal: str) -> None:
    param("keys", "create", legal)
    entries = param("audit", "tail", "--json").json
    assert entries[0]["action"] == "key.created"
    assert {entry["actor_name"] for entry in entries} == {"cli"}
    assert [entry["seq"] for entry in entries] == sorted(
        (entry["seq"] for entry in entries), reverse=True
    )


def test_the_log_is_verified_and_a_changed_entry_is_named(
    param: Param, legal: str, home: Path
) -> None:
    assert param("audit", "verify", "--json").json["ok"] is True
    engine = create_engine(f"sqlite:///{home / 'param.db'}")
    with engine.begin() as connection:  # as somebody with the file in hand could
        triggers = text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for name in connection.scalars(triggers).all():
            connection.execute(text(f'DROP TRIGGER "{name}"'))
        connection.execute(text("UPDATE audit_log SET actor_name = 'nobody' WHERE seq = 1"))
    engine.dispose()
    ran = param("audit", "verify", "--json", status=1)
    assert ran.json["ok"] is False
    assert "1" in ran.json["error"]
    assert json.loads(ran.err)["error"]["code"] == "verification_failed"


def test_the_log_is_exported_as_json_lines(param: Param, legal: str, tmp_path: Path) -> None:
    out = tmp_path / "audit.jsonl"
    told = param("audit", "export", "--out", out, "--json").json
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert told["entries"] == len(lines) > 0
    assert param("audit", "export").out.splitlines() == out.read_text().splitlines()
    assert "cannot" not in param("audit", "export", "--tenant", legal).err


def test_an_export_to_nowhere_leaves_nothing(param: Param, legal: str, tmp_path: Path) -> None:
    ran = param("audit", "export", "--out", tmp_path / "no" / "a.jsonl", status=2)
    assert "expected a file that can be written" in ran.err


def test_a_cost_report_of_nothing_is_zero(param: Param, legal: str) -> None:
    told = param("cost", "report", "--tenant", legal, "--json").json
    assert (told["total_micro"], told["requests"]) == (0, 0)
    assert "0.000000" in param("cost", "report", "--tenant", legal).out


REQUEST, RESPONSE, SALT = b'{"model": "legal"}', b'{"choices": []}', b"s" * 32


@pytest.fixture
def receipt(home: Path, tmp_path: Path) -> Path:
    key = Keyring(home / "keys").key("receipt")
    now = utcnow()
    facts = ReceiptFacts(
        receipt_id="r-1", request_id="q-1", tenant_id="legal-ai", actor_id="key:k", alias="legal-ai",
        served="legal-ai-3fa2c1d09b7e", adapter_digest="3f" * 32, base_model="base",
        base_digest="ba" * 32, arm="canary", rollout_id="ro-1", percent=10,
        request_commitment=commitment("request", SALT, sha256(REQUEST).digest()),
        response_commitment=commitment("response", SALT, sha256(RESPONSE).digest()),
        prompt_tokens=1, completion_tokens=2, cost_micro=3, currency="USD", price_version="1",
        finish_reason="stop", stream=False, partial=False, received_at=now, completed_at=now,
        audit_seq=1, audit_leaf_hash="ab" * 32, issuer="here", policy_version=2,
        policy_digest="cd" * 32, findings=1,
    )  # fmt: skip
    document = {"receipt_id": "r-1", "envelope": sign(facts, key), "salt": SALT.hex()}
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(document))
    (tmp_path / "jwks.json").write_text(json.dumps(Keyring(home / "keys").jwks()))
    return path


@pytest.fixture
def offline(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without database and keys, as an outside verifier has it."""
    monkeypatch.setenv("PARAM_HOME", str(home / "elsewhere"))
    url = f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing"
    monkeypatch.setenv("PARAM_DATABASE_URL", url)


@pytest.mark.usefixtures("offline")
def test_a_receipt_is_verified_offline(param: Param, receipt: Path, tmp_path: Path) -> None:
    told = param("verify", receipt, "--jwks", tmp_path / "jwks.json", "--json").json
    assert told["ok"] is True
    assert told["statement"]["predicate"]["model"]["served"] == "legal-ai-3fa2c1d09b7e"
    assert told["not_established"]


def test_without_a_key_file_the_own_keys_are_trusted(param: Param, receipt: Path) -> None:
    assert "✓" in param("verify", receipt).out


@pytest.mark.usefixtures("offline")
def test_without_any_trusted_key_nothing_is_verified(param: Param, receipt: Path) -> None:
    assert "--jwks" in param("verify", receipt, status=2).err


@pytest.mark.parametrize("wrapped", [True, False])
def test_the_receipt_of_a_demo_and_a_bare_envelope_are_read(
    param: Param, receipt: Path, wrapped: bool
) -> None:
    document = json.loads(receipt.read_text())
    envelope = document["envelope"]
    receipt.write_text(json.dumps({"ok": True, "receipt": envelope} if wrapped else envelope))
    assert param("verify", receipt, "--json").json["ok"] is True


def test_other_texts_than_those_of_the_receipt_are_status_1(
    param: Param, receipt: Path, tmp_path: Path
) -> None:
    (tmp_path / "request").write_bytes(REQUEST)
    (tmp_path / "response").write_bytes(RESPONSE + b" ")
    words = ("verify", receipt, "--request", tmp_path / "request")
    assert param(*words, "--json").json["ok"] is True
    told = param(*words, "--response", tmp_path / "response", "--json", status=1).json
    failed = [check["name"] for check in told["checks"] if not check["ok"]]
    assert (told["ok"], failed) == (False, ["response"])


def test_a_changed_receipt_is_status_1(param: Param, receipt: Path) -> None:
    document = json.loads(receipt.read_text())
    payload = document["envelope"]["payload"]
    document["envelope"]["payload"] = ("A" if payload[0] != "A" else "B") + payload[1:]
    receipt.write_text(json.dumps(document))
    ran = param("verify", receipt, "--json", status=1)
    assert ran.json["ok"] is False


def test_a_receipt_that_is_not_there_is_status_2(param: Param) -> None:
    assert "expected a file that can be read" in param("verify", "nothing.json", status=2).err


def test_control_characters_never_reach_the_terminal() -> None:
    assert (
        output.cell("a\x1b[31mred\x07")
        == "a\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}"
    )


def test_money_is_shown_to_the_last_unit() -> None:
    assert output.dollars(1_234_567_890) == "1,234.567890"
    assert output.dollars(-15) == "-0.000015"


def test_up_without_a_base_model_says_how_to_get_one(param: Param) -> None:
    ran = param("up", status=2)
    assert ran.out == ""
    assert "param model pull" in ran.err


def test_serve_of_nothing_known_is_status_2(param: Param) -> None:
    assert "'webserver'" in param("serve", "webserver", status=2).err


def test_setup_makes_demo_people_whose_passwords_are_shown_once(
    param: Param, base_model: Path
) -> None:
    first = param("setup", "--demo", "--json").json
    assert first["model"] == str(base_model)
    assert first["pairs"] >= 80
    assert {user["role"] for user in first["users"]} == {
        "annotator",
        "engineer",
        "manager",
        "admin",
    }
    services = bootstrap.build(load())
    for user in first["users"][:1]:
        services.tenants.sign_in(user["username"], user["password"])
    services.db.close()
    again = param("setup", "--demo", "--json").json
    assert (again["users"], again["pairs"]) == ([], 0)
    assert "param users reset-password" in param("setup", "--demo").out


def test_setup_without_demo_makes_nobody(param: Param, base_model: Path) -> None:
    assert param("setup", "--json").json == {"model": str(base_model), "pairs": 0, "users": []}
    assert param("users", "list", "--json").json == []


def test_the_models_on_disk_are_listed(param: Param, base_model: Path) -> None:
    assert param("model", "list", "--json").json == []
    assert param("model", "pull", base_model, "--json").json["path"] == str(base_model)
    assert "param model pull" in param("model", "list").out


def test_a_model_of_no_known_name_is_refused(param: Param) -> None:
    assert "no-such-model" in param("model", "pull", "no-such-model", status=2).err


def test_arguments_that_are_no_text_are_refused_in_one_sentence(param: Param) -> None:
    refused = param("tenants", "show", "g\udcff", status=2)
    assert refused.err == "param: expected arguments in UTF-8, found other bytes in one of them\n"
