"""Log-probabilities and greedy answers of a base model and of its adapter. Loads torch.

One model is in memory: with its adapter switched off it is the base.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import safetensors
import torch
import transformers

from services.errors import InvalidInput, MissingModel
from services.evaluation.heldout import HeldOutPair
from services.evaluation.models import AnswerPair, Messages, PairScore
from services.evaluation.repetition import is_degenerate, repetition
from services.registry.digest import WEIGHTS_FILE

ANSWERS_AT_ONCE = 10


@dataclass(frozen=True)
class Subject:
    """The model under test.

    Attributes:
        model: The base model with the adapter on it.
        tokenizer: Of the base model.
        max_length: Most tokens that the model reads.
    """

    model: Any
    tokenizer: Any
    max_length: int

    @contextlib.contextmanager
    def as_base(self) -> Iterator[None]:
        """The bare base model, for a while."""
        with self.model.disable_adapter():
            yield


def load(base_path: Path, adapter_path: Path, *, threads: int) -> Subject:
    """Load base and adapter: float32 on a CPU, bfloat16 on a GPU that has it.

    Args:
        threads: CPU threads; 0 leaves it to torch.

    Raises:
        MissingModel: A folder is not there or holds no model.
        InvalidInput: The adapter does not fit the base, or the base has no chat template.
    """
    if threads:
        torch.set_num_threads(threads)
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported() else torch.float32
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(base_path, local_files_only=True)
        base = transformers.AutoModelForCausalLM.from_pretrained(
            base_path, dtype=dtype, local_files_only=True
        )
    except OSError as error:
        raise MissingModel(
            f"base model {base_path.name}: expected a model, found {error}"
        ) from error
    if tokenizer.chat_template is None:
        raise InvalidInput(f"base model {base_path.name}: expected a chat template, found none")
    try:
        model = peft.PeftModel.from_pretrained(base, str(adapter_path), local_files_only=True)
    except (RuntimeError, ValueError) as error:
        raise InvalidInput(
            f"adapter {adapter_path.name}: expected one for {base_path.name}, found another shape"
        ) from error
    _refuse_unused_weights(model, adapter_path)
    model.eval().to("cuda" if on_gpu else "cpu")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Subject(model, tokenizer, int(base.config.max_position_embeddings))


def _refuse_unused_weights(model: Any, adapter_path: Path) -> None:
    """PEFT only warns where an adapter's weights belong to no layer of the base."""
    with safetensors.safe_open(adapter_path / WEIGHTS_FILE, framework="pt") as file:
        given = set(file.keys())
    # Told not to look for embeddings, PEFT asks no hub on the network about the base model.
    used = set(peft.get_peft_model_state_dict(model, save_embedding_layers=False))
    if given != used:
        raise InvalidInput(
            f"adapter {adapter_path.name}: expected weights for {len(used)} places of the base "
            f"model, found {len(given & used)} of them and {len(given - used)} for no place"
        )


def score_pair(subject: Subject, pair: HeldOutPair) -> PairScore | None:
    """What base and adapter think of one pair, each in one forward pass.

    Returns:
        The scores, or None where the pair is longer than the model reads.
    """
    prompt, chosen = encode(subject.tokenizer, pair.prompt, pair.chosen)
    _, rejected = encode(subject.tokenizer, pair.prompt, pair.rejected)
    if len(prompt) + max(len(chosen), len(rejected)) > subject.max_length:
        return None
    with subject.as_base():
        base = completion_logps(subject.model, prompt, [chosen, rejected])
    adapter = completion_logps(subject.model, prompt, [chosen, rejected])
    return PairScore(
        pair_id=pair.pair_id,
        prompt_key=pair.prompt_key,
        base_chosen=base[0],
        base_rejected=base[1],
        adapter_chosen=adapter[0],
        adapter_rejected=adapter[1],
        chosen_tokens=len(chosen),
        rejected_tokens=len(rejected),
    )


def encode(tokenizer: Any, prompt: Messages, completion: Messages) -> tuple[list[int], list[int]]:
    """The tokens of a prompt and of its completion, as the chat template writes them.

    Both are tokenised apart, because a model that is asked reads the prompt's tokens as they
    are; no token may reach across the border.

    Returns:
        Token ids of the prompt up to where the answer begins, and of the rest: the answer and
        its end of turn.

    Raises:
        InvalidInput: The template writes the prompt differently once it is answered.
    """
    head = tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*prompt, *completion], tokenize=False)
    if not whole.startswith(head) or len(whole) == len(head):
        raise InvalidInput(
            "chat template: expected an answered prompt to begin with the prompt itself, "
            "found another text; this template cannot be scored"
        )
    parts = (head, whole[len(head) :])
    ids = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in parts]
    return ids[0], ids[1]


