"""Which questions a run still has to put to the judge, and what each of them is called.

A question is a pair of texts under one prompt in one order, for one judge under one revision:

    <24 hex of the pair's key>-<ab|ba>-<12 hex of the revision>-<repetition>

is its `custom_id`. It names no run: what an earlier run of the tenant has paid for is not asked
again. A further repetition is asked only where the one before gave nothing that can be used.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.preferences.store import PairRow, ResponseRow
from services.preferences.store import PromptRow as PairPromptRow
from services.rlaif.judge import AnthropicJudge
from services.rlaif.models import CallState, JudgePrice
from services.rlaif.rubric import INSTRUCTIONS, SCHEMA, question
from services.rlaif.store import CallRow, CandidateRow, ItemRow, PromptRow

Order = Literal["ab", "ba"]
ORDERS: tuple[Order, Order] = ("ab", "ba")
"""`ab` shows the answer with the lower digest first."""
KEY = 24
CHUNK = 300
MAX_VOID = 5
"""Answers without verdict and without bill after which a question is given up."""
OVERHEAD_TOKENS = 600
"""More than what a server adds to a request of its own: roles, and the form of the output."""
FIXED_BYTES = len(INSTRUCTIONS.encode()) + len(json.dumps(SCHEMA).encode())
LONGEST = 32_000


@dataclass(frozen=True)
class Item:
    """Two answers to judge, with their texts.

    Attributes:
        low: Text of the answer with the lower digest; likewise high.
    """

    id: str
    number: int
    key: str
    turns: Sequence[Mapping[str, str]]
    low_id: str
    high_id: str
    low: str
    high: str
    prompt_id: str | None
    pair_id: str | None


@dataclass(frozen=True)
class Wanted:
    """One question that has to be asked.

    Attributes:
        waiting_id: Row of the same repetition, which the judge had put off; None for a new one.
        max_tokens: Longest verdict; twice as long after one that was cut.
    """

    item: Item
    order: Order
    question: str
    repetition: int
    max_tokens: int
    waiting_id: str | None = None

    @property
    def custom_id(self) -> str:
        """Names the call over there and here."""
        return f"{self.question}-{self.repetition}"

    @property
    def shown(self) -> tuple[str, str]:
        """The answers in this order."""
        return (
            (self.item.low, self.item.high)
            if self.order == "ab"
            else (self.item.high, self.item.low)
        )

    @property
    def prompt_bytes(self) -> int:
        """Size of the request, bytes."""
        return FIXED_BYTES + len(question(self.item.turns, *self.shown).encode())

    def params(self, judge: AnthropicJudge) -> dict[str, Any]:
        """The request."""
        return judge.params(self.item.turns, *self.shown, max_tokens=self.max_tokens)

    def most_micro(self, price: JudgePrice, *, is_batch: bool) -> int:
        """What the call can cost at most: a token is at least a byte."""
        return price.cost_micro(
            self.prompt_bytes + OVERHEAD_TOKENS, self.max_tokens, is_batch=is_batch
        )


def question_of(key: str, order: Order, revision: str) -> str:
    """The part of a `custom_id` that all repetitions share."""
    return f"{key[:KEY]}-{order}-{revision}"


def items(session: Session, run_id: str, *, after: int = -1) -> list[Item]:
    """The next items of a run with their texts, in order; at most `CHUNK`."""
    wanted = select(ItemRow).where(ItemRow.run_id == run_id, ItemRow.number > after)
    rows = list(session.scalars(wanted.order_by(ItemRow.number).limit(CHUNK)))
    answers = [one for row in rows for one in (row.low_id, row.high_id)]
    texts: dict[str, str] = {}
    for table in (CandidateRow, ResponseRow):
        found = select(table.id, table.text).where(table.id.in_(answers))
        texts |= {answer_id: text for answer_id, text in session.execute(found)}
    turns = _turns(session, rows)
    return [
        Item(
            row.id, row.number, row.key, turns[row.id], row.low_id, row.high_id,
            texts[row.low_id], texts[row.high_id], row.prompt_id, row.pair_id,
        )
        for row in rows
    ]  # fmt: skip


def _turns(session: Session, rows: Sequence[ItemRow]) -> dict[str, list[Any]]:
    made = select(PromptRow.id, PromptRow.turns).where(
        PromptRow.id.in_([row.prompt_id for row in rows if row.prompt_id])
    )
    there = (
        select(PairRow.id, PairPromptRow.turns)
        .join(PairPromptRow, PairPromptRow.id == PairRow.prompt_id)
        .where(PairRow.id.in_([row.pair_id for row in rows if not row.prompt_id and row.pair_id]))
    )
    found: dict[str, list[Any]] = {}
    for name, turns in (*session.execute(made), *session.execute(there)):
        found[name] = turns
    return {row.id: found[row.prompt_id or row.pair_id or ""] for row in rows}


def calls(session: Session, tenant_id: str, questions: Sequence[str]) -> dict[str, list[CallRow]]:
    """What has been asked so far, by question, the oldest repetition first."""
    found: defaultdict[str, list[CallRow]] = defaultdict(list)
    wanted = select(CallRow).where(CallRow.tenant_id == tenant_id, CallRow.question.in_(questions))
    for row in session.scalars(wanted.order_by(CallRow.repetition)):
        found[row.question].append(row)
    return dict(found)


@dataclass(frozen=True)
class Look:
    """What is to be done next with some items.

    Attributes:
        wanted: To be asked now.
        is_busy: Another run is asking some of the questions right now.
    """

    wanted: list[Wanted]
    is_busy: bool


def look(
    session: Session,
    tenant_id: str,
    run_id: str,
    found: Iterable[Item],
    *,
    revision: str,
    attempts: int,
    max_tokens: int,
) -> Look:
    """Find out which questions about some items are open."""
    asked = [
        (item, order, question_of(item.key, order, revision)) for item in found for order in ORDERS
    ]
    known = calls(session, tenant_id, [name for _, _, name in asked])
    wanted: list[Wanted] = []
    is_busy = False
    # Two pairs may have come to hold the same texts: that is one question.
    for item, order, name in {name: one for one in asked for name in one[2:]}.values():
        rows = known.get(name, [])
        last = rows[-1] if rows else None
        if last is not None and last.state in {CallState.SENT, CallState.WAITING}:
            if last.run_id != run_id:
                is_busy = True
            elif last.state == CallState.WAITING:
                length = _length(rows[:-1], max_tokens)
                wanted.append(Wanted(item, order, name, last.repetition, length, last.id))
        elif may_ask(rows, attempts):
            length = _length(rows, max_tokens)
            wanted.append(Wanted(item, order, name, len(rows) + 1, length))
    return Look(wanted, is_busy)


def may_ask(rows: Sequence[CallRow], attempts: int) -> bool:
    """Whether a question, none of whose repetitions is on its way, is asked once more."""
    if not rows or rows[-1].state == CallState.ABANDONED:
        return True
    states = Counter(row.state for row in rows)
    if rows[-1].state == CallState.VOID:
        return states[CallState.VOID] < MAX_VOID
    unread = states[CallState.MALFORMED] + states[CallState.CUT_OFF]
    return rows[-1].state in {CallState.MALFORMED, CallState.CUT_OFF} and unread < attempts


def _length(rows: Sequence[CallRow], max_tokens: int) -> int:
    cuts = sum(row.state == CallState.CUT_OFF for row in rows)
    return max(max_tokens, min(max_tokens << cuts, LONGEST))


def verdicts(session: Session, tenant_id: str, item: Item, revision: str) -> dict[Order, CallRow]:
    """The verdicts on an item, by order, as far as there are any."""
    names = {question_of(item.key, order, revision): order for order in ORDERS}
    found: dict[Order, CallRow] = {}
    for name, rows in calls(session, tenant_id, list(names)).items():
        done = [row for row in rows if row.state == CallState.DONE]
        if done:
            found[names[name]] = done[-1]
    return found
