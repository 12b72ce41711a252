"""Whether both answers are the same once training has cut them off.

A pair whose tokens are equal up to the cut teaches nothing: its loss is log 2 and its gradient
zero. Tokens are those of the base model, from its `tokenizer.json` and chat template; neither
torch nor transformers is needed for it.

Source: natolambert/rlhf-book#504 (7 % of UltraFeedback at 512 tokens), OpenRLHF#1311.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.errors import InvalidInput, MissingModel
from services.inference import model_store
from services.preferences.gates.models import Candidate, Finding

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

SLACK = 8
"""Tokens at the end of a common beginning that may still be joined with what follows."""
MEMORY = 200_000
"""Characters of a dialogue that are tokenised; the cut is far before it, or the pair is long."""

_PLAIN = "{% for message in messages %}{{ message.content }}\n{% endfor %}"


def training_tokenizer(base_model: str, models_dir: Path) -> TrainingTokenizer | None:
    """The tokenizer of a base model; None where the model is not on disk, or has none of its own.

    Args:
        base_model: A name, a folder or a Hugging Face id, as in the settings.

    Raises:
        InvalidInput: Its files cannot be read.
    """
    try:
        folder = model_store.resolve(base_model, models_dir).path
    except MissingModel:
        return None
    return TrainingTokenizer(folder) if (folder / "tokenizer.json").is_file() else None


class TrainingTokenizer:
    """The tokenizer of a base model, with its chat template.

    Args:
        folder: The model's; holds `tokenizer.json`.

    Attributes:
        name: The model's folder.
        sha256: Of `tokenizer.json`.

    Raises:
        InvalidInput: The files cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer  # like jinja2 below: only an export needs it

        file = folder / "tokenizer.json"
        try:
            data = file.read_bytes()
            self._tokenizer = Tokenizer.from_str(data.decode())
            config = _config(folder)
            self._template = _environment().from_string(_template(folder, config))
        except Exception as error:  # the tokenizers library raises nothing narrower
            raise InvalidInput(
                f"{file.name}: expected a tokenizer that can be read, found {type(error).__name__}"
            ) from error
        self._special = {
            name: value if isinstance(value, str) else (value or {}).get("content", "")
            for name, value in config.items()
            if name.endswith("_token")
        }
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.name, self.sha256 = folder.name, hashlib.sha256(data).hexdigest()
        self._overhead = len(self._rendered([{"role": "user", "content": ""}]).encode()) + 64

    def identical_when_cut(
        self, candidates: Sequence[Candidate], *, max_length: int
    ) -> dict[str, Finding]:
        """A finding by pair id, for each pair whose answers are the same up to the cut.

        Args:
            max_length: Tokens of prompt and answer that training keeps.
        """
        close = [one for one in candidates if self._may_be(one, max_length)]
        counts = self._shared_tokens(close)
        long = [
            one for one, count in zip(close, counts, strict=True) if count + SLACK >= max_length
        ]
        chosen = self._ids([self._dialogue(one, one.chosen.text) for one in long])
        rejected = self._ids([self._dialogue(one, one.rejected.text) for one in long])
        finding = Finding("truncated_identical", f"the same in {max_length} tokens")
        return {
            one.pair.id: finding
            for one, first, second in zip(long, chosen, rejected, strict=True)
            if first[:max_length] == second[:max_length]
        }

    def _shared_tokens(self, candidates: Sequence[Candidate]) -> list[int]:
        """For each pair, at least as many tokens as its dialogues have in common at the start."""
        shared = [
            one.chosen.text[: _common(one.chosen.text, one.rejected.text)] for one in candidates
        ]
        dialogues = [
            self._dialogue(one, text) for one, text in zip(candidates, shared, strict=True)
        ]
        # A template may trim what is in the midst of the whole answers.
        return [
            len(ids) + len(text) - len(text.rstrip())
            for ids, text in zip(self._ids(dialogues), shared, strict=True)
        ]

    def _may_be(self, one: Candidate, max_length: int) -> bool:
        """Whether the answers could be equal up to the cut; most pairs need no tokens for a no.

        No token is shorter than a byte, so that what differs in the first bytes differs in the
        first as many tokens.
        """
        size = sum(len(turn.content.encode()) + 32 for turn in one.pair.prompt.turns)
        if size + self._overhead + SLACK + len(one.chosen.text) * 4 < max_length:
            return False
        shared = _common(one.chosen.text, one.rejected.text)
        size += len(one.chosen.text[:shared].encode())
        return size + self._overhead + SLACK >= max_length

    def _dialogue(self, one: Candidate, answer: str) -> str:
        turns = [{"role": turn.role, "content": turn.content} for turn in one.pair.prompt.turns]
        return self._rendered([*turns, {"role": "assistant", "content": answer}])

    def _rendered(self, messages: list[dict[str, str]]) -> str:
        from jinja2 import TemplateError

        try:
            return self._template.render(
                messages=messages, add_generation_prompt=False, **self._special
            )
        except TemplateError:
            # Some templates refuse some dialogues, such as one with a system turn; training would
            # refuse it too, but its answers can still be compared.
            return "\n".join(message["content"] for message in messages)

    def _ids(self, texts: list[str]) -> list[list[int]]:
        cut = [text[:MEMORY] for text in texts]
        found = self._tokenizer.encode_batch_fast(cut, add_special_tokens=False)
        return [one.ids for one in found]


def _common(one: str, other: str) -> int:
    """Length of the common beginning of two texts, characters."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer_config.json"
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return content if isinstance(content, dict) else {}


def _template(folder: Path, config: dict[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = config.get("chat_template")
    return template if isinstance(template, str) else _PLAIN


def _environment() -> ImmutableSandboxedEnvironment:
    """As transformers renders chat templates; sandboxed, since a model's files are a stranger's."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment.globals["raise_exception"] = refuse
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    return environment
