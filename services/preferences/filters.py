"""Which pairs somebody means: what a list shows, and what a bulk action changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, String, cast, select
from sqlalchemy.orm import Session

from services.errors import InvalidInput
from services.preferences import search
from services.preferences.evidence import INCONSISTENT, UNDECIDED
from services.preferences.lints import LINTS
from services.preferences.models import PairStatus
from services.preferences.store import PairRow, PromptRow, ResponseRow
from services.preferences.text import defect, folded

NOBODY = "nobody"
"""As an assignee: pairs that are everybody's."""
MAX_TEXT = 500
LANGUAGES = ("tr", "en", "other")


class Evidence(StrEnum):
    """What the AI's word on a pair is worth."""

    INCONSISTENT = "inconsistent"
    CLOSE = "close"
    CLEAR = "clear"


class Sort(StrEnum):
    """In which order pairs are listed."""

    ARRIVAL = "arrival"
    NEWEST = "newest"
    PRIORITY = "priority"


@dataclass(frozen=True)
class Filters:
    """Conditions, all of which a pair meets; None and an empty text ask nothing.

    Attributes:
        query: Words that the prompt or a current answer holds, whatever their case; i with and
            without dot are alike, and a word of three letters or more finds longer ones too.
        lint: One of `lints.LINTS`.
        evidence: `inconsistent`: the judge contradicts itself; `close`: the margin is small.
        assignee: `user:ID`, `group:ID`, `label-studio:PROJECT`, or `NOBODY`.
        import_id: The file that the pairs came with.
    """

    status: PairStatus | None = None
    query: str = ""
    language: str | None = None
    source: str | None = None
    lint: str | None = None
    evidence: Evidence | None = None
    assignee: str | None = None
    is_edited: bool | None = None
    is_stale: bool | None = None
    is_gold: bool | None = None
    is_evaluation: bool | None = None
    import_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        """What is asked, without what is not."""
        return {name: value for name, value in asdict(self).items() if value not in {None, ""}}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Filters:
        """Read what `as_json` wrote; what this version does not know is refused.

        Raises:
            InvalidInput: A field or a value that is not known.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(stored) - known):
            raise InvalidInput(
                f"filters: expected {', '.join(sorted(known))}, found {unknown[0]!r}"
            )
        values = dict(stored)
        try:
            for name, kind in (("status", PairStatus), ("evidence", Evidence)):
                if values.get(name) is not None:
                    values[name] = kind(values[name])
        except ValueError as error:
            raise InvalidInput(f"filters: {error}") from error
        return cls(**values)


def refuse(filters: Filters) -> None:
    """Refuse filters that cannot be asked.

    Raises:
        InvalidInput: A text is too long or cannot be stored, or a name is not known.
    """
    for name in ("query", "source", "assignee", "import_id", "language"):
        value = getattr(filters, name) or ""
        if len(value) > MAX_TEXT:
            raise InvalidInput(
                f"{name}: expected at most {MAX_TEXT} characters, found {len(value)}"
            ).because("too_long", field=name, most=MAX_TEXT, found=len(value))
        if found := defect(value):
            raise InvalidInput(f"{name}: expected text that can be stored, found {found}").because(
                "not_storable", field=name
            )
    if filters.lint is not None and filters.lint not in LINTS:
        raise InvalidInput(f"lint: expected one of {', '.join(LINTS)}, found {filters.lint!r}")


def conditions(
    session: Session, tenant_id: str, filters: Filters, *, first: int | None = None
) -> list[ColumnElement[bool]]:
    """The filters as conditions on `PairRow`.

    Args:
        first: Only so many pairs matter, in order of arrival.

    Raises:
        InvalidInput: See `refuse`.
    """
    refuse(filters)
    wanted: list[ColumnElement[bool]] = [PairRow.tenant_id == tenant_id]
    columns = {
        PairRow.status: filters.status and filters.status.value,
        PairRow.language: filters.language,
        PairRow.source: filters.source,
        PairRow.import_id: filters.import_id,
    }
    wanted += [column == value for column, value in columns.items() if value is not None]
    if filters.lint is not None:
        # A list of names: both databases write it as JSON with quotes around each.
        wanted.append(cast(PairRow.lints, String).contains(f'"{filters.lint}"', autoescape=True))
    wanted += _evidence(filters.evidence)
    if filters.assignee is not None:
        nobodys = filters.assignee == NOBODY
        wanted.append(
            PairRow.assignee.is_(None) if nobodys else PairRow.assignee == filters.assignee
        )
    wanted += _facts(tenant_id, filters)
    # The search may stop early only where no other condition can refuse what it found.
    is_alone = filters == Filters(query=filters.query)
    return wanted + _words(session, tenant_id, filters.query, first if is_alone else None)


def _evidence(wanted: Evidence | None) -> list[ColumnElement[bool]]:
    if wanted is None:
        return []
    return [
        {
            Evidence.INCONSISTENT: PairRow.priority == INCONSISTENT,
            Evidence.CLOSE: PairRow.priority == UNDECIDED,
            Evidence.CLEAR: PairRow.priority < UNDECIDED,
        }[wanted]
    ]


def _facts(tenant_id: str, filters: Filters) -> list[ColumnElement[bool]]:
    edited = select(ResponseRow.pair_id).where(
        ResponseRow.tenant_id == tenant_id, ResponseRow.version > 1
    )
    evaluated = select(PromptRow.id).where(
        PromptRow.tenant_id == tenant_id, PromptRow.is_evaluation.is_(True)
    )
    facts = (
        (filters.is_edited, PairRow.id.in_(edited)),
        (filters.is_stale, PairRow.is_stale.is_(True)),
        (filters.is_gold, PairRow.gold_response_id.is_not(None)),
        (filters.is_evaluation, PairRow.prompt_id.in_(evaluated)),
    )
    return [fact if asked else ~fact for asked, fact in facts if asked is not None]


def _words(
    session: Session, tenant_id: str, query: str, first: int | None
) -> list[ColumnElement[bool]]:
    found = search.matches(
        session, tenant_id, query, pair_id=PairRow.id, position=PairRow.position, first=first
    )
    if found is not None:
        return [found]
    # Nothing but signs, such as "%": no index holds them, so the prompts are read.
    holding = [
        PromptRow.folded.contains(folded(piece), autoescape=True)
        for piece in query.split()[: search.MAX_QUERY_WORDS]
    ]
    if not holding:
        return []
    prompts = select(PromptRow.id).where(PromptRow.tenant_id == tenant_id, *holding)
    return [PairRow.prompt_id.in_(prompts)]
