"""Reads a tenant's pairs once, passes each through the gates, and keeps little of it in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.preferences import queries, records
from services.preferences.bulk_kinds import Kind
from services.preferences.evidence import AiVerdict, ai_verdict
from services.preferences.gates import texts
from services.preferences.gates.leakage import EvaluationPrompts
from services.preferences.gates.models import Candidate, Finding
from services.preferences.gates.truncation import TrainingTokenizer
from services.preferences.models import Judgment, Pair, PairStatus, Response, Turn
from services.preferences.store import (
    BulkActionRow,
    BulkChangeRow,
    DecisionRow,
    JudgmentRow,
    PairRow,
    PromptRow,
    ReviewRow,
)
from services.preferences.text import text_key


@dataclass(slots=True)
class Entry:
    """One pair of the tenant, as far as the rest of the work needs it.

    Attributes:
        prompt: Index of its prompt in `Collected.prompts`.
        findings: What the gates found; the first of a dropping gate drops it.
        is_both_bad: People rejected both answers, which one form of training learns from.
        offset: Where its row lies in the spool; -1 where it has none.
    """

    pair_id: str
    prompt: int
    findings: list[Finding]
    is_both_bad: bool = False
    offset: int = -1
    chosen_key: bytes = b""
    rejected_key: bytes = b""
    chosen_length: int = 0
    rejected_length: int = 0
    chosen_by: str = ""
    rejected_by: str = ""


@dataclass(frozen=True, slots=True)
class SeenPrompt:
    """A prompt of the tenant.

    Attributes:
        text: All its turns, to be compared with others.
    """

    key: str
    bound: str | None
    is_evaluation: bool
    text: str


@dataclass
class Collected:
    """All pairs of a tenant in order of arrival, and their prompts."""

    entries: list[Entry] = field(default_factory=list)
    prompts: list[SeenPrompt] = field(default_factory=list)


@dataclass(frozen=True)
class Selection:
    """What decides which pairs are candidates.

    Attributes:
        include_unreviewed: Pairs that nobody decided on, too, as their import preferred.
        with_both_bad: Keep the rows of pairs whose answers are both bad.
        tokenizer: The training's, if it is known; likewise the tokens that training keeps.
    """

    include_unreviewed: bool
    with_both_bad: bool
    tokenizer: TrainingTokenizer | None
    max_length: int


@dataclass(frozen=True, slots=True)
class _Decided:
    actor_id: str
    mark: str
    by_person: bool
    chosen_id: str | None
    rejected_id: str | None


class Collector:
    """Passes every pair of a tenant through the gates that look at one pair.

    Args:
        session: One consistent state.
        spool: Gets the rows of all candidates, each with where it comes from.
        name_of: Gives the pseudonym of an actor.
        seen: Called with the number of pairs read so far.
    """

    def __init__(
        self,
        session: Session,
        tenant_id: str,
        selection: Selection,
        spool: BinaryIO,
        *,
        name_of: Callable[[str], str],
        seen: Callable[[int], None],
    ) -> None:
        self._session, self._tenant_id, self._selection = session, tenant_id, selection
        self._spool, self._name_of, self._seen = spool, name_of, seen
        self._leaks = EvaluationPrompts(_evaluation_prompts(session, tenant_id))
        self._both_bad = _both_bad(session, tenant_id) if selection.with_both_bad else frozenset()
        self._has_judgments = _has_judgments(session, tenant_id)
        self._index: dict[str, int] = {}

    def collect(self) -> Collected:
        """Read everything."""
        found = Collected()
        for chunk in queries.every(self._session, self._tenant_id):
            self._take(chunk, found)
            self._seen(len(found.entries))
        return found

    def _take(self, chunk: Sequence[queries.Stored], found: Collected) -> None:
        decided = _decisions(self._session, [one.pair.id for one in chunk])
        judged = self._judgments([one.pair.id for one in chunk])
        candidates: list[tuple[Entry, Candidate]] = []
        for one in chunk:
            entry = Entry(one.pair.id, self._prompt(one, found), [])
            found.entries.append(entry)
            reason = _not_selected(one.pair, self._selection)
            entry.is_both_bad = one.pair.id in self._both_bad
            if reason:
                entry.findings.append(Finding("review", reason))
                if not entry.is_both_bad:
                    continue
            candidate = _candidate(one.pair, decided.get(one.pair.id))
            verdict = _verdict(candidate, judged.get(one.pair.id, ()))
            entry.findings += self._findings(candidate, verdict)
            self._keep(entry, candidate, one, decided.get(one.pair.id))
            candidates.append((entry, candidate))
        self._compare_tokens(candidates)

    def _prompt(self, one: queries.Stored, found: Collected) -> int:
        index = self._index.setdefault(one.pair.prompt.id, len(found.prompts))
        if index == len(found.prompts):
            text = "\n".join(turn.content for turn in one.pair.prompt.turns)
            found.prompts.append(
                SeenPrompt(one.prompt_key, one.split, one.pair.is_evaluation, text)
            )
        return index

    def _findings(self, candidate: Candidate, verdict: AiVerdict | None) -> Iterator[Finding]:
        yield from texts.findings(candidate, verdict)
        pair = candidate.pair
        if pair.is_evaluation:
            yield Finding("evaluation_set", "its prompt belongs to an evaluation set")
        elif self._leaks:
            answers = (candidate.chosen.text, candidate.rejected.text)
            if where := self._leaks.found_in(pair.prompt.turns, answers):
                yield Finding("leakage", f"{where}: repeats an evaluation prompt")

    def _compare_tokens(self, candidates: Sequence[tuple[Entry, Candidate]]) -> None:
        if self._selection.tokenizer is None:
            return
        different = [
            (entry, one)
            for entry, one in candidates
            if not any(finding.gate == "identical" for finding in entry.findings)
        ]
        found = self._selection.tokenizer.identical_when_cut(
            [one for _, one in different], max_length=self._selection.max_length
        )
        for entry, _ in different:
            if entry.pair_id in found:
                entry.findings.append(found[entry.pair_id])

    def _keep(
        self, entry: Entry, one: Candidate, stored: queries.Stored, decided: _Decided | None
    ) -> None:
        entry.chosen_key, entry.rejected_key = (
            text_key(one.chosen.text),
            text_key(one.rejected.text),
        )
        entry.chosen_length, entry.rejected_length = len(one.chosen.text), len(one.rejected.text)
        entry.chosen_by, entry.rejected_by = _writer(one.chosen), _writer(one.rejected)
        entry.offset = self._spool.tell()
        origin = _origin(one, stored.mark, self._name_of(decided.actor_id) if decided else "")
        line = {"row": _row(one), "origin": origin}
        self._spool.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _judgments(self, pair_ids: Sequence[str]) -> dict[str, list[Judgment]]:
        found: dict[str, list[Judgment]] = {}
        if self._has_judgments:
            wanted = select(JudgmentRow).where(JudgmentRow.pair_id.in_(pair_ids))
            for row in self._session.scalars(wanted):
                found.setdefault(row.pair_id, []).append(records.judgment(row))
        return found


def _not_selected(pair: Pair, selection: Selection) -> str | None:
    """Why a pair is no candidate; None where it is."""
    if pair.status is PairStatus.REJECTED:
        return "rejected in review"
    if pair.status is PairStatus.DISPUTED:
        return "disputed"
    if pair.status is PairStatus.UNREVIEWED and not selection.include_unreviewed:
        return "unreviewed"
    return "no preference" if pair.response(_preferred_id(pair)) is None else None


def _preferred_id(pair: Pair) -> str | None:
    if pair.status is PairStatus.APPROVED:
        return pair.chosen_response_id
    return pair.imported_preference


def _candidate(pair: Pair, decided: _Decided | None) -> Candidate:
    # Of two bad answers either may come first.
    chosen = pair.response(_preferred_id(pair)) or pair.responses[0]
    rejected = next(response for response in pair.responses if response is not chosen)
    approval = decided if decided and pair.status is PairStatus.APPROVED else None
    is_confirmed = approval is None or (
        (approval.chosen_id, approval.rejected_id) == (chosen.id, rejected.id)
    )
    by_person = decided is not None and decided.by_person
    return Candidate(pair, chosen, rejected, by_person, is_confirmed)


def _verdict(one: Candidate, judgments: Sequence[Judgment]) -> AiVerdict | None:
    has_scores = "score" in one.chosen.extra and "score" in one.rejected.extra
    return ai_verdict(one.pair.responses, judgments) if judgments or has_scores else None


def _row(one: Candidate) -> dict[str, Any]:
    return {
        "pair_id": one.pair.id,
        "prompt": [{"role": turn.role, "content": turn.content} for turn in one.pair.prompt.turns],
        "chosen": [{"role": "assistant", "content": one.chosen.text}],
        "rejected": [{"role": "assistant", "content": one.rejected.text}],
    }


def _origin(one: Candidate, mark: str, decided_by: str) -> dict[str, Any]:
    """Where a row comes from, as `provenance.jsonl` tells it."""
    pair = one.pair
    return {
        "pair_id": pair.id,
        "source": pair.source,
        "source_line": pair.source_line,
        "language": pair.language,
        "prompt_id": pair.prompt.id,
        "chosen_response_id": one.chosen.id,
        "rejected_response_id": one.rejected.id,
        "chosen_version": one.chosen.version,
        "rejected_version": one.rejected.version,
        "status": pair.status.value,
        "mark": mark,
        "decided_by": decided_by,
        "by_person": one.by_person,
    }


def _writer(response: Response) -> str:
    if response.version > 1:
        return "edited by a person"
    generator = response.extra.get("generator")
    return generator if isinstance(generator, str) else ""


def _decisions(session: Session, pair_ids: Sequence[str]) -> dict[str, _Decided]:
    """The latest decision of each pair that has one."""
    bulk = (
        select(BulkChangeRow.pair_id)
        .join(BulkActionRow, BulkActionRow.id == BulkChangeRow.action_id)
        .where(
            BulkChangeRow.pair_id == DecisionRow.pair_id,
            BulkChangeRow.decision == DecisionRow.number,
            BulkActionRow.kind == Kind.APPROVE.value,
        )
    )
    wanted = (
        select(
            DecisionRow.pair_id, DecisionRow.actor_id, DecisionRow.mark, DecisionRow.review_id,
            DecisionRow.chosen_response_id, DecisionRow.rejected_response_id,
            bulk.exists().label("in_bulk"),
        )
        .join(PairRow, PairRow.id == DecisionRow.pair_id)
        .where(DecisionRow.pair_id.in_(pair_ids), DecisionRow.number == PairRow.decisions)
    )  # fmt: skip
    return {
        row.pair_id: _Decided(
            row.actor_id,
            row.mark,
            # Whoever approves a thousand pairs at once has looked at none of them.
            row.review_id is not None or not (row.mark or row.in_bulk),
            row.chosen_response_id,
            row.rejected_response_id,
        )
        for row in session.execute(wanted)
    }


def _both_bad(session: Session, tenant_id: str) -> frozenset[str]:
    """Pairs that were rejected by a vote which found both answers bad."""
    wanted = (
        select(PairRow.id)
        .join(DecisionRow, DecisionRow.pair_id == PairRow.id)
        .join(ReviewRow, ReviewRow.id == DecisionRow.review_id)
        .where(
            PairRow.tenant_id == tenant_id,
            PairRow.status == PairStatus.REJECTED.value,
            DecisionRow.number == PairRow.decisions,
            ReviewRow.kind == "vote",
            ReviewRow.preferred_response_id.is_(None),
            ReviewRow.strength.is_(None),
        )
    )
    return frozenset(session.scalars(wanted))


def _evaluation_prompts(session: Session, tenant_id: str) -> Iterator[list[Turn]]:
    wanted = select(PromptRow.turns).where(
        PromptRow.tenant_id == tenant_id, PromptRow.is_evaluation.is_(True)
    )
    found: Iterable[list[dict[str, str]]] = session.scalars(wanted)
    for turns in found:
        yield [Turn(turn["role"], turn["content"]) for turn in turns]


def _has_judgments(session: Session, tenant_id: str) -> bool:
    wanted = select(JudgmentRow.id).where(JudgmentRow.tenant_id == tenant_id).limit(1)
    return session.scalar(wanted) is not None
