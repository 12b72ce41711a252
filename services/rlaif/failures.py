"""Everything that can go wrong between us and a judge, by what is done about it.

    JudgeFailure
    ├── Later                   nothing was judged, nothing is owed: ask again after a pause
    │   ├── RateLimited             429
    │   ├── Overloaded              529
    │   ├── ServerTrouble           other 5xx, 408
    │   └── Unreachable             no connection could be made
    ├── NoVerdict               the call is over and paid for, and says nothing
    │   ├── Refused                 the judge declines
    │   ├── CutOff                  the answer was cut at `max_tokens`
    │   └── Malformed               the answer is not what the rubric asks for
    ├── Rejected                the judge will never take this request as it is
    ├── InDoubt                 sent, and no answer came: it may have been paid for
    └── Halt                    no request can succeed until a person acts
        ├── CreditTooLow            the account has no credit
        └── AccessRefused           wrong key, no right, no such model

Messages name the kind and the status, never what was sent: prompts are no business of a log.
"""

from __future__ import annotations

from services.errors import Conflict, Unavailable


class JudgeFailure(Unavailable):
    """A judge gave no usable verdict.

    Attributes:
        state: How a call that ended so is recorded.
    """

    code = "judge_failed"
    state = "failed"


class Later(JudgeFailure):
    """Nothing was judged and nothing is owed.

    Attributes:
        retry_after_s: Pause that the server asks for, seconds; None where it names none.
    """

    code = "judge_busy"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(Later):
    """The judge's rate limit is reached (429)."""

    code = "judge_rate_limited"


class Overloaded(Later):
    """The judge has too much to do (529)."""

    code = "judge_overloaded"


class ServerTrouble(Later):
    """The judge's server failed (5xx)."""

    code = "judge_server_error"


class Unreachable(Later):
    """No connection to the judge could be made; nothing was sent."""

    code = "judge_unreachable"


class NoVerdict(JudgeFailure):
    """The call is over and paid for, and says nothing.

    Attributes:
        prompt_tokens: As the judge counted them; likewise the completion's.
    """

    code = "judge_no_verdict"

    def __init__(self, message: str, *, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        super().__init__(message)
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens


class Refused(NoVerdict):
    """The judge declined to answer."""

    code = "judge_refused"
    state = "refused"


class CutOff(NoVerdict):
    """The answer was cut at the longest length allowed."""

    code = "judge_cut_off"
    state = "cut_off"


class Malformed(NoVerdict):
    """The answer is not what the rubric asks for."""

    code = "judge_malformed"
    state = "malformed"


class Rejected(JudgeFailure):
    """The judge's server refuses this one request, and would again."""

    code = "judge_rejected"


class InDoubt(JudgeFailure):
    """The request was sent and no answer came; it may have been paid for."""

    code = "judge_in_doubt"
    state = "lost"


class Halt(JudgeFailure):
    """No request can succeed until a person acts."""

    code = "judge_halted"


class CreditTooLow(Halt):
    """The judge's account has no credit left."""

    code = "judge_credit_too_low"


class AccessRefused(Halt):
    """The key is wrong, lacks a right, or the model is not there."""

    code = "judge_access_refused"


class CapReached(Conflict):
    """The next call might spend more than the run may."""

    code = "cap_reached"
