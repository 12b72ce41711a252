"""Real vLLM judges through `/v1/messages`, asked by the unmodified library."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.inference.models import BaseModel
from services.inference.vllm import VllmOptions, command, has_nvidia_gpu
from services.rlaif.failures import NoVerdict
from services.rlaif.judge import AnthropicJudge
from services.settings import load
from tests.services.inference import engines
from tests.support import free_port

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]
CONTEXT = 2_048


def test_vllm_answers_as_a_judge_and_says_what_it_used(
    base_model: BaseModel, tmp_path: Path
) -> None:
    python, port = engines.vllm_python(), free_port()
    settings = load(
        {"PARAM_ENGINE_PORT": str(port), "PARAM_HOME": str(tmp_path)}, directory=tmp_path
    )
    options = VllmOptions(has_gpu=has_nvidia_gpu(), max_model_len=CONTEXT)
    argv = list(command(settings, base_model, python, options).argv)
    with engines._running(argv, {}, tmp_path, port):
        judge = AnthropicJudge(
            base_model.name, url=f"http://127.0.0.1:{port}", max_tokens=600, timeout_s=600
        )
        prompt = [{"role": "user", "content": "What is the capital of Turkey?"}]
        # A model of 135M parameters rarely keeps to a rubric: what it says is a verdict or is told
        # apart by name, and either way its tokens are known.
        try:
            found = judge.compare(prompt, "Ankara.", "Istanbul.")
        except NoVerdict as nothing:
            used = (nothing.prompt_tokens, nothing.completion_tokens)
        else:
            assert found.judge == base_model.name
            used = (found.prompt_tokens, found.completion_tokens)
        assert used[0] > 300
        assert used[1] > 0
        judge.close()
