"""Reading a chat request: what the gateway must know of it; everything else passes through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from services.errors import InvalidInput

MAX_CHOICES = 16
DEFAULT_COMPLETION = 1024
"""Tokens that an answer may have when the client sets no maximum."""

MAX_COMPLETION = 10_000_000
TEMPLATE_TOKENS = 64
"""What a chat template adds once, a default system prompt included."""

MESSAGE_TOKENS = 8
"""What a chat template adds around each message."""

TOOLS_TOKENS = 512
"""What a chat template says about tools, beside their own text."""


class InvalidField(InvalidInput):
    """A field of the body cannot be used; `param` names it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param}: {message}")
        self.param = param


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request to `/v1/chat/completions`, checked as far as the gateway relies on it.

    Attributes:
        fields: The whole body; unknown fields stay as they came.
        model: What the client asked for; empty for the default alias.
        wants_usage: The client asked for a usage chunk at the end of the stream.
        wants_continuous_usage: The client asked for usage in every chunk.
        max_completion: Tokens that the client allows; None if it sets no maximum.
        prompt_bound: Upper bound of the prompt's tokens.
    """

    fields: Mapping[str, Any]
    model: str
    user: str | None
    stream: bool
    wants_usage: bool
    wants_continuous_usage: bool
    max_completion: int | None
    choices: int
    prompt_bound: int

    @property
    def is_formal(self) -> bool:
        """Whether the answer must stay JSON, so that nothing may be put behind it."""
        wanted = self.fields.get("response_format")
        is_json = isinstance(wanted, dict) and str(wanted.get("type", "text")) != "text"
        return is_json or any(str(name).startswith("guided_") for name in self.fields)

    def upstream_body(self, model: str, max_tokens: int | None) -> bytes:
        """The body for the engine: resolved model, maximum, and usage in every chunk."""
        fields = dict(self.fields)
        fields["model"] = model
        if max_tokens is not None:
            fields.pop("max_completion_tokens", None)
            fields["max_tokens"] = max_tokens
        if self.stream:
            fields["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        return _dumps(fields)

    def fallback_body(self, model: str, max_tokens: int) -> bytes:
        """The body for a second engine, which may not know what vLLM adds to OpenAI's protocol."""
        fields = dict(self.fields)
        fields["model"], fields["max_tokens"] = model, max_tokens
        fields.pop("max_completion_tokens", None)
        if self.stream:
            fields["stream_options"] = {"include_usage": True}
        return _dumps(fields)


def read_chat_request(body: bytes) -> ChatRequest:
    """Check a request body.

    Raises:
        InvalidInput: The body is not a JSON object in UTF-8, or a field that the gateway relies
            on has another kind of value than the API defines.
    """
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"body: expected JSON in UTF-8, found {error}") from error
    if not isinstance(fields, dict):
        raise InvalidInput(f"body: expected a JSON object, found {_kind(fields)}")
    messages = _messages(fields.get("messages"))
    stream = _boolean(fields, "stream")
    options = fields.get("stream_options") or {}
    if not isinstance(options, dict):
        raise InvalidField("stream_options", f"expected an object, found {_kind(options)}")
    if options and not stream:
        raise InvalidField("stream_options", "expected only together with stream: true")
    maximum = _integer(fields, "max_completion_tokens", MAX_COMPLETION)
    if maximum is None:
        maximum = _integer(fields, "max_tokens", MAX_COMPLETION)
    return ChatRequest(
        fields=fields,
        model=_text(fields, "model") or "",
        user=_text(fields, "user"),
        stream=stream,
        wants_usage=bool(options.get("include_usage")),
        wants_continuous_usage=bool(options.get("continuous_usage_stats")),
        max_completion=maximum,
        choices=_integer(fields, "n", MAX_CHOICES) or 1,
        prompt_bound=_prompt_bound(messages, fields.get("tools")),
    )


def _messages(found: Any) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not found:
        raise InvalidField("messages", f"expected a list with a message, found {_kind(found)}")
    for place, message in enumerate(found):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InvalidField(
                f"messages[{place}]", f"expected an object with a role, found {_kind(message)}"
            )
    return found


def _prompt_bound(messages: list[dict[str, Any]], tools: Any) -> int:
    """An upper bound of the prompt's tokens, without a tokenizer.

    A byte-level tokenizer makes at most one token of each UTF-8 byte; the chat template adds
    a little around each message and once around all of them.
    """
    bound = TEMPLATE_TOKENS + MESSAGE_TOKENS * len(messages)
    for message in messages:
        for name, value in message.items():
            if isinstance(value, str):
                # orjson refuses lone surrogates, so every string has a UTF-8 form.
                bound += len(value.encode()) if name != "role" else 0
            elif value is not None:
                bound += len(_dumps(value))
    return bound + (TOOLS_TOKENS + len(_dumps(tools)) if tools else 0)


def _dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        # What was read can be written, but for its depth.
        raise InvalidInput("body: expected JSON nested less than 254 deep") from error


def _boolean(fields: Mapping[str, Any], name: str) -> bool:
    found = fields.get(name)
    if found is not None and not isinstance(found, bool):
        raise InvalidField(name, f"expected true or false, found {_kind(found)}")
    return bool(found)


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    found = fields.get(name)
    if found is not None and not isinstance(found, str):
        raise InvalidField(name, f"expected a string, found {_kind(found)}")
    return found


def _integer(fields: Mapping[str, Any], name: str, high: int) -> int | None:
    found = fields.get(name)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= high:
        shown = found if isinstance(found, int | float) else _kind(found)
        raise InvalidField(name, f"expected a whole number from 1 to {high}, found {shown}")
    return int(found)


def _kind(value: Any) -> str:
    """What a JSON value is, without repeating it: it may be a prompt."""
    names = {
        "NoneType": "null or nothing", "bool": "true or false", "int": "a number",
        "float": "a number", "str": "a string", "list": "a list", "dict": "an object",
    }  # fmt: skip
    if value == []:
        return "an empty list"
    return names[type(value).__name__]
