"""The base model in memory: prompt and token passes over single-request caches, and text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from services.errors import InvalidInput, WrongConfiguration
from services.inference.engine.lora import Adapter, Plan, Span, wrap_linears
from services.inference.engine.packed import give_back_memory
from services.inference.engine.rows import ATTENTION, Row, RowsCache, rows_attention

CHECK_TOKENS = 12
CHECK_TOLERANCE = 1e-3
DEFAULTS = ("temperature", "top_p", "top_k", "repetition_penalty")


class LanguageModel:
    """A causal language model of transformers, in float32 on the CPU.

    Passes run in one thread at a time (the scheduler's); text functions may be called from any.

    Args:
        path: Folder of the base model.

    Attributes:
        max_positions: Longest context that the model was made for, tokens.
        eos_ids: Tokens that end an answer.
        sampling_defaults: What the model's `generation_config.json` asks for.
        bytes_per_token: What one token takes in a cache.

    Raises:
        WrongConfiguration: The model's attention is of a kind that this engine computes
            differently from transformers: vLLM has to serve it.
    """

    def __init__(self, path: Path) -> None:
        ALL_ATTENTION_FUNCTIONS.register(ATTENTION, rows_attention)
        self._tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, local_files_only=True
        ).eval()
        self._plan = Plan()
        self._tokenizer_lock = Lock()
        config = self._model.config.get_text_config()
        self.vocabulary = int(self._model.get_input_embeddings().weight.shape[0])
        self.max_positions = int(getattr(config, "max_position_embeddings", 2048))
        self.eos_ids = self._end_tokens()
        self.sampling_defaults = _sampling_defaults(path)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.bytes_per_token = int(config.num_hidden_layers * 2 * heads * head * 4)
        reference = self._reference_logits()
        self._model.set_attn_implementation(ATTENTION)
        output = self._model.get_output_embeddings()
        self.layers = wrap_linears(self._model, self._plan, output=output)
        self._check_against(reference, path)
        give_back_memory()

    def run(
        self,
        tokens: Sequence[Sequence[int]],
        rows: Sequence[Row],
        adapters: Sequence[Adapter | None],
    ) -> Tensor:
        """One forward pass; the rows' caches grow by the tokens.

        Args:
            tokens: New token ids of each row, all rows equally many.
            rows: Cache of each row.
            adapters: Adapter of each row, None for the bare base; equal ones side by side.

        Returns:
            Logits after the last token, shape (rows, vocabulary), float32.
        """
        with torch.inference_mode():
            ids = torch.tensor(tokens)
            first = torch.tensor([[row.length] for row in rows])
            self._plan.spans = _spans(adapters)
            out = self._model(
                input_ids=ids,
                position_ids=first + torch.arange(ids.shape[1]),
                past_key_values=RowsCache(rows),
                use_cache=True,
                logits_to_keep=1,
            )
        for row in rows:
            row.length += ids.shape[1]
        logits: Tensor = out.logits[:, -1].float()
        return logits

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Text to token ids.

        Args:
            special: Add the tokens that the model wants around a bare text.
        """
        with self._tokenizer_lock:
            ids: list[int] = self._tokenizer(text, add_special_tokens=special)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Token ids to text, special tokens left out."""
        text: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """A conversation as the model was taught to read it.

        Raises:
            InvalidInput: The model has no chat template, or the template refuses the turns.
        """
        from jinja2 import TemplateError

        try:
            text: str = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise InvalidInput(
                f"the model's chat template refuses these messages: {error}"
            ) from error
        return text

    def _end_tokens(self) -> frozenset[int]:
        named = self._model.generation_config.eos_token_id
        ends = set(named if isinstance(named, list) else [named])
        ends.add(self._tokenizer.eos_token_id)
        return frozenset(token for token in ends if token is not None)

    def _check_ids(self) -> list[int]:
        generator = torch.Generator().manual_seed(0)
        drawn: list[int] = torch.randint(
            self.vocabulary, (CHECK_TOKENS,), generator=generator
        ).tolist()
        return drawn

    def _reference_logits(self) -> Tensor:
        """Logits of the model as transformers computes it, shape (CHECK_TOKENS, vocabulary)."""
        with torch.inference_mode():
            out = self._model(input_ids=torch.tensor([self._check_ids()]), use_cache=False)
        logits: Tensor = out.logits[0].float()
        return logits

    def _check_against(self, reference: Tensor, path: Path) -> None:
        """Compare our own computation with transformers', in pieces and over two rows at once."""
        ids, half = self._check_ids(), CHECK_TOKENS // 2
        rows = [Row(), Row()]
        got = {}
        got[half - 1] = self.run([ids[:half]], rows[:1], [None])[0]
        got[CHECK_TOKENS - 2] = self.run([ids[half:-1]], rows[:1], [None])[0]
        self.run([ids[: half - 1]], rows[1:], [None])
        last, other = self.run([[ids[-1]], [ids[half - 1]]], rows, [None, None])
        got[CHECK_TOKENS - 1] = last
        wrong = max(float((logits - reference[at]).abs().max()) for at, logits in got.items())
        wrong = max(wrong, float((other - reference[half - 1]).abs().max()))
        if not wrong <= CHECK_TOLERANCE * float(reference.abs().max()):
            raise WrongConfiguration(
                f"PARAM_BASE_MODEL: expected a model with plain causal attention, found that "
                f"{path.name} ({self._model.config.model_type}) answers differently here than in "
                "transformers; serve it with vLLM"
            )


def _spans(adapters: Sequence[Adapter | None]) -> tuple[Span, ...]:
    spans: list[Span] = []
    for row, adapter in enumerate(adapters):
        if adapter is None:
            continue
        if spans and spans[-1][0] is adapter and spans[-1][2] == row:
            spans[-1] = (adapter, spans[-1][1], row + 1)
        else:
            spans.append((adapter, row, row + 1))
    return tuple(spans)


def _sampling_defaults(path: Path) -> dict[str, Any]:
    """What the model's makers advise, as vLLM reads it (`--generation-config auto`)."""
    file = path / "generation_config.json"
    if not file.is_file():
        return {}
    advised = json.loads(file.read_text(encoding="utf-8"))
    return {name: advised[name] for name in DEFAULTS if advised.get(name) is not None}
