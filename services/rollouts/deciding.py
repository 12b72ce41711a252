"""What the driver does next: a pure function of the policy, the progress and the data.

The driver and the simulation both decide here, so what the simulation shows of a policy is what
the policy does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from services.rollouts.judging import Arms, Outcome, Verdict, is_due, judge
from services.rollouts.policy import Policy


class Move(StrEnum):
    """What follows from a look."""

    HOLD = "hold"
    NEXT = "next"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    PAUSE = "pause"


@dataclass(frozen=True)
class Progress:
    """What is kept between looks, so that no look is free after a crash.

    Attributes:
        step: Index of the policy's step, from 0.
        looks: Looks at this step so far.
        seen: Requests of the smaller arm at the last of them.
        last: What the last of them said.
        interval_looks: Looks at single intervals, over the whole rollout.
    """

    step: int = 0
    looks: int = 0
    seen: int = 0
    last: Outcome | None = None
    interval_looks: int = 0

    def at_step(self, step: int) -> Progress:
        """The beginning of a step; one that begins again has its looks already spent."""
        looks = self.looks if step == self.step else 0
        return Progress(step=step, looks=looks, interval_looks=self.interval_looks)


@dataclass(frozen=True)
class Window:
    """What there is to look at.

    Attributes:
        elapsed: Since the present share is in effect.
        smaller: Requests of the smaller arm since then.
        whole: Gives both arms since then.
        recent: Gives both arms over the last interval; None before an interval is over.
    """

    elapsed: timedelta
    smaller: int
    whole: Callable[[], Arms]
    recent: Callable[[], Arms] | None


@dataclass(frozen=True)
class Decision:
    """What to do, and why.

    Attributes:
        progress: What has to be kept.
        verdict: The look that was taken at the whole step or that failed; None without one.
        reason: One sentence for the history, or on what is waited for.
    """

    move: Move
    progress: Progress
    verdict: Verdict | None
    reason: str


def decide(policy: Policy, progress: Progress, window: Window) -> Decision:
    """Look at the arms, if it is time to, and say what follows."""
    verdict: Verdict | None = None
    recent = None if window.recent is None else window.recent()
    if recent is not None and all(found.requests for found in recent.values()):
        progress = replace(progress, interval_looks=progress.interval_looks + 1)
        alarm = judge(
            policy, progress.step, recent, look=progress.interval_looks, family="interval"
        )
        if alarm.outcome is Outcome.FAIL:
            return Decision(Move.ROLL_BACK, progress, alarm, alarm.sentence())
    if is_due(progress.seen, window.smaller):
        looks = progress.looks + 1
        verdict = judge(policy, progress.step, window.whole(), look=looks)
        progress = replace(progress, looks=looks, seen=window.smaller, last=verdict.outcome)
        if verdict.outcome is Outcome.FAIL:
            return Decision(Move.ROLL_BACK, progress, verdict, verdict.sentence())
    return _go_on(policy, progress, window, verdict)


def _go_on(policy: Policy, progress: Progress, window: Window, verdict: Verdict | None) -> Decision:
    step = policy.steps[progress.step]
    if progress.last is Outcome.PASS:
        if window.elapsed < step.hold:
            left = step.hold - window.elapsed
            reason = f"passed so far; the step lasts {_shown(left)} more"
            return Decision(Move.HOLD, progress, verdict, reason)
        reason = f"step {progress.step + 1} of {len(policy.steps)} passed"
        is_last = progress.step + 1 == len(policy.steps)
        return Decision(Move.PROMOTE if is_last else Move.NEXT, progress, verdict, reason)
    waiting = _waiting(progress, verdict)
    if window.elapsed < policy.max_hold:
        return Decision(Move.HOLD, progress, verdict, waiting)
    move = Move.ROLL_BACK if policy.when_undecided == "rollback" else Move.PAUSE
    reason = f"undecided after {_shown(policy.max_hold)}: {waiting}"
    return Decision(move, progress, verdict, reason)


def _waiting(progress: Progress, verdict: Verdict | None) -> str:
    if verdict is not None:
        return verdict.sentence()
    if progress.seen:
        return f"inconclusive at {progress.seen} requests of the smaller arm; waiting for more"
    return "waiting for requests on both arms"


def _shown(span: timedelta) -> str:
    seconds = max(0, round(span.total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{round(seconds / size)} {unit}"
    return f"{seconds} s"
