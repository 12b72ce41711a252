"""A start that cannot work says so in one sentence, and leaves nothing half-written."""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.inference.models import BaseModel
from tests.browser.installation import PARAM, environment
from tests.support import require

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DISK = 'mount -t tmpfs -o size="$SIZE" tmpfs "$PARAM_HOME" && cd / && exec "$@"'


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        sentence: The one line that it wrote on standard error, without its own name.
    """

    status: int
    out: str
    sentence: str


def run(told: Mapping[str, str], *words: str, inside: tuple[str, ...] = ()) -> Ended:
    """Run a `param` command that must refuse."""
    done = subprocess.run(
        [*inside, PARAM, *words],
        env=dict(told),
        cwd=told["PARAM_HOME"] if Path(told["PARAM_HOME"]).is_dir() else "/",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode, done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("param: ")
    return Ended(done.returncode, done.stdout, lines[0].removeprefix("param: "))


def written(home: Path) -> set[str]:
    """Files of a home, without the supervisor's lock and the notes on digests, which are no state."""
    files = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    return {name for name in files if name != "run/up.lock" and ".digests" not in name}


@pytest.fixture
def told(tmp_path: Path) -> dict[str, str]:
    """The environment of a home in which nothing is yet."""
    return environment(tmp_path / "home")


@pytest.fixture
def home(told: Mapping[str, str]) -> Path:
    return Path(told["PARAM_HOME"])


@pytest.fixture
def with_model(told: dict[str, str], tiny_model: BaseModel) -> dict[str, str]:
    """The same with a base model; a start fails for another reason than that one."""
    told["PARAM_BASE_MODEL"] = str(tiny_model.path)
    return told


