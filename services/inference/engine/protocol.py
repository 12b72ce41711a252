"""What is read from requests and written into answers, in the shape of OpenAI and vLLM."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from services.errors import InvalidInput
from services.inference.engine.generation import Piece
from services.inference.engine.sampling import Sampling

Json = dict[str, Any]

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "echo": (None, False),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "prompt_logprobs": (None,),
    "logit_bias": (None, {}),
    "suffix": (None, ""),
    "min_p": (None, 0, 0.0),
    "min_tokens": (None, 0),
    "use_beam_search": (None, False),
    "tools": (None, []),
    "functions": (None, []),
    "response_format": (None, {"type": "text"}),
    "structured_outputs": (None,),
    "guided_json": (None,),
    "prompt_embeds": (None,),
    "stop_token_ids": (None, []),
}
"""Fields that would change the answer and are not served here, with the values that ask for
nothing. Other values are refused: an answer that ignores them would be wrong without a word."""


class StreamOptions(BaseModel):
    """Whether usage is told at the end of a stream, or with every chunk."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class Ask(BaseModel):
    """What both kinds of request have in common."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1)
    repetition_penalty: float | None = Field(None, gt=0)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = Field(None)
    stream: bool = False
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False

    @field_validator("presence_penalty", "frequency_penalty", "stream", mode="before")
    @classmethod
    def _null_is_default(cls, value: Any) -> Any:
        return 0 if value is None else value

    @field_validator("stop")
    @classmethod
    def _usable_stops(cls, value: str | list[str] | None) -> list[str]:
        stops = [value] if isinstance(value, str) else value or []
        if len(stops) > 4 or "" in stops:
            raise ValueError("expected at most 4 stop strings, none of them empty")
        return stops

    @model_validator(mode="after")
    def _no_silent_loss(self) -> Ask:
        for name, neutral in NEUTRAL.items():
            value = (self.model_extra or {}).get(name)
            if not any(value == one and type(value) is type(one) for one in neutral):
                raise ValueError(f"{name}={value!r} is not served by the embedded engine")
        if self.stream_options is not None and not self.stream:
            raise ValueError("Stream options can only be defined when `stream=True`.")
        return self

    @property
    def usage_at_end(self) -> bool:
        """Whether the stream ends with a chunk that tells the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def usage_always(self) -> bool:
        """Whether every chunk tells the usage so far."""
        return self.usage_at_end and bool(
            self.stream_options and self.stream_options.continuous_usage_stats
        )


class ChatAsk(Ask):
    """A request to `/v1/chat/completions`."""

    max_completion_tokens: int | None = Field(None, ge=1)
    messages: list[Json]


class CompletionAsk(Ask):
    """A request to `/v1/completions`: one prompt, as text or as token ids."""

    prompt: str | list[Any] | None = None


class LoadAsk(BaseModel):
    """A request to `/v1/load_lora_adapter`."""

    lora_name: str
    lora_path: str
    load_inplace: bool = False


class UnloadAsk(BaseModel):
    """A request to `/v1/unload_lora_adapter`."""

    lora_name: str


def chat_messages(ask: ChatAsk) -> list[dict[str, str]]:
    """The turns as role and text.

    Raises:
        InvalidInput: There are none, or one is not text.
    """
    if not ask.messages:
        raise InvalidInput("messages: expected at least one message, found an empty conversation")
    return [_turn(number, message) for number, message in enumerate(ask.messages)]


def _turn(number: int, message: Json) -> dict[str, str]:
    role, content = message.get("role"), message.get("content")
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {} for part in content]
        if all(part.get("type") == "text" and isinstance(part.get("text"), str) for part in parts):
            content = "\n".join(part["text"] for part in parts)
    if content is None and role == "assistant":
        content = ""
    if not (isinstance(role, str) and isinstance(content, str)):
        raise InvalidInput(
            f"messages.{number}: expected a role and text content (this is not a multimodal "
            "model), found something else"
        )
    return {"role": role, "content": content}


