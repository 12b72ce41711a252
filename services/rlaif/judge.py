"""One judge, one question: which of two answers is better, in the order in which they are shown.

Any server that speaks Anthropic's Messages protocol can judge: Claude, or vLLM's `/v1/messages`.
Requests go through the `anthropic` library without its own retries: whoever counts money must
know of every request that is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from services.errors import WrongConfiguration
from services.rlaif.failures import (
    AccessRefused,
    CreditTooLow,
    CutOff,
    InDoubt,
    JudgeFailure,
    Malformed,
    Overloaded,
    RateLimited,
    Refused,
    Rejected,
    ServerTrouble,
    Unreachable,
)
from services.rlaif.rubric import (
    INSTRUCTIONS,
    SCHEMA,
    SIDES,
    Judgement,
    Message,
    Side,
    question,
    read_verdict,
    revision,
)
from services.settings import Settings

DEFAULT_URL = "https://api.anthropic.com"
TIMEOUT_S = 120.0
MAX_TOKENS = 2_000
"""Longest verdict, tokens; models that think before they answer count their thoughts."""
CALL_HEADER = "idempotency-key"
"""Names each call to whoever stands between us and the judge and knows the header."""
_OVERLOADED = 529


class Judge(Protocol):
    """Whoever can say which of two answers is better."""

    @property
    def name(self) -> str:
        """Name of the model that judges."""
        ...

    @property
    def revision(self) -> str:
        """Of its instructions and settings."""
        ...

    def compare(self, prompt: Sequence[Message], first: str, second: str) -> Judgement:
        """Judge two answers, shown in this order.

        Args:
            prompt: Turns with `role` and `content`, the last one the user's.

        Raises:
            JudgeFailure: There is no verdict; the class says why.
        """
        ...


@dataclass(frozen=True)
class BothOrders:
    """What a judge said of two answers in both orders.

    Attributes:
        forward: With the one answer first; None where that call gave no verdict.
        backward: With the other answer first.
        failures: Why verdicts are missing.
    """

    forward: Judgement | None
    backward: Judgement | None
    failures: tuple[JudgeFailure, ...] = ()

    @property
    def is_consistent(self) -> bool | None:
        """Whether both orders agree; None where one of them is missing."""
        if self.forward is None or self.backward is None:
            return None
        return self.forward.preferred == _swapped(self.backward.preferred)

    @property
    def preferred(self) -> int | None:
        """0 for the one answer, 1 for the other; None for a tie, or a verdict that turns."""
        if not self.is_consistent or self.forward is None or self.forward.preferred is None:
            return None
        return SIDES.index(self.forward.preferred)


def judge_both(judge: Judge, prompt: Sequence[Message], one: str, other: str) -> BothOrders:
    """Ask in both orders; a judge that looks at the order is found out.

    Raises:
        JudgeFailure: Nothing can be judged at all now; see `failures.Later` and `failures.Halt`.
    """
    found: list[Judgement | None] = []
    missing: list[JudgeFailure] = []
    for first, second in ((one, other), (other, one)):
        try:
            found.append(judge.compare(prompt, first, second))
        except (Refused, CutOff, Malformed, Rejected, InDoubt) as failure:
            found.append(None)
            missing.append(failure)
    return BothOrders(found[0], found[1], tuple(missing))


def _swapped(side: Side | None) -> Side | None:
    return None if side is None else SIDES[1 - SIDES.index(side)]


class AnthropicJudge:
    """A judge behind Anthropic's Messages protocol.

    Args:
        model: As the server names it.
        url: Without `/v1`.
        api_key: Sent to that server only.
        max_tokens: Longest answer.
        effort: `low` to `max` where the model takes it; None leaves it to the server.
        timeout_s: Longest wait for an answer, seconds.

    Raises:
        WrongConfiguration: The library is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str = DEFAULT_URL,
        api_key: str = "",
        max_tokens: int = MAX_TOKENS,
        effort: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._model, self._url = model, url
        self._max_tokens, self._effort = max_tokens, effort
        self._revision = revision(model, max_tokens=max_tokens, effort=effort)
        # Typed loosely: the library is optional.
        self.client: Any = _client(url, api_key, timeout_s)

    @property
    def name(self) -> str:
        """Name of the model that judges."""
        return self._model

    @property
    def revision(self) -> str:
        """Of its instructions and settings."""
        return self._revision

    def close(self) -> None:
        """Give the connections back."""
        self.client.close()

    def params(
        self, prompt: Sequence[Message], first: str, second: str, *, max_tokens: int | None = None
    ) -> dict[str, Any]:
        """The request, for a direct call or as one of a batch."""
        output: dict[str, Any] = {"format": {"type": "json_schema", "schema": dict(SCHEMA)}}
        if self._effort is not None:
            output["effort"] = self._effort
        return {
            "model": self._model,
            "max_tokens": max_tokens or self._max_tokens,
            "system": INSTRUCTIONS,
            "messages": [{"role": "user", "content": question(prompt, first, second)}],
            "output_config": output,
        }

    def compare(
        self, prompt: Sequence[Message], first: str, second: str, *, call_id: str | None = None
    ) -> Judgement:
        """Judge two answers, shown in this order; see `Judge`."""
        return self.ask(self.params(prompt, first, second), call_id=call_id)

    def ask(self, params: Mapping[str, Any], *, call_id: str | None = None) -> Judgement:
        """Send one request, once.

        Args:
            params: As `params` gives them.
            call_id: Named to the server in a header.

        Raises:
            JudgeFailure: There is no verdict; the class says why.
        """
        headers = {} if call_id is None else {CALL_HEADER: call_id}
        with self.told():
            message = self.client.messages.create(**params, extra_headers=headers)
        return self.verdict(message)

    def verdict(self, message: Any) -> Judgement:
        """Read a `Message` of the library, from a direct call or a batch's result.

        Raises:
            Refused: The judge declines.
            CutOff: The answer was cut.
            Malformed: It is not what the rubric asks for.
        """
        tokens = _tokens(message)
        paid = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
        reason = getattr(message, "stop_reason", None)
        if reason == "refusal":
            raise Refused("the judge refused to compare these answers", **paid)
        if reason in {"max_tokens", "model_context_window_exceeded"}:
            raise CutOff(f"the verdict was cut: the judge stopped with {reason}", **paid)
        blocks = getattr(message, "content", None)
        texts = [
            block.text
            for block in (blocks if isinstance(blocks, list) else [])
            if getattr(block, "type", None) == "text" and isinstance(block.text, str)
        ]
        return read_verdict(
            "".join(texts), judge=self._model, revision=self.revision, tokens=tokens
        )

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn every way in which a request can fail into a failure of ours."""
        import anthropic

        try:
            yield
        except anthropic.APIStatusError as error:
            raise _of_status(error, self._url) from error
        except anthropic.APIConnectionError as error:
            raise _of_connection(error, self._url) from error
        except (anthropic.AnthropicError, ValueError) as error:
            # An answer with status 200 that is no message: it was sent, and may have been paid for.
            raise InDoubt(
                f"the judge at {self._url} answered with something that is no message "
                f"({type(error).__name__})"
            ) from error


def judge_of(
    settings: Settings, *, max_tokens: int = MAX_TOKENS, effort: str | None = None
) -> AnthropicJudge:
    """The judge that the settings name.

    Raises:
        WrongConfiguration: They name none, or no key for it, or the library is not installed.
    """
    if not settings.judge_model:
        raise WrongConfiguration(
            "PARAM_JUDGE_MODEL: expected the name of the model that judges, found none"
        )
    if not settings.judge_api_key and settings.judge_url == DEFAULT_URL:
        raise WrongConfiguration(
            f"PARAM_JUDGE_API_KEY: expected an API key for {DEFAULT_URL}, found none"
        )
    return AnthropicJudge(
        settings.judge_model, url=settings.judge_url, api_key=settings.judge_api_key,
        max_tokens=max_tokens, effort=effort,
    )  # fmt: skip


def _client(url: str, api_key: str, timeout_s: float) -> Any:
    try:
        import anthropic
    except ImportError as error:
        raise WrongConfiguration(
            "expected the library anthropic, found none: pip install 'param-console[judge]'"
        ) from error
    return anthropic.Anthropic(
        # Some key has to be sent; a server of one's own mostly looks at none.
        api_key=api_key or "none", base_url=url, max_retries=0, timeout=timeout_s,
    )  # fmt: skip


def _tokens(message: Any) -> tuple[int, int]:
    usage = getattr(message, "usage", None)
    cached = ("cache_creation_input_tokens", "cache_read_input_tokens")
    read = sum(_whole(getattr(usage, name, 0)) for name in ("input_tokens", *cached))
    return read, _whole(getattr(usage, "output_tokens", 0))


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _of_status(error: Any, url: str) -> JudgeFailure:
    status, kind = int(error.status_code), error.type
    where = f"the judge at {url}"
    if _is_about_credit(error):
        return CreditTooLow(
            f"{where}: the account's credit is too low; buy credit there, then resume"
        )
    if status == 429:
        return RateLimited(f"{where}: rate limit (429)", retry_after_s=_retry_after(error))
    if status == _OVERLOADED or kind == "overloaded_error":
        return Overloaded(f"{where}: overloaded ({status})", retry_after_s=_retry_after(error))
    if status in {401, 403, 404}:
        what = {401: "the API key", 403: "this use", 404: "the model or address"}[status]
        return AccessRefused(
            f"{where} refuses {what} ({status}); see PARAM_JUDGE_API_KEY, PARAM_JUDGE_MODEL and "
            "PARAM_JUDGE_URL"
        )
    if status >= 500 or status in {408, 409}:
        return ServerTrouble(f"{where}: server error ({status})", retry_after_s=_retry_after(error))
    return Rejected(f"{where} rejects the request ({status}, {kind or 'no reason'})")


def _is_about_credit(error: Any) -> bool:
    """Credit that ran out comes as 402, as `billing_error`, or as a 400 that says so in words."""
    if error.status_code == 402 or error.type == "billing_error":
        return True
    told = str(error.api_message or "").lower()
    return error.status_code in {400, 403} and "credit balance is too low" in told


def _retry_after(error: Any) -> float | None:
    try:
        seconds = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None


_NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "ProxyError"}


def _of_connection(error: Exception, url: str) -> JudgeFailure:
    """Whether anything was sent decides whether it may be asked again."""
    cause = type(error.__cause__).__name__
    if cause in _NOT_SENT:
        return Unreachable(f"no judge answers at {url} ({cause}); see PARAM_JUDGE_URL")
    return InDoubt(f"the judge at {url} did not answer a request that was sent ({cause})")