@pytest.fixture(scope="module")
def template(tiny_model: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a home that was set up."""
    told = environment(tmp_path_factory.mktemp("template") / "home")
    told["PARAM_BASE_MODEL"] = str(tiny_model.path)
    subprocess.run([PARAM, "setup"], env=told, cwd="/", capture_output=True, check=True)
    return Path(told["PARAM_HOME"]) / "param.db"


@pytest.fixture
def set_up(with_model: dict[str, str], home: Path, template: Path) -> dict[str, str]:
    """The same, set up."""
    shutil.copyfile(template, home / "param.db")
    return with_model


@pytest.mark.parametrize("name", ["GATEWAY", "ENGINE", "CONSOLE", "PLAYGROUND"])
def test_a_busy_port_is_named_with_its_holder(
    with_model: dict[str, str], home: Path, name: str
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", int(with_model[f"PARAM_{name}_PORT"])))
        holder.listen()
        ended = run(with_model, "up")
    assert ended.status == 1
    for told in (with_model[f"PARAM_{name}_PORT"], f"PARAM_{name}_PORT", name.lower()):
        assert told in ended.sentence
    assert ended.out == ""
    assert written(home) == set()


def test_a_missing_base_model_says_how_to_get_it(told: dict[str, str], home: Path) -> None:
    ended = run(told, "up")
    assert ended.status == 2
    assert "param model pull smollm2-135m-instruct" in ended.sentence
    assert written(home) == set()


def test_a_base_model_that_nobody_knows_is_named(told: dict[str, str], home: Path) -> None:
    ended = run(told | {"PARAM_BASE_MODEL": "no-such-model"}, "up")
    assert ended.status == 2
    assert "no-such-model" in ended.sentence
    assert written(home) == set()


def test_a_truncated_base_model_is_refused(
    told: dict[str, str], home: Path, tiny_model: BaseModel, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model.path, broken)
    (weights,) = broken.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:100])
    ended = run(told | {"PARAM_BASE_MODEL": str(broken)}, "up")
    assert ended.status == 2
    assert str(broken) in ended.sentence
    assert "param.db" not in written(home)


@pytest.mark.parametrize(
    "words", [("up",), ("setup",), ("serve", "gateway"), ("serve", "worker"), ("tenants", "list")]
)
def test_a_database_of_a_newer_version_is_left_as_it_is(
    set_up: dict[str, str], home: Path, words: tuple[str, ...]
) -> None:
    database = sqlite3.connect(home / "param.db")
    with database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    before = (home / "param.db").read_bytes()
    ended = run(set_up, *words)
    assert ended.status == 1
    assert "9999" in ended.sentence
    assert "newer version" in ended.sentence
    assert (home / "param.db").read_bytes() == before


def test_a_file_that_is_no_database_is_left_as_it_is(
    with_model: dict[str, str], home: Path
) -> None:
    (home / "param.db").write_text("Dear diary, " * 100)
    for words in (("up",), ("tenants", "list")):
        ended = run(with_model, *words)
        assert ended.status == 1
        assert "not a database" in ended.sentence
    assert (home / "param.db").read_text() == "Dear diary, " * 100


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """What comes before a command so that its home is an empty disk of `$SIZE`."""
    enter = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", DISK, "sh")
    told = environment(tmp_path_factory.mktemp("disk") / "home") | {"SIZE": "64k"}
    found = shutil.which("unshare") is not None
    require(
        found and not subprocess.run([*enter, "true"], env=told, check=False).returncode,
        "a file system of one's own (unshare, tmpfs)",
    )
    return enter


@pytest.mark.parametrize("words", [("up",), ("setup", "--demo")])
@pytest.mark.parametrize("size", ["4k", "64k"])
def test_a_full_disk_is_said_in_one_sentence(
    with_model: dict[str, str], small_disk: tuple[str, ...], words: tuple[str, ...], size: str
) -> None:
    ended = run(with_model | {"SIZE": size}, *words, inside=small_disk)
    assert ended.status == 1
    assert "full" in ended.sentence


def test_an_import_on_a_full_disk_leaves_nothing(
    with_model: dict[str, str], small_disk: tuple[str, ...], template: Path, tmp_path: Path
) -> None:
    pairs, counts = tmp_path / "pairs.jsonl", tmp_path / "counts.json"
    rows = (
        {"prompt": f"Question {n}?", "chosen": f"Yes {n} " * 200, "rejected": f"No {n} " * 200}
        for n in range(2000)
    )
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    # All in one place, since the disk is gone with the shell that made it.
    script = f"""
        cp "{template}" "$PARAM_HOME/param.db" && "{PARAM}" tenants create Acme >&2 || exit 9
        "{PARAM}" pairs import "{pairs}" --tenant acme
        status=$?
        "{PARAM}" pairs stats --tenant acme --json > "{counts}" && exit $status
    """
    done = subprocess.run(
        [*small_disk, "sh", "-c", script],
        env=with_model | {"SIZE": "3m"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    _created, *rest = done.stderr.splitlines()
    assert len(rest) == 1
    assert "full" in rest[0]
    assert json.loads(counts.read_text())["total"] == 0


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PARAM_GATEWAY_PORT", "eighty"),
        ("PARAM_CONSOLE_PORT", "70000"),
        ("PARAM_HOST", "203.0.113.9"),
        ("PARAM_DATABASE_URL", "param.db"),
        ("PARAM_DATABASE_URL", "mysql://localhost/param"),
        ("PARAM_ENGINE_URL", "localhost:8000"),
        ("PARAM_LOG_LEVEL", "LOUD"),
        ("PARAM_SESSION_HOURS", "0"),
        ("PARAM_MAX_UPLOAD_MB", "-1"),
        ("PARAM_CONFIG", "/no/such/param.toml"),
        ("PARAM_HOME", "/dev/null/home"),
    ],
)
def test_a_wrong_setting_is_named(
    with_model: dict[str, str], home: Path, variable: str, value: str
) -> None:
    ended = run(with_model | {variable: value}, "up")
    assert ended.status == 2
    assert variable in ended.sentence
    assert written(home) == set()


def test_two_programs_on_one_port_are_refused(with_model: dict[str, str], home: Path) -> None:
    with_model["PARAM_CONSOLE_PORT"] = with_model["PARAM_GATEWAY_PORT"]
    ended = run(with_model, "up")
    assert ended.status == 2
    assert "PARAM_CONSOLE_PORT" in ended.sentence
    assert "PARAM_GATEWAY_PORT" in ended.sentence
    assert written(home) == set()


@pytest.mark.parametrize(("text", "named"), [('colour = "red"', "colour"), ("host = ", "TOML")])
def test_a_wrong_param_toml_is_named(
    with_model: dict[str, str], home: Path, text: str, named: str
) -> None:
    Path(with_model["PARAM_CONFIG"]).write_text(text)
    ended = run(with_model, "up")
    assert ended.status == 2
    assert Path(with_model["PARAM_CONFIG"]).name in ended.sentence
    assert named in ended.sentence
    assert written(home) == set()


def test_an_engine_that_is_none_is_refused(with_model: dict[str, str], home: Path) -> None:
    ended = run(with_model, "up", "--engine", "steam")
    assert ended.status == 2
    assert "--engine" in ended.sentence
    assert written(home) == set()


def test_a_second_start_on_one_home_is_refused(with_model: dict[str, str], home: Path) -> None:
    (home / "run").mkdir()
    with (home / "run" / "up.lock").open("w") as lock:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = run(with_model, "up")
    assert ended.status == 2
    assert "4711" in ended.sentence
