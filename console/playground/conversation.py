"""Who is signed in on one open page, and what was said there. Lives in this process only."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from console.playground.client import Account, Answer, Gateway
from services.errors import ConsoleError, InvalidInput, NotSignedIn, Unavailable

MAX_TURNS = 40
"""Messages that are sent again with the next one; older ones are left out of the prompt."""


@dataclass(frozen=True)
class Choices:
    """What the person set for the next answer.

    Attributes:
        temperature: 0 always takes the likeliest token.
        max_tokens: Longest answer, tokens.
    """

    alias: str
    system: str = ""
    temperature: float = 0.0
    max_tokens: int = 256


@dataclass
class Conversation:
    """One page's sign-in and dialogue.

    Attributes:
        key: The tenant's API key.
        id: Random; keeps the dialogue on one arm of a rollout.
        turns: As they were said, unescaped: only the page decides how text is shown.
        last: The latest answer that was begun.
        receipt: Its receipt, once it was asked for.
    """

    gateway: Gateway = field(repr=False)
    key: str = field(repr=False)
    account: Account
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    turns: list[dict[str, str]] = field(default_factory=list)
    last: Answer | None = None
    receipt: dict[str, Any] | None = field(default=None, repr=False)
    stop: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def __deepcopy__(self, _memo: dict[int, Any]) -> Conversation:
        """The page's state is this very object: a copy could not be stopped."""
        return self

    def begin_again(self) -> None:
        """Forget the dialogue, not the person."""
        self.stop.set()
        self.id, self.turns, self.last, self.receipt = secrets.token_hex(16), [], None, None

    async def ask(self, message: str, choices: Choices) -> AsyncIterator[Answer]:
        """Send a message; yields the answer as it grows.

        Raises:
            InvalidInput: The message is empty.
            ConsoleError: See `Gateway.chat`; the message is taken back, so that it can be sent
                again.
        """
        if not message.strip():
            raise InvalidInput("empty message")
        self.stop = stop = asyncio.Event()
        earlier = self.last, self.receipt
        self.last, self.receipt = None, None
        turns = self.turns
        turns.append({"role": "user", "content": message})
        asked = len(turns)
        try:
            stream = self.gateway.chat(
                self.key, self._body(choices), conversation=self.id, stop=stop
            )
            async for answer in stream:
                self.last = answer
                del turns[asked:]
                turns.append({"role": "assistant", "content": answer.text})
                yield answer
        except ConsoleError:
            if self.last is None:
                del turns[asked - 1 :]
                self.last, self.receipt = earlier
            raise
        if self.last is not None and turns is self.turns:
            await self._settle(self.last)

    async def _settle(self, answer: Answer) -> None:
        """Learn from the receipt what a stream does not tell: its cost."""
        if not answer.receipt_id:
            return
        try:
            self.receipt = await self.gateway.receipt(self.key, answer.receipt_id)
        except Unavailable:
            return  # Shown as not known; asked for again when the person verifies.
        self.last = replace(answer, **_from_receipt(answer, self.receipt))

    async def verified(self) -> dict[str, Any]:
        """What the gateway finds when it checks the last answer's receipt.

        Raises:
            InvalidInput: There is no answer, or it has no receipt.
            ConsoleError: The gateway refused or does not answer.
        """
        if self.last is None or not self.last.receipt_id:
            raise InvalidInput("no receipt")
        if self.receipt is None:
            self.receipt = await self.gateway.receipt(self.key, self.last.receipt_id)
        return await self.gateway.verify(self.receipt, self.last)

    async def rate(self, thumb: str) -> None:
        """Say what one thinks of the last answer; the same word again takes it back.

        Args:
            thumb: `up` or `down`.

        Raises:
            InvalidInput: There is no answer, or it has no receipt.
            ConsoleError: The gateway refused or does not answer.
        """
        last = self.last
        if last is None or not last.receipt_id:
            raise InvalidInput("no receipt")
        wanted = "" if last.thumb == thumb else thumb
        await self.gateway.feedback(self.key, last.receipt_id, wanted or "none")
        last.thumb = wanted

    def _body(self, choices: Choices) -> dict[str, Any]:
        system = choices.system.strip()
        head = [{"role": "system", "content": system}] if system else []
        return {
            "model": choices.alias,
            "messages": [*head, *self.turns[-MAX_TURNS:]],
            "temperature": choices.temperature,
            "max_tokens": choices.max_tokens,
        }


async def sign_in(gateway: Gateway, key: str) -> Conversation:
    """Begin a conversation for whoever holds the key.

    Raises:
        NotSignedIn: The key is nobody's.
        ConsoleError: The gateway does not answer.
    """
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise NotSignedIn("expected an API key")
    return Conversation(gateway=gateway, key=key, account=await gateway.account(key))


def _from_receipt(answer: Answer, receipt: dict[str, Any]) -> dict[str, Any]:
    """The cost that the signed statement names, in millionths of its currency unit."""
    try:
        payload = base64.b64decode(receipt["envelope"]["payload"], validate=True)
        return {"cost_micro": int(json.loads(payload)["predicate"]["cost"]["micro"])}
    except (KeyError, TypeError, ValueError):
        return {}  # Another version's receipt: shown as not known, and told on verification.
