"""The embedded engine without its HTTP shell: models by name, and answers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from services.errors import InvalidInput, NotFound
from services.inference.digests import check_adapter_name
from services.inference.engine.generation import Generation, Sink
from services.inference.engine.lora import Adapter, load_adapter
from services.inference.engine.model import LanguageModel
from services.inference.engine.protocol import (
    Ask,
    ChatAsk,
    CompletionAsk,
    Shape,
    chat_messages,
    sampling_of,
)
from services.inference.engine.sampling import Sampling
from services.inference.engine.scheduler import Scheduler
from services.inference.models import BaseModel

DEFAULT_COMPLETION_TOKENS = 16


@dataclass(frozen=True)
class Options:
    """Limits of the embedded engine.

    Attributes:
        max_model_len: Longest context, tokens; never more than the model was made for.
        max_running: Most requests that run at once.
        max_waiting: Most requests that wait; more are answered 503.
        cache_mb: Memory of all key-value caches together, MiB.
        adapters_mb: Memory of all loaded adapters together, MiB.
    """

    max_model_len: int = 4096
    max_running: int = 8
    max_waiting: int = 64
    cache_mb: int = 1024
    adapters_mb: int = 2048


@dataclass(frozen=True)
class LoadedAdapter:
    """An adapter that requests may name."""

    name: str
    path: str
    weights: Adapter
    created: int


@dataclass(frozen=True)
class Prepared:
    """A request that was checked and turned into tokens.

    Attributes:
        model: The name it was asked under.
        prompt: Token ids.
    """

    model: str
    adapter: Adapter | None
    prompt: list[int]
    sampling: Sampling
    is_chat: bool


class Engine:
    """One base model and its adapters, answering.

    Args:
        base: The base model on disk.
        model: The same in memory.
        options: Limits.
    """

    def __init__(self, base: BaseModel, model: LanguageModel, options: Options) -> None:
        self.base = base
        self.options = options
        self._model = model
        self.max_model_len = min(self.options.max_model_len, self._model.max_positions)
        self.scheduler = Scheduler(
            self._model,
            max_running=self.options.max_running,
            max_waiting=self.options.max_waiting,
            cache_tokens=(self.options.cache_mb << 20) // self._model.bytes_per_token,
        )
        self._created = int(time.time())
        self._adapters: dict[str, LoadedAdapter] = {}
        self._loading = Lock()

    def load_adapter(self, name: str, path: str, *, replace: bool = False) -> None:
        """Make an adapter answer under a name; nothing that runs is disturbed.

        Args:
            name: Where it ends in `-` and 12 hex digits, these are the beginning of the
                adapter's digest, which is computed again here.
            path: The adapter's folder on this machine.
            replace: Take the place of an adapter of the same name.

        Raises:
            InvalidInput: The name is taken or empty, the adapter does not fit or is too large.
            MissingModel: There is no adapter at the path.
            DigestMismatch: The name promises other weights.
        """
        with self._loading:
            self._check_name(name, path, replace=replace)
            weights = load_adapter(Path(path), self._model.layers)
            check_adapter_name(name, Path(path))
            self._check_memory(name, weights)
            loaded = LoadedAdapter(name, path, weights, int(time.time()))
            self._adapters = {**self._adapters, name: loaded}

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter; requests that run with it end normally, then its memory is free.

        Raises:
            NotFound: No adapter of that name is loaded.
        """
        with self._loading:
            if name not in self._adapters:
                raise NotFound(f"The lora adapter '{name}' cannot be found.")
            self._adapters = {k: v for k, v in self._adapters.items() if k != name}

    def models(self) -> list[dict[str, Any]]:
        """The rows of `/v1/models`: the base model first."""
        common = {"object": "model", "owned_by": "param-console"}
        base: dict[str, Any] = {
            "id": self.base.name,
            "created": self._created,
            "root": str(self.base.path),
            "parent": None,
            "max_model_len": self.max_model_len,
        }
        adapters = [
            {
                "id": adapter.name,
                "created": adapter.created,
                "root": adapter.path,
                "parent": self.base.name,
                "max_model_len": None,
            }
            for adapter in self._adapters.values()
        ]
        return [{**row, **common} for row in (base, *adapters)]

    def prepare(self, ask: ChatAsk | CompletionAsk) -> Prepared:
        """Check a request and turn its prompt into tokens.

        Raises:
            NotFound: No model of that name is served.
            InvalidInput: The prompt is unusable or too long.
        """
        name = ask.model or self.base.name
        adapter = self._adapter(name)
        prompt = self._prompt(ask)
        budget = self._budget(ask, len(prompt))
        sampling = sampling_of(ask, self._model.sampling_defaults, max_tokens=budget)
        return Prepared(name, adapter, prompt, sampling, is_chat=isinstance(ask, ChatAsk))

    def start(self, prepared: Prepared, sink: Sink) -> tuple[Generation, Shape]:
        """Make what the scheduler runs, and what writes its answer."""
        generation = Generation(
            prepared.model,
            prepared.prompt,
            prepared.sampling,
            prepared.adapter,
            decode=self._model.decode,
            eos_ids=self._model.eos_ids,
            sink=sink,
        )
        shape = Shape(
            is_chat=prepared.is_chat,
            model=prepared.model,
            prompt_tokens=len(prepared.prompt),
            fingerprint=f"embedded-{self.base.digest[:12]}",
        )
        return generation, shape

    def _adapter(self, name: str) -> Adapter | None:
        if name == self.base.name:
            return None
        loaded = self._adapters.get(name)
        if loaded is None:
            raise NotFound(f"The model `{name}` does not exist.")
        return loaded.weights

    def _prompt(self, ask: ChatAsk | CompletionAsk) -> list[int]:
        if isinstance(ask, ChatAsk):
            ids = self._model.encode(self._model.render(chat_messages(ask)), special=False)
        else:
            ids = self._completion_prompt(ask)
        if not ids:
            raise InvalidInput("prompt: expected at least one token, found an empty prompt")
        if len(ids) >= self.max_model_len:
            raise InvalidInput(
                f"This model's maximum context length is {self.max_model_len} tokens. However, "
                f"your prompt contains {len(ids)} input tokens, which leaves no room for an "
                "answer. Please reduce the length of the input prompt."
            )
        return ids

    def _completion_prompt(self, ask: CompletionAsk) -> list[int]:
        prompt = ask.prompt
        if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
            prompt = prompt[0]
        if isinstance(prompt, str) and prompt:
            return self._model.encode(prompt, special=True)
        if isinstance(prompt, list) and all(
            type(token) is int and 0 <= token < self._model.vocabulary for token in prompt
        ):
            return list(prompt)
        raise InvalidInput(
            "prompt: expected one text or one list of token ids of this model's vocabulary, found "
            "none or several"
        )

    def _budget(self, ask: Ask, prompt_tokens: int) -> int:
        """Most tokens of the answer: as asked, but within the context, as in vLLM."""
        asked = ask.max_completion_tokens if isinstance(ask, ChatAsk) else None
        asked = asked if asked is not None else ask.max_tokens
        if asked is None and isinstance(ask, CompletionAsk):
            asked = DEFAULT_COMPLETION_TOKENS
        room = self.max_model_len - prompt_tokens
        if asked is not None and asked > self.max_model_len:
            raise InvalidInput(
                f"max_tokens={asked} cannot be greater than max_model_len={self.max_model_len}. "
                "Please request fewer output tokens."
            )
        return room if asked is None else min(asked, room)

    def _check_name(self, name: str, path: str, *, replace: bool) -> None:
        if not name or not path:
            raise InvalidInput("Both 'lora_name' and 'lora_path' must be provided.")
        if name == self.base.name:
            raise InvalidInput(f"The lora adapter '{name}' conflicts with a served base model.")
        if name in self._adapters and not replace:
            raise InvalidInput(
                f"The lora adapter '{name}' has already been loaded. If you want to load the "
                "adapter in place, set 'load_inplace' to True."
            )

    def _check_memory(self, name: str, weights: Adapter) -> None:
        others = sum(a.weights.size_bytes for a in self._adapters.values() if a.name != name)
        limit = self.options.adapters_mb << 20
        if others + weights.size_bytes > limit:
            raise InvalidInput(
                f"adapter {name!r} takes {weights.size_bytes >> 20} MiB and the others "
                f"{others >> 20} MiB, together more than {self.options.adapters_mb} MiB: unload some"
            )
