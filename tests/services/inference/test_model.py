"""Passes over single-request caches give what transformers gives, whatever shares the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.errors import InvalidInput, WrongConfiguration
from services.inference.engine.lora import Adapter
from services.inference.engine.model import LanguageModel
from services.inference.engine.rows import Row
from services.inference.models import BaseModel

PROMPTS = [[5, 9, 30, 200, 77], [11] * 40, [300, 2, 3, 4, 250, 251, 252]]
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture
def model(tiny_language_model: LanguageModel) -> LanguageModel:
    return tiny_language_model


def greedy(
    model: LanguageModel, prompts: list[list[int]], tokens: int, chunk: int = 1000
) -> list[list[int]]:
    """Answers drawn in one batch after each prompt was read on its own, in pieces."""
    rows, logits = [], []
    nobody: list[Adapter | None] = [None] * len(prompts)
    for prompt in prompts:
        row = Row()
        for at in range(0, len(prompt), chunk):
            last = model.run([prompt[at : at + chunk]], [row], [None])
        rows.append(row)
        logits.append(last[0])
    answers: list[list[int]] = [[] for _ in prompts]
    step = torch.stack(logits)
    for _ in range(tokens):
        for answer, token in zip(answers, step.argmax(-1).tolist(), strict=True):
            answer.append(token)
        step = model.run([[answer[-1]] for answer in answers], rows, nobody)
    return answers


def reference_logits(path: Path, ids: list[int]) -> Tensor:
    with torch.inference_mode():
        found: Any = AutoModelForCausalLM.from_pretrained(path)(torch.tensor([ids])).logits[0]
    return torch.as_tensor(found)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_a_batch_answers_as_transformers_does_alone(
    model: LanguageModel, tiny_model: BaseModel, chunk: int
) -> None:
    answers = greedy(model, PROMPTS, 20, chunk)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        logits = reference_logits(tiny_model.path, prompt + answer)
        assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == answer


def test_logits_do_not_depend_on_what_shares_the_batch(model: LanguageModel) -> None:
    alone = Row()
    model.run([PROMPTS[0]], [alone], [None])
    expected = model.run([[42]], [alone], [None])[0]
    rows = [Row() for _ in PROMPTS]
    for prompt, row in zip(PROMPTS, rows, strict=True):
        model.run([prompt], [row], [None])
    together = model.run([[42]] * 3, rows, [None] * 3)
    assert torch.allclose(together[0], expected, **CLOSE)


def test_a_cache_grows_past_its_first_piece(model: LanguageModel, tiny_model: BaseModel) -> None:
    ids = [(7 * i) % 380 + 3 for i in range(400)]
    row = Row()
    for at in range(0, 400, 50):
        last = model.run([ids[at : at + 50]], [row], [None])
    assert row.length == 400
    assert torch.allclose(last[0], reference_logits(tiny_model.path, ids)[-1], **CLOSE)


def save_other_model(folder: Path, tiny_model: BaseModel, model: Any) -> Path:
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model.path).save_pretrained(folder)
    return folder


SIZES = {
    "vocab_size": 384,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def test_a_sliding_window_is_kept_to(tiny_model: BaseModel, tmp_path: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    made = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=6))
    path = save_other_model(tmp_path / "mistral", tiny_model, made)
    model, ids, row = LanguageModel(path), list(range(3, 33)), Row()
    expected = reference_logits(path, ids)
    for at, piece in ((9, ids[:10]), (10, ids[10:11]), (24, ids[11:25]), (25, ids[25:26])):
        assert torch.allclose(model.run([piece], [row], [None])[0], expected[at], **CLOSE)


def test_a_model_that_would_be_computed_wrongly_is_refused(
    tiny_model: BaseModel, tmp_path: Path
) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(**SIZES, head_dim=16, attn_logit_softcapping=0.05)
    path = save_other_model(tmp_path / "gemma", tiny_model, Gemma2ForCausalLM(config))
    with pytest.raises(WrongConfiguration, match="serve it with vLLM"):
        LanguageModel(path)


def test_conversations_are_rendered_and_text_survives_the_tokens(model: LanguageModel) -> None:
    text = model.render([{"role": "user", "content": "İstanbul'da 🎉"}])
    assert text.endswith("<|im_start|>assistant\n")
    assert model.decode(model.encode(text, special=False)) == ("user\nİstanbul'da 🎉\nassistant\n")


def test_a_model_without_a_chat_template_says_so(tiny_model: BaseModel, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    path = save_other_model(tmp_path / "plain", tiny_model, LlamaForCausalLM(LlamaConfig(**SIZES)))
    (path / "chat_template.jinja").unlink()
    with pytest.raises(InvalidInput, match="chat template"):
        LanguageModel(path).render([{"role": "user", "content": "hi"}])


@pytest.mark.model
def test_the_real_base_model_answers_in_its_own_words(base_model: BaseModel) -> None:
    model = LanguageModel(base_model.path)
    question = [{"role": "user", "content": "What is the capital of Turkey?"}]
    prompt = model.encode(model.render(question), special=False)
    (answer,) = greedy(model, [prompt], 8)
    assert answer[-1] in model.eos_ids
    assert model.decode(answer) == "The capital of Turkey is Istanbul."