def sampling_of(ask: Ask, defaults: Json, *, max_tokens: int) -> Sampling:
    """How the answer is drawn: what was asked, else what the model's makers advise."""

    def pick(name: str, fallback: Any) -> Any:
        asked = getattr(ask, name)
        return asked if asked is not None else defaults.get(name, fallback)

    return Sampling(
        max_tokens=max_tokens,
        temperature=float(pick("temperature", 1.0)),
        top_p=float(pick("top_p", 1.0)),
        top_k=max(0, int(pick("top_k", 0))),
        repetition_penalty=float(pick("repetition_penalty", 1.0)),
        presence_penalty=ask.presence_penalty,
        frequency_penalty=ask.frequency_penalty,
        seed=ask.seed,
        stop=tuple(ask.stop or ()),
        ignore_eos=ask.ignore_eos,
    )


class Shape:
    """Writes answers of one kind.

    Args:
        is_chat: Whether `/v1/chat/completions` was asked, or `/v1/completions`.
        model: Name of the model that answers.
        prompt_tokens: Tokens of the prompt, for the usage.
        fingerprint: Names engine and base weights.
    """

    def __init__(self, *, is_chat: bool, model: str, prompt_tokens: int, fingerprint: str) -> None:
        self._is_chat = is_chat
        answer_id = f"{'chatcmpl' if is_chat else 'cmpl'}-{uuid.uuid4().hex}"
        self._head = {"id": answer_id, "created": int(time.time()), "model": model}
        self._prompt_tokens = prompt_tokens
        self._fingerprint = fingerprint

    def usage(self, completion_tokens: int) -> Json:
        """Token counts."""
        return {
            "prompt_tokens": self._prompt_tokens,
            "total_tokens": self._prompt_tokens + completion_tokens,
            "completion_tokens": completion_tokens,
        }

    def whole(self, pieces: Sequence[Piece]) -> Json:
        """The answer to a request that was not streamed."""
        text, last = "".join(piece.text for piece in pieces), pieces[-1]
        said: Json = (
            {"message": {"role": "assistant", "content": text, "refusal": None}}
            if self._is_chat
            else {"text": text}
        )
        return {
            **self._head,
            "object": "chat.completion" if self._is_chat else "text_completion",
            "choices": [
                {
                    "index": 0,
                    **said,
                    "logprobs": None,
                    "finish_reason": last.finish_reason,
                    "stop_reason": last.stop_reason,
                }
            ],
            "usage": self.usage(last.tokens),
            "system_fingerprint": self._fingerprint,
        }

    def opening(self, *, with_usage: bool) -> Json | None:
        """The first chunk of a chat stream, which names the role; completions have none."""
        if not self._is_chat:
            return None
        choice = {"delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        return self._chunk(choice, 0 if with_usage else None)

    def chunk(self, piece: Piece, *, with_usage: bool) -> Json:
        """One token's chunk."""
        choice: Json = {"delta": {"content": piece.text}} if self._is_chat else {"text": piece.text}
        choice["finish_reason"] = piece.finish_reason
        if piece.finish_reason is not None or not self._is_chat:
            choice["stop_reason"] = piece.stop_reason
        return self._chunk(choice, piece.tokens if with_usage else None)

    def closing(self, completion_tokens: int) -> Json:
        """The last chunk where usage was asked for: no choices."""
        return {
            **self._head,
            "object": self._chunk_object,
            "choices": [],
            "usage": self.usage(completion_tokens),
            "system_fingerprint": self._fingerprint,
        }

    @property
    def _chunk_object(self) -> str:
        return "chat.completion.chunk" if self._is_chat else "text_completion"

    def _chunk(self, choice: Json, completion_tokens: int | None) -> Json:
        chunk: Json = {
            **self._head,
            "object": self._chunk_object,
            "choices": [{"index": 0, "logprobs": None, **choice}],
        }
        if completion_tokens is not None:
            chunk["usage"] = self.usage(completion_tokens)
        return chunk
