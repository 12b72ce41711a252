"""Candidates: the tenant's own engine answers each prompt at several temperatures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.db import Clock, Database, new_id, utcnow
from services.errors import EngineUnavailable
from services.inference.models import ChatAnswer, EngineModel
from services.metering.service import Metering
from services.preferences.judging import key_of
from services.preferences.models import Turn
from services.preferences.text import defect, normalised, text_key
from services.rlaif.ledger import Ledger
from services.rlaif.models import BASE, Run, Spec
from services.rlaif.store import CandidateRow, ItemRow, PromptRow

ENGINE_TRIES = 6
"""A restarted engine is back within seconds; one that stays away ends the run with a sentence."""
CHUNK = 200


class Engine(Protocol):
    """What is needed of an engine; `inference.client.EngineClient` is one."""

    def models(self) -> list[EngineModel]:
        """The base model and the loaded adapters."""
        ...

    def chat(self, model: str, messages: Sequence[Mapping[str, str]], **params: Any) -> ChatAnswer:
        """One whole answer."""
        ...


@dataclass(frozen=True)
class Missing:
    """One candidate that is still to be written."""

    prompt_id: str
    number: int
    slot: int
    turns: Sequence[Mapping[str, str]]


class Generation:
    """Writes the candidates of one run.

    Args:
        engine: Where they are written.
        should_leave: Whether to begin no further one.
        pause: Waits so many seconds, less where the run is to be left.
        show: Told how many are there, of how many.
    """

    def __init__(
        self,
        db: Database,
        ledger: Ledger,
        metering: Metering,
        engine: Engine,
        run: Run,
        *,
        should_leave: Callable[[], bool],
        pause: Callable[[float], Any],
        show: Callable[[int, int], None],
        clock: Clock = utcnow,
    ) -> None:
        self._db, self._ledger, self._metering, self._engine = db, ledger, metering, engine
        self._run, self._spec = run, run.spec
        self._should_leave, self._pause, self._show = should_leave, pause, show
        self._clock = clock
        self._held = threading.Lock()

    def write(self) -> None:
        """Write what is missing; returns early where the run is to be left.

        Raises:
            CapReached: The run may not spend so much.
            BudgetExceeded: The tenant may not, this month.
            EngineUnavailable: The engine stays away.
            NotFound: It does not serve the model.
        """
        total = self._run.counts.prompts * len(self._spec.temperatures)
        missing = self._missing()
        if not missing:
            return
        served = self._served()
        done = total - len(missing)
        with ThreadPoolExecutor(self._spec.concurrency, "candidates") as pool:
            running: set[Future[None]] = set()
            try:
                while (missing or running) and not (self._should_leave() and not running):
                    while missing and len(running) < self._spec.concurrency:
                        if self._should_leave():
                            break
                        running.add(pool.submit(self._one, missing.pop(0), served))
                    ended, running = wait(running, 1.0, FIRST_COMPLETED)
                    for future in ended:
                        future.result()
                    done += len(ended)
                    self._show(done, total)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _missing(self) -> list[Missing]:
        found: list[Missing] = []
        with self._db.read() as session:
            there = select(CandidateRow.prompt_id, CandidateRow.slot).where(
                CandidateRow.run_id == self._run.id
            )
            written = {(prompt_id, slot) for prompt_id, slot in session.execute(there)}
            prompts = select(PromptRow).where(PromptRow.run_id == self._run.id)
            for row in session.scalars(prompts.order_by(PromptRow.number)):
                found += [
                    Missing(row.id, row.number, slot, row.turns)
                    for slot in range(len(self._spec.temperatures))
                    if (row.id, slot) not in written
                ]
        return found

    def _served(self) -> str:
        if self._spec.model not in {"", BASE}:
            return self._spec.model
        for model in self._patiently(self._engine.models):
            if model.parent is None:
                return str(model.id)
        raise EngineUnavailable("expected an engine that serves a base model, found none")

    def _one(self, wanted: Missing, served: str) -> None:
        spec = self._spec
        version, price = self._metering.price(served)
        read = sum(len(turn["content"].encode()) + 16 for turn in wanted.turns) + 64
        held = self._metering.cost_micro(price, read, spec.max_new_tokens)
        self._ledger.hold(held)
        began = time.monotonic()
        try:
            answer = self._patiently(
                lambda: self._engine.chat(
                    served, wanted.turns, max_tokens=spec.max_new_tokens,
                    temperature=spec.temperatures[wanted.slot],
                    seed=(spec.seed + wanted.number * 64 + wanted.slot) % 2**31,
                )
            )  # fmt: skip
        except BaseException:
            self._ledger.free(held)
            raise
        text = answer.text.strip()
        row = CandidateRow(
            id=new_id(), run_id=self._run.id, tenant_id=self._run.tenant_id,
            prompt_id=wanted.prompt_id, slot=wanted.slot,
            temperature=spec.temperatures[wanted.slot],
            text="" if defect(text) else text, finish_reason=answer.finish_reason,
            served=answer.model, prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            cost_micro=self._metering.cost_micro(
                price, answer.prompt_tokens, answer.completion_tokens
            ),
            created_at=self._clock(),
        )  # fmt: skip
        latency_ms = round((time.monotonic() - began) * 1000)
        self._ledger.keep(row, held, price_version=version, latency_ms=latency_ms)

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        for attempt in range(ENGINE_TRIES):
            try:
                return ask()
            except EngineUnavailable:
                if attempt == ENGINE_TRIES - 1 or self._should_leave():
                    raise
                self._pause(0.5 * 2**attempt)
        raise AssertionError("the last try returns or raises")


def spread(count: int, wanted: int) -> list[tuple[int, int]]:
    """Which pairs of so many candidates are judged: each candidate as often as the others.

    The candidates that are farthest apart in temperature come first.
    """
    used = [0] * count
    free = list(combinations(range(count), 2))
    found: list[tuple[int, int]] = []
    while free and len(found) < wanted:
        best = min(free, key=lambda pair: (used[pair[0]] + used[pair[1]], pair[0] - pair[1], pair))
        free.remove(best)
        found.append(best)
        for index in best:
            used[index] += 1
    return found


def plan(session: Session, run_id: str, tenant_id: str, spec: Spec) -> int:
    """Write which candidates of a run are judged against which; the same ones if called again.

    Empty answers and such as say the same are no candidates; a prompt that is left with fewer than
    two makes no pair.

    Returns:
        How many pairs there are.
    """
    prompts = list(
        session.scalars(
            select(PromptRow).where(PromptRow.run_id == run_id).order_by(PromptRow.number)
        )
    )
    seen: set[str] = set()
    for start in range(0, len(prompts), CHUNK):
        chunk = prompts[start : start + CHUNK]
        answers: dict[str, list[CandidateRow]] = {prompt.id: [] for prompt in chunk}
        found = select(CandidateRow).where(CandidateRow.prompt_id.in_(list(answers)))
        for row in session.scalars(found.order_by(CandidateRow.slot)):
            answers[row.prompt_id].append(row)
        for prompt in chunk:
            for one, other in _pairs(answers[prompt.id], spec.pairs_per_prompt):
                turns = [Turn(turn["role"], turn["content"]) for turn in prompt.turns]
                key = key_of(turns, one.text, other.text)
                if key in seen:
                    continue
                low, high = sorted((one, other), key=lambda row: text_key(row.text))
                session.add(
                    ItemRow(
                        id=new_id(), run_id=run_id, tenant_id=tenant_id, number=len(seen), key=key,
                        prompt_id=prompt.id, low_id=low.id, high_id=high.id,
                    )
                )  # fmt: skip
                seen.add(key)
        session.flush()
    return len(seen)


def _pairs(answers: Sequence[CandidateRow], wanted: int) -> list[tuple[CandidateRow, CandidateRow]]:
    different: dict[str, CandidateRow] = {}
    for row in answers:
        if text := normalised(row.text):
            different.setdefault(text, row)
    rows = list(different.values())
    return [(rows[one], rows[other]) for one, other in spread(len(rows), wanted)]
