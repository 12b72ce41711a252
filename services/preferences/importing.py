"""Taking files in: parsed and checked first, then written in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from services.db import new_id
from services.preferences import search
from services.preferences.drafts import Draft, DraftJudgment
from services.preferences.evidence import ai_verdict, lottery, priority
from services.preferences.formats import MAX_ERRORS, read
from services.preferences.lints import lints
from services.preferences.models import ImportReport, Judgment, Response, RowError, SampleRow
from services.preferences.queries import CHUNK
from services.preferences.store import (
    JUDGMENTS,
    PAIRS,
    PROMPTS,
    RESPONSES,
    ImportRow,
    PairRow,
    PromptRow,
    ResponseRow,
)
from services.preferences.streams import Upload
from services.preferences.text import detect_language, folded, pair_key, prompt_key, text_key

SAMPLE = 5
"""Good rows that are shown before anything is written."""
_NO_PREFERENCE = b""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass
class Counts:
    """What has been found so far."""

    read: int = 0
    imported: int = 0
    duplicates: int = 0
    rejected: int = 0
    errors: list[RowError] = field(default_factory=list)
    contradictions: list[RowError] = field(default_factory=list)
    sample: list[SampleRow] = field(default_factory=list)

    def look_at(self, draft: Draft) -> None:
        """Keep one of the first good rows."""
        if len(self.sample) < SAMPLE:
            first, second = draft.answers
            answers = (first.text, second.text)
            self.sample.append(SampleRow(draft.line, draft.turns, answers, draft.preferred))

    def reject(self, error: RowError) -> None:
        """Count a bad row; the report holds the first ones only."""
        self.rejected += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(error)

    def duplicate(self, line: int, here: bytes, before: bytes, where: str) -> None:
        """Count a pair that is there already; it may prefer the other answer."""
        self.duplicates += 1
        contradicts = here != before and _NO_PREFERENCE not in {here, before}
        if contradicts and len(self.contradictions) < MAX_ERRORS:
            reason = f"expected the preference that {where} has, found the opposite; not imported"
            self.contradictions.append(RowError(line, reason))

    def report(self, format: str) -> ImportReport:
        """The counts as a report."""
        return ImportReport(
            read=self.read,
            imported=self.imported,
            duplicates=self.duplicates,
            rejected=self.rejected,
            errors=tuple(self.errors),
            format=format,
            contradictions=tuple(self.contradictions),
            sample=tuple(self.sample),
        )


@dataclass(frozen=True)
class Parsed:
    """A file after its rows were checked.

    Attributes:
        rows: Good rows that are no duplicates of one another, packed as JSON: a file of 100 MiB
            takes little more than that in memory.
    """

    format: str
    sha256: str
    rows: list[bytes]
    counts: Counts


def parse(upload: Upload, format: str) -> Parsed:
    """Read a whole file.

    Raises:
        UnknownFormat: See `formats.read`; likewise the others.
        InvalidInput: The file as a whole is broken.
        TooLarge: It is over the limit.
    """
    name, found = read(upload, format)
    counts, rows = checked(found)
    return Parsed(name, upload.sha256, rows, counts)


def checked(found: Iterable[Draft | RowError]) -> tuple[Counts, list[bytes]]:
    """Count rows, and pack the good ones that are no duplicates of one another."""
    counts, rows, seen = Counts(), list[bytes](), dict[bytes, tuple[int, bytes]]()
    for row in found:
        counts.read += 1
        if isinstance(row, RowError):
            counts.reject(row)
            continue
        packed, key, preferred = _pack(row)
        if key in seen:
            line, before = seen[key]
            counts.duplicate(row.line, preferred, before, f"line {line}")
            continue
        seen[key] = (row.line, preferred)
        rows.append(packed)
        counts.look_at(row)
    return counts, rows


def _pack(draft: Draft) -> tuple[bytes, bytes, bytes]:
    """A row as JSON, its pair key, and the key of the answer that it prefers."""
    prompt = prompt_key(draft.turns)
    keyed = [(text_key(answer.text), index) for index, answer in enumerate(draft.answers)]
    key = pair_key(prompt, keyed[0][0], keyed[1][0])
    preferred = _NO_PREFERENCE if draft.preferred is None else keyed[draft.preferred][0]
    # The order comes from digests of answer and pair: nothing of the preference is in it, not even
    # where one text (a refusal, say) is the rejected answer of many pairs.
    shuffled = [(hashlib.sha256(bytes.fromhex(key) + text).digest(), i) for text, i in keyed]
    order = [index for _, index in sorted(shuffled)]
    spoken = "\n".join(turn.content for turn in draft.turns if turn.role != "system")
    asked = folded(spoken)
    language = detect_language(spoken)
    if language == "other":
        language = detect_language("\n".join(answer.text for answer in draft.answers))
    # What is done here is done before anybody is locked out.
    pair_id, ids = new_id(), sorted(new_id() for _ in order)
    id_of = {index: response_id for index, response_id in zip(order, ids, strict=True)}
    found = lints(draft.turns, draft.answers[order[0]].text, draft.answers[order[1]].text)
    judgments = [_judged(one, pair_id, id_of) for one in draft.judgments]
    packed = {
        "id": pair_id,
        "line": draft.line,
        "prompt": prompt,
        "key": key,
        "turns": [{"role": turn.role, "content": turn.content} for turn in draft.turns],
        "folded": asked,
        "language": language,
        "split": draft.split,
        "answers": [(draft.answers[i].text, draft.answers[i].extra or None) for i in order],
        "ids": ids,
        "preferred": None if draft.preferred is None else order.index(draft.preferred),
        "extra": draft.extra or None,
        "judgments": judgments,
        "lints": list(found) or None,
        "priority": _priority(draft, judgments, id_of, found),
        "lottery": lottery(pair_id),
        "words": search.words((asked, *(answer.text for answer in draft.answers))),
    }
    # A copy: what orjson returns keeps the room of its buffer, several times the length.
    exact = bytes(memoryview(orjson.dumps(packed)))
    return exact, bytes.fromhex(key), preferred


def _judged(given: DraftJudgment, pair_id: str, id_of: Mapping[int, str]) -> dict[str, Any]:
    return {
        "id": new_id(),
        "pair_id": pair_id,
        "first_response_id": id_of[given.first],
        "second_response_id": id_of[1 - given.first],
        "preferred_response_id": None if given.preferred is None else id_of[given.preferred],
        "scores": {id_of[index]: dict(scores) for index, scores in enumerate(given.scores)},
        "reason": given.reason,
        "judge": given.judge,
        "revision": given.revision,
    }


def _priority(
    draft: Draft,
    judgments: Sequence[dict[str, Any]],
    id_of: Mapping[int, str],
    found: tuple[str, ...],
) -> int:
    if not judgments and not all("score" in answer.extra for answer in draft.answers):
        return priority(verdict=None, lints=found)
    responses = [
        Response(id_of[index], id_of[index], None, 1, "", None, _LONG_AGO, answer.extra)
        for index, answer in enumerate(draft.answers)
    ]
    said = [Judgment(**judgment, created_at=_LONG_AGO) for judgment in judgments]
    return priority(verdict=ai_verdict(responses, said), lints=found)


@dataclass(frozen=True)
class Writer:
    """Writes parsed rows in a caller's transaction.

    Attributes:
        at: Time of the import.
        is_evaluation: The prompts are declared an evaluation set, also those that are here.
    """

    session: Session
    tenant_id: str
    source: str
    actor_id: str
    at: datetime
    is_evaluation: bool = False

    def write(self, parsed: Parsed) -> str:
        """Write all rows that are new in the tenant and count the others.

        Returns:
            Id of the import.
        """
        import_id = new_id()
        entry = ImportRow(
            id=import_id,
            tenant_id=self.tenant_id,
            source=self.source,
            format=parsed.format,
            sha256=parsed.sha256,
            actor_id=self.actor_id,
            created_at=self.at,
            read=0,
            imported=0,
            duplicates=0,
            rejected=0,
        )
        self.session.add(entry)
        self.session.flush()
        latest = select(func.max(PairRow.position)).where(PairRow.tenant_id == self.tenant_id)
        position = self.session.scalar(latest)
        position = 0 if position is None else position + 1
        if self.is_evaluation:
            self._declare(parsed)
        for fresh in self.fresh(parsed):
            self._insert(fresh, import_id, position)
            position += len(fresh)
        counts = parsed.counts
        entry.read, entry.imported = counts.read, counts.imported
        entry.duplicates, entry.rejected = counts.duplicates, counts.rejected
        return import_id

    def fresh(self, parsed: Parsed) -> Iterator[list[dict[str, Any]]]:
        """Rows that the tenant does not have, a chunk at a time; the others are counted."""
        for start in range(0, len(parsed.rows), CHUNK):
            rows = [orjson.loads(row) for row in parsed.rows[start : start + CHUNK]]
            known = self._known([row["key"] for row in rows])
            new = [row for row in rows if row["key"] not in known]
            for row in rows:
                if row["key"] in known:
                    here = _preferred_key(row)
                    parsed.counts.duplicate(row["line"], here, known[row["key"]], "the stored pair")
            parsed.counts.imported += len(new)
            yield new

    def _known(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Key of each stored pair among these, with the key of the answer that it prefers."""
        wanted = (
            select(PairRow.key, ResponseRow.text)
            .outerjoin(ResponseRow, ResponseRow.id == PairRow.imported_preference)
            .where(PairRow.tenant_id == self.tenant_id, PairRow.key.in_(keys))
        )
        found = self.session.execute(wanted).all()
        return {key: _NO_PREFERENCE if text is None else text_key(text) for key, text in found}

    def _insert(self, rows: list[dict[str, Any]], import_id: str, position: int) -> None:
        if not rows:
            return
        prompts = self._prompts(rows)
        pairs: list[dict[str, Any]] = []
        responses: list[dict[str, Any]] = []
        for offset, row in enumerate(rows):
            pair_id, ids, preferred = row["id"], row["ids"], row["preferred"]
            pairs.append(
                {
                    "id": pair_id,
                    "tenant_id": self.tenant_id,
                    "position": position + offset,
                    "prompt_id": prompts[row["prompt"]],
                    "key": row["key"],
                    "import_id": import_id,
                    "source": self.source,
                    "source_line": row["line"],
                    "language": row["language"],
                    "imported_preference": None if preferred is None else ids[preferred],
                    "extra": row["extra"],
                    "created_at": self.at,
                    "lints": row["lints"],
                    "priority": row["priority"],
                    "lottery": row["lottery"],
                }
            )
            responses += [
                {
                    "id": response_id,
                    "tenant_id": self.tenant_id,
                    "pair_id": pair_id,
                    "root_id": response_id,
                    "version": 1,
                    "text": text,
                    "extra": extra,
                    "created_at": self.at,
                }
                for response_id, (text, extra) in zip(ids, row["answers"], strict=True)
            ]
        self.session.execute(insert(PAIRS), pairs)
        self.session.execute(insert(RESPONSES), responses)
        judgments = [
            {**judgment, "tenant_id": self.tenant_id, "created_at": self.at}
            for row in rows
            for judgment in row["judgments"]
        ]
        if judgments:
            self.session.execute(insert(JUDGMENTS), judgments)
        documents = [
            (row["id"], position + offset, row["words"]) for offset, row in enumerate(rows)
        ]
        search.add(self.session.connection(), self.tenant_id, documents)

    def _declare(self, parsed: Parsed) -> None:
        """Declare the prompts of all good rows that are here already an evaluation set."""
        for start in range(0, len(parsed.rows), CHUNK):
            rows = [orjson.loads(row) for row in parsed.rows[start : start + CHUNK]]
            here = PROMPTS.c.key.in_({row["prompt"] for row in rows})
            known = update(PROMPTS).where(PROMPTS.c.tenant_id == self.tenant_id, here)
            self.session.execute(known.values(is_evaluation=True))

    def _prompts(self, rows: list[dict[str, Any]]) -> dict[str, str]:
        """Ids of the rows' prompts; those that are new are written."""
        keys = list({row["prompt"] for row in rows})
        wanted = select(PromptRow.key, PromptRow.id).where(
            PromptRow.tenant_id == self.tenant_id, PromptRow.key.in_(keys)
        )
        ids = {key: prompt_id for key, prompt_id in self.session.execute(wanted)}
        new: list[dict[str, Any]] = []
        for row in rows:
            if row["prompt"] in ids:
                continue
            ids[row["prompt"]] = new_id()
            new.append(
                {
                    "id": ids[row["prompt"]],
                    "tenant_id": self.tenant_id,
                    "key": row["prompt"],
                    "turns": row["turns"],
                    "folded": row["folded"],
                    "language": row["language"],
                    "split": row["split"],
                    "is_evaluation": self.is_evaluation,
                    "created_at": self.at,
                }
            )
        if new:
            self.session.execute(insert(PROMPTS), new)
        return ids


def _preferred_key(row: dict[str, Any]) -> bytes:
    if row["preferred"] is None:
        return _NO_PREFERENCE
    return text_key(row["answers"][row["preferred"]][0])