@torch.inference_mode()
def completion_logps(
    model: Any, prompt: Sequence[int], completions: Sequence[Sequence[int]]
) -> list[float]:
    """Sum of log p(token | everything before) over each completion's tokens.

    The prompt is read once and shared by all completions.

    Args:
        model: A causal language model.
        prompt: Token ids that all completions follow, at least one.
        completions: Token ids, at least one each; padded to shape (n, longest) here.

    Returns:
        One number for each completion, nats.
    """
    n, longest = len(completions), max(map(len, completions))
    device = model.device
    read = model(torch.tensor([list(prompt)], device=device), logits_to_keep=1, use_cache=True)
    read.past_key_values.batch_repeat_interleave(n)
    padding = [longest - len(tokens) for tokens in completions]
    ids = torch.tensor(
        [[*tokens, *[0] * more] for tokens, more in zip(completions, padding, strict=True)],
        device=device,
    )
    keep = torch.tensor([[1] * (longest - more) + [0] * more for more in padding], device=device)
    seen = torch.ones(n, len(prompt), dtype=keep.dtype, device=device)
    logits = model(
        ids,
        attention_mask=torch.cat([seen, keep], dim=1),
        past_key_values=read.past_key_values,
    ).logits
    # Position i predicts token i + 1: the last of the prompt predicts the completion's first.
    logits = torch.cat([read.logits.expand(n, 1, -1), logits[:, :-1]], dim=1)
    found = logits.float().log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    sums: list[float] = (found.double() * keep).sum(-1).tolist()
    return sums


def answer(
    subject: Subject,
    prompts: Sequence[Messages],
    *,
    first: int = 0,
    max_new_tokens: int,
    references: Sequence[str | None] | None = None,
) -> list[AnswerPair]:
    """Let base and adapter answer greedily, some prompts at once.

    Args:
        prompts: At most `ANSWERS_AT_ONCE` keep memory small.
        first: Position of the first of them.
        max_new_tokens: Longest answer, tokens.
        references: What good answers say, as many as prompts; None for none.
    """
    expected = references or [None] * len(prompts)
    with subject.as_base():
        base = _generate(subject, prompts, max_new_tokens)
    adapter = _generate(subject, prompts, max_new_tokens)
    return [
        AnswerPair(
            position=first + i,
            prompt=prompt,
            base=base[i].text,
            adapter=adapter[i].text,
            base_tokens=base[i].tokens,
            adapter_tokens=adapter[i].tokens,
            base_repetition=repetition(base[i].text),
            adapter_repetition=repetition(adapter[i].text),
            base_degenerate=is_degenerate(base[i].text),
            adapter_degenerate=is_degenerate(adapter[i].text),
            prompt_tokens=base[i].prompt_tokens,
            reference=expected[i],
            base_seconds=base[i].seconds,
            adapter_seconds=adapter[i].seconds,
        )
        for i, prompt in enumerate(prompts)
    ]


@dataclass(frozen=True)
class _Answer:
    """One model's answer; `seconds` is its share, by tokens, of what its batch took."""

    text: str
    tokens: int
    prompt_tokens: int
    seconds: float


@torch.inference_mode()
def _generate(subject: Subject, prompts: Sequence[Messages], max_new_tokens: int) -> list[_Answer]:
    tokenizer = subject.tokenizer
    texts = [
        tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True)
        for prompt in prompts
    ]
    inputs = tokenizer(
        texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
    ).to(subject.model.device)
    started = time.perf_counter()
    output = subject.model.generate(
        **inputs,
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        # A base model's own sampling settings have no say in a greedy answer.
        temperature=None, top_p=None, top_k=None,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    ends = _ends(subject.model, tokenizer)
    rows = output[:, inputs["input_ids"].shape[1] :].tolist()
    lengths = [next((i for i, one in enumerate(row) if one in ends), len(row)) for row in rows]
    read = inputs["attention_mask"].sum(1).tolist()
    return [
        _Answer(
            text=tokenizer.decode(row[:length], skip_special_tokens=True).strip(),
            tokens=length,
            prompt_tokens=prompt_tokens,
            seconds=seconds * length / max(sum(lengths), 1),
        )
        for row, length, prompt_tokens in zip(rows, lengths, read, strict=True)
    ]


def _ends(model: Any, tokenizer: Any) -> set[int]:
    configured = model.generation_config.eos_token_id
    several = configured if isinstance(configured, list) else [configured]
    return {token for token in (*several, tokenizer.eos_token_id) if token is not None}


def versions() -> dict[str, str]:
    """What the numbers depend on."""
    return {library.__name__: library.__version__ for library in (torch, transformers, peft)}
