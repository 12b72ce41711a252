"""Pairs and votes as rows, for tests of what is read from them.

Values are on the scale of one pair: -3 (its first answer is much better) to 3 (its second one is),
None for both bad. Sides are dealt in turn, so that no test passes by looking at sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.db import new_id
from services.preferences.models import PairStatus, ReviewKind
from services.preferences.store import (
    JudgmentRow,
    PairRow,
    PromptRow,
    ResponseRow,
    ReviewRow,
)
from services.tenants.models import Actor, Role

NOON = datetime(2026, 11, 21, 9, tzinfo=UTC)


def person(name: str, *roles: Role, tenant_id: str = "acme") -> Actor:
    granted = frozenset(roles or {Role.ANNOTATOR})
    return Actor(kind="user", id=f"user-{name}", name=name, grants={tenant_id: granted})


ALI, BEA, CAN = person("Ali"), person("Bea"), person("Can")
ECE = person("Ece", Role.ENGINEER)
MIA = person("Mia", Role.MANAGER)
CHIEF = person("Chief", Role.ENGINEER, Role.ADMIN)
FOREIGN = person("Sam", Role.ENGINEER, tenant_id="globex")


@dataclass
class Made:
    """A pair; `first` and `second` are the ids of the current versions."""

    id: str
    tenant_id: str
    first: str
    second: str
    first_root: str
    second_root: str
    versions: dict[str, int] = field(default_factory=dict)


class Scene:
    """Writes rows into one transaction."""

    def __init__(self, session: Session, *, tenant_id: str = "acme", at: datetime = NOON) -> None:
        self.session, self.tenant_id, self.now = session, tenant_id, at
        pairs = select(func.count()).where(PairRow.tenant_id == tenant_id)
        actions = select(func.count()).where(ReviewRow.tenant_id == tenant_id)
        self._positions = count(session.scalar(pairs) or 0)
        self._numbers = count((session.scalar(actions) or 0) + 1)

    def pair(
        self,
        *,
        texts: tuple[str, str] = ("A short answer.", "An answer that is longer."),
        scores: tuple[float, float] | None = None,
        imported: int | None = None,
        gold: int | None = None,
        status: PairStatus = PairStatus.UNREVIEWED,
        overlap: int = 2,
        language: str = "en",
        source: str = "made",
        **values: Any,
    ) -> Made:
        """A pair of two first versions; `imported` and `gold` name the better answer: 0 or 1."""
        pair_id, prompt_id, place = new_id(), new_id(), next(self._positions)
        turns = [{"role": "user", "content": f"Question {place}?"}]
        self.session.add(
            PromptRow(
                id=prompt_id, tenant_id=self.tenant_id, key=prompt_id, turns=turns,
                folded=f"question {place}?", language=language, split=None, created_at=self.now,
            )
        )  # fmt: skip
        self.session.flush()
        roots = new_id(), new_id()
        preferred = None if imported is None else roots[imported]
        self.session.add(
            PairRow(
                id=pair_id, tenant_id=self.tenant_id, position=place, prompt_id=prompt_id,
                key=pair_id, import_id=None, source=source, source_line=place, language=language,
                imported_preference=preferred, extra=None, created_at=self.now,
                status=status.value, overlap=overlap, lottery=place,
                gold_response_id=None if gold is None else roots[gold], **values,
            )
        )  # fmt: skip
        self.session.flush()
        for which, root in enumerate(roots):
            extra = None if scores is None else {"score": scores[which]}
            self._version(root, root, pair_id, None, 1, texts[which], extra, None)
        return Made(pair_id, self.tenant_id, *roots, *roots, versions={r: 1 for r in roots})

    def _version(self, version_id: str, root: str, pair_id: str, parent: str | None, number: int,
                 text: str, extra: dict[str, Any] | None, author: str | None) -> None:  # fmt: skip
        self.session.add(
            ResponseRow(
                id=version_id, tenant_id=self.tenant_id, pair_id=pair_id, root_id=root,
                parent_id=parent, version=number, text=text, extra=extra, author_id=author,
                created_at=self.now,
            )
        )  # fmt: skip
        self.session.flush()

    def edit(self, pair: Made, which: int, text: str, *, by: Actor = ECE) -> None:
        """A new version of one answer."""
        root = (pair.first_root, pair.second_root)[which]
        current = (pair.first, pair.second)[which]
        pair.versions[root] += 1
        version_id = new_id()
        self._version(version_id, root, pair.id, current, pair.versions[root], text, None, by.id)
        pair.first, pair.second = (
            (version_id, pair.second) if which == 0 else (pair.first, version_id)
        )
        self._append(pair, by, ReviewKind.EDIT, response_id=version_id)

    def vote(
        self,
        pair: Made,
        by: Actor,
        value: int | None,
        *,
        ratings: Mapping[str, Mapping[str, int]] | None = None,
        flags: Sequence[str] = (),
        **values: Any,
    ) -> ReviewRow:
        """A vote on the current texts."""
        preferred = None
        if value:
            preferred = pair.first if value < 0 else pair.second
        return self._append(
            pair, by, ReviewKind.VOTE, preferred_response_id=preferred,
            strength=None if value is None else abs(value),
            flags=list(flags) or None,
            ratings=None if ratings is None else {one: dict(of) for one, of in ratings.items()},
            **values,
        )  # fmt: skip

    def undo(self, row: ReviewRow, pair: Made) -> ReviewRow:
        """Take an action back."""
        by = Actor("user", row.annotator_id, row.annotator_id)
        return self._append(pair, by, ReviewKind.UNDO, undoes_id=row.id)

    def skip(self, pair: Made, by: Actor, reason: str = "unclear") -> ReviewRow:
        """Leave a card to others."""
        return self._append(pair, by, ReviewKind.SKIP, reason=reason)

    def _append(self, pair: Made, by: Actor, kind: ReviewKind, **values: Any) -> ReviewRow:
        number = next(self._numbers)
        shown = (pair.first, pair.second) if number % 2 else (pair.second, pair.first)
        left = values.pop("left", shown[0])
        right = pair.second if left == pair.first else pair.first
        row = ReviewRow(
            id=new_id(), tenant_id=self.tenant_id, pair_id=pair.id, annotator_id=by.id,
            number=number, kind=kind.value, left_response_id=left, right_response_id=right,
            created_at=values.pop("at", self.now + timedelta(seconds=number)),
            **{"note": "", **values},
        )  # fmt: skip
        self.session.add(row)
        self.session.flush()
        return row

    def judge(self, pair: Made, value: int, *, is_swapped: bool = False, judge: str = "j") -> None:
        """A judgment of the current texts in one order."""
        shown = (pair.second, pair.first) if is_swapped else (pair.first, pair.second)
        preferred = None if value == 0 else pair.first if value < 0 else pair.second
        gap = (0.0, 1.0, 2.0, 4.0)[abs(value)]
        scores = {
            pair.first: {"helpfulness": 5.0 + (gap if value < 0 else 0.0)},
            pair.second: {"helpfulness": 5.0 + (gap if value > 0 else 0.0)},
        }
        self.session.add(
            JudgmentRow(
                id=new_id(), tenant_id=self.tenant_id, pair_id=pair.id,
                first_response_id=shown[0], second_response_id=shown[1],
                preferred_response_id=preferred, scores=scores, reason="It says so.", judge=judge,
                revision="r1", created_at=self.now,
            )
        )  # fmt: skip
        self.session.flush()
