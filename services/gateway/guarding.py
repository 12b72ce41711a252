"""Guardrails on the hot route: what goes to the engine, and what comes back.

A request that is stopped is refused before the engine is asked. An answer that is stopped ends
with the finish reason `content_filter`, as OpenAI's API does it; its tokens are charged, since
they were made. A check that fails stops the request: nothing goes by unchecked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.errors import Unavailable
from services.gateway.answers import Refused
from services.guardrails.guard import Guard, masked
from services.guardrails.guards import Guards
from services.guardrails.models import Action, Finding, Place
from services.guardrails.stream import StreamGuard

log = logging.getLogger(__name__)

FILTERED = "content_filter"
_PLACES = {"user": Place.INPUT, "tool": Place.TOOLS, "function": Place.TOOLS}
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


class Blocked(Refused):
    """A policy stopped a request."""

    def __init__(self, finding: Finding, place: str, version: int) -> None:
        super().__init__(
            f"{place}: stopped by the policy of your organisation (version {version}): "
            f"{finding.check}, {finding.kind}",
            status=400,
            code="content_policy",
            param=place,
        )
        self.problem = f"blocked_{finding.check}"[:64]


@dataclass(slots=True)
class Guarding:
    """The guards of one exchange and what they found.

    Attributes:
        output: The guard for the answer.
    """

    guards: Guards
    output: Guard
    findings: list[Finding] = field(default_factory=list)

    def request(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """The fields of a request as they may go to the engine.

        Raises:
            Blocked: The policy stops it.
            Unavailable: A check failed.
        """
        guards = self.guards
        if guards.input.is_empty and guards.tools.is_empty:
            return fields
        try:
            messages = [
                self._message(place, message) for place, message in enumerate(fields["messages"])
            ]
        except Refused:
            raise
        except Exception as error:
            raise _failed(error) from error
        return fields if messages == fields["messages"] else {**fields, "messages": messages}

    def _message(self, number: int, message: dict[str, Any]) -> dict[str, Any]:
        content = message.get("content")
        place = f"messages[{number}].content"
        if isinstance(content, str):
            text = self._text(message["role"], content, place)
            return message if text == content else {**message, "content": text}
        if not isinstance(content, list):
            return message
        parts = [
            {**part, "text": self._text(message["role"], part["text"], f"{place}[{at}]")}
            if isinstance(part, dict) and isinstance(part.get("text"), str)
            else part
            for at, part in enumerate(content)
        ]
        return {**message, "content": parts}

    def _text(self, role: str, text: str, place: str) -> str:
        where = _PLACES.get(role)
        found = (self.guards.tools if where is Place.TOOLS else self.guards.input).findings(text)
        if where is None:
            # The tenant's own application wrote it, or the model: it is masked, not judged.
            found = tuple(one for one in found if one.action is Action.MASK)
        self.findings += found
        for one in found:
            if one.action is Action.BLOCK:
                raise Blocked(one, place, self.guards.version)
        return masked(text, found)

    def answer(self, body: bytes) -> bytes:
        """A whole answer as it may go to the client.

        Raises:
            Unavailable: A check failed.
        """
        if self.output.is_empty:
            return body
        try:
            answer = orjson.loads(body)
            changed = [self._choice(choice) for choice in answer["choices"]]
            return orjson.dumps(answer) if any(changed) else body
        except Exception as error:
            raise _failed(error) from error

    def _choice(self, choice: dict[str, Any]) -> bool:
        message = choice.get("message") or {}
        changed = False
        for holder, name in _texts_of(message):
            verdict = self.output.check(holder[name])
            text = verdict.text if name == "content" else masked(holder[name], verdict.findings)
            self.findings += verdict.findings
            if verdict.blocked_by is not None:
                choice["message"] = {"role": message.get("role", "assistant"), "content": ""}
                choice["finish_reason"], choice["logprobs"] = FILTERED, None
                return True
            if text != holder[name]:
                holder[name], changed = text, True
        if changed and choice.get("logprobs") is not None:
            choice["logprobs"] = None  # They repeat the text, token by token.
        return changed

    def stream(self) -> GuardedStream | None:
        """What guards a streamed answer; None where nothing is checked."""
        return None if self.output.is_empty else GuardedStream(self)


def _texts_of(message: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Where a message, or a part of one, has text: the object and the name in it."""
    found = [(message, name) for name in _TEXTS if isinstance(message.get(name), str)]
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        if isinstance(function.get("arguments"), str):
            found.append((function, "arguments"))
    return found


class GuardedStream:
    """Guards the texts of a stream, each choice and each field of it for itself."""

    def __init__(self, guarding: Guarding) -> None:
        self._guarding = guarding
        self._guards: dict[tuple[int, str, int], StreamGuard] = {}
        self._blocked: set[int] = set()
        self._open: set[int] = set()

    @property
    def is_stopped(self) -> bool:
        """Whether no choice is left that could go on."""
        return bool(self._blocked) and not self._open

    def chunk(self, choices: list[dict[str, Any]]) -> bool:
        """Change the choices of a chunk to what may go out.

        Returns:
            Whether anything is left to send.

        Raises:
            Unavailable: A check failed.
        """
        try:
            return any([self._choice(choice) for choice in choices])
        except Exception as error:
            raise _failed(error) from error

    def _choice(self, choice: dict[str, Any]) -> bool:
        index = int(choice.get("index") or 0)
        if index in self._blocked:
            choice["delta"], choice["finish_reason"] = {}, None
            return False
        self._open.add(index)
        delta = choice.get("delta") or {}
        choice["delta"] = delta
        if choice.get("logprobs") is not None:
            choice["logprobs"] = None  # They repeat the text, token by token.
        self._feed(index, delta)
        has_ended = choice.get("finish_reason") is not None
        if has_ended:
            self._finish(index, delta)
            self._open.discard(index)
        if index in self._blocked:
            choice["delta"], choice["finish_reason"] = {}, FILTERED
            self._open.discard(index)
            return True
        return has_ended or any(value not in (None, "", []) for value in delta.values())

    def _feed(self, index: int, delta: dict[str, Any]) -> None:
        for number, (holder, name) in enumerate(_texts_of(delta)):
            key = (index, name, _place(holder, delta, number))
            guard = self._guards.setdefault(key, StreamGuard(self._guarding.output))
            holder[name] = guard.feed(holder[name])
            self._note(index, guard)

    def _finish(self, index: int, delta: dict[str, Any]) -> None:
        for (choice, name, call), guard in self._guards.items():
            if choice != index:
                continue
            rest = guard.finish(with_notices=name == "content")
            if guard.blocked_by is None:
                self._guarding.findings += guard.findings
            self._note(index, guard)
            if not rest:
                continue
            if name != "arguments":
                delta[name] = (delta.get(name) or "") + rest
            else:
                piece = {"index": call, "function": {"arguments": rest}}
                delta["tool_calls"] = [*(delta.get("tool_calls") or ()), piece]

    def _note(self, index: int, guard: StreamGuard) -> None:
        if guard.blocked_by is not None and index not in self._blocked:
            self._blocked.add(index)
            self._guarding.findings += guard.findings


def _place(holder: dict[str, Any], delta: dict[str, Any], number: int) -> int:
    """Which tool call an object belongs to; 0 for the message's own texts."""
    for call in delta.get("tool_calls") or ():
        if call.get("function") is holder:
            return int(call.get("index") or 0)
    return 0


def _failed(error: Exception) -> Unavailable:
    log.exception("a guardrail failed", exc_info=error)
    return Unavailable("the policy could not be applied; nothing is answered without it")
