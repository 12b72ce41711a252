"""How far the annotators of a tenant agree, with each other and with the AI.

Preferences are compared on the scale of the card, -3 to 3 from one answer to the other; a tie and
"both bad" are 0, since neither favours an answer. Planted pairs are left out: they come from
approved pairs, which are the easy ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import String, case, cast, select
from sqlalchemy.orm import Session

from labeling import reliability, votes
from labeling.people import Person, people
from labeling.reliability import Estimate
from labeling.verdicts import ai_values
from labeling.votes import Basis
from services.db import Database
from services.preferences.models import CRITERIA
from services.preferences.store import PairRow, ReviewRow
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

Dimension = Literal["all", "draw", "language", "source"]

GRADES = 7
MIDDLE = 3
STARS = 5
SEED = 0
COUPLE_RESAMPLES = 400
MAX_SLICES = 20
"""Sources beyond the largest ones are not shown on their own."""
MAX_RATERS = 24
"""Annotators beyond the most diligent ones are not compared one by one."""
MAX_JUDGED = 3_000
"""Pairs on which the AI is compared, drawn by lot: the interval is then about four hundredths wide,
and reading what a judge said of a hundred thousand pairs would take ten seconds."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Slice:
    """Agreement on some of the pairs.

    Attributes:
        dimension: What the pairs have in common: nothing, drawn by lot, a language, a source.
        name: The language or source; empty otherwise.
        pairs: That have at least one vote.
        people: Alpha between people; `n` counts pairs with two votes.
        with_ai: The same with the AI as one more rater, on pairs with two ratings.
        ai: Weighted kappa of the AI and each vote of a person; `n` counts votes.
        same_side: Share of the pairs with two votes on which all favour the same answer, or none.
    """

    dimension: Dimension
    name: str
    pairs: int
    people: Estimate
    with_ai: Estimate
    ai: Estimate
    same_side: Estimate


@dataclass(frozen=True)
class Couple:
    """Two raters on the pairs that both rated.

    Attributes:
        first: None stands for the AI; likewise the second.
        kappa: With quadratic weights; `n` counts pairs.
        same_side: Share of the pairs on which both favour the same answer, or neither does.
    """

    first: Person | None
    second: Person | None
    kappa: Estimate
    same_side: Estimate


@dataclass(frozen=True)
class Agreement:
    """Everything that is known of a tenant's agreement.

    Attributes:
        basis: Whether the votes are those before the AI's verdict was revealed, or the last ones.
        votes: How many were compared.
        slices: All pairs first.
        raters: Annotators by the number of their votes, most first; at most `MAX_RATERS`.
        couples: Each two of them, and each of them with the AI, once.
        criteria: Alpha of the ratings by criterion; `n` counts answers rated twice.
    """

    basis: Basis
    votes: int
    slices: tuple[Slice, ...]
    raters: tuple[Person, ...]
    couples: tuple[Couple, ...]
    criteria: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def overall(self) -> Slice:
        """Agreement on all pairs."""
        return self.slices[0]


class Agreements:
    """Reader of agreement."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def report(self, actor: Actor, tenant_id: str, *, basis: Basis = Basis.BLIND) -> Agreement:
        """Agreement on all pairs and on each slice, between all raters, on each criterion.

        Args:
            basis: Blind votes say what people think by themselves; the last votes say what the
                data set will hold, but people who saw the same verdict of the AI agree more.
        """
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        with self._db.read() as session:
            table = _read(session, tenant_id, basis)
            ids = _diligent(table)
            known = people(session, actor, tenant_id, table.raters)
        return Agreement(
            basis=basis,
            votes=len(table.values),
            slices=tuple(_slices(table)),
            raters=tuple(known[table.raters[one]] for one in ids),
            couples=tuple(_couples(table, ids, known)),
            criteria=_criteria(table),
        )


@dataclass(frozen=True)
class _Table:
    """Votes as columns of equal length; pairs, raters, languages and sources as numbers.

    Attributes:
        values: 0 to 6, from the one answer to the other.
        ai: By pair, the AI's value likewise; -1 where it has none.
        ratings: By vote, as JSON; most are never read.
    """

    pairs: Ints
    rater: Ints
    values: Ints
    ai: Ints
    language: Ints
    source: Ints
    is_drawn: NDArray[np.bool_]
    ratings: Sequence[str | None]
    raters: Sequence[str]
    languages: Sequence[str]
    sources: Sequence[str]


def _read(session: Session, tenant_id: str, basis: Basis) -> _Table:
    # All current votes on a pair saw the same two versions, so that their order gives every pair
    # one direction without looking at the answers.
    first = case(
        (ReviewRow.left_response_id < ReviewRow.right_response_id, ReviewRow.left_response_id),
        else_=ReviewRow.right_response_id,
    )
    sign = case((ReviewRow.preferred_response_id == first, -1), else_=1)
    value = case((ReviewRow.preferred_response_id.is_(None), 0), else_=sign * ReviewRow.strength)
    wanted = (
        select(
            ReviewRow.pair_id, ReviewRow.annotator_id, value, ReviewRow.is_random,
            PairRow.language, PairRow.source, PairRow.lottery, cast(ReviewRow.ratings, String),
        )
        .join(PairRow, PairRow.id == ReviewRow.pair_id)
        .where(*votes.counted(tenant_id, basis), ReviewRow.is_gold.is_(False))
        .order_by(ReviewRow.annotator_id, ReviewRow.number)
    )  # fmt: skip
    # Straight from the connection: rows of mapped columns cost twice the time.
    columns: Sequence[Sequence[Any]] = list(
        zip(*session.connection().execute(wanted).all(), strict=True)
    )
    columns = _latest(columns or [()] * 8)
    drawn_by_lot = dict(zip(columns[0], columns[6], strict=True))
    compared = sorted(drawn_by_lot, key=lambda pair_id: (drawn_by_lot[pair_id], pair_id))
    return _table(columns, ai_values(session, tenant_id, compared[:MAX_JUDGED]))


def _latest(columns: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
    """Each person's latest vote on each pair: one that was put back may be voted on again."""
    seen = dict(zip(zip(columns[0], columns[1], strict=True), range(len(columns[0])), strict=True))
    if len(seen) == len(columns[0]):
        return columns
    return [[column[place] for place in seen.values()] for column in columns]


def _table(columns: Sequence[Sequence[Any]], ai: Mapping[str, int]) -> _Table:
    pair_ids, pairs = _coded(columns[0])
    raters, rater = _coded(columns[1])
    # Language and source are the pair's: any of its votes tells them.
    languages, language = _of_pairs(columns[4], pairs, len(pair_ids))
    sources, source = _of_pairs(columns[5], pairs, len(pair_ids))
    drawn = np.bincount(pairs, np.array(columns[3], dtype=float), minlength=len(pair_ids)) > 0
    return _Table(
        pairs=pairs,
        rater=rater,
        values=np.array(columns[2], dtype=np.int64) + MIDDLE,
        ai=np.array([ai.get(one, -1) for one in pair_ids], dtype=np.int64),
        language=language,
        source=source,
        is_drawn=drawn,
        ratings=columns[7],
        raters=raters,
        languages=languages,
        sources=sources,
    )


def _of_pairs(values: Sequence[str], pairs: Ints, n_pairs: int) -> tuple[list[str], Ints]:
    names, of_votes = _coded(values)
    of_pairs = np.zeros(n_pairs, dtype=np.int64)
    of_pairs[pairs] = of_votes
    return names, of_pairs


def _coded(values: Sequence[str]) -> tuple[list[str], Ints]:
    """The different values, and each value as its number among them."""
    numbers: dict[str, int] = {}
    coded = [numbers.setdefault(value, len(numbers)) for value in values]
    return list(numbers), np.array(coded, dtype=np.int64)


def _slices(table: _Table) -> Iterator[Slice]:
    everything = np.ones(len(table.ai), dtype=bool)
    yield _slice(table, "all", "", everything)
    if table.is_drawn.any() and not table.is_drawn.all():
        yield _slice(table, "draw", "", table.is_drawn)
    parts: tuple[tuple[Dimension, Ints, Sequence[str]], ...] = (
        ("language", table.language, table.languages),
        ("source", table.source, table.sources),
    )
    for dimension, codes, names in parts:
        if len(names) < 2:
            continue
        sizes = np.bincount(codes, minlength=len(names))
        for code in np.argsort(-sizes, kind="stable")[:MAX_SLICES]:
            yield _slice(table, dimension, names[code], codes == code)


def _slice(table: _Table, dimension: Dimension, name: str, chosen: NDArray[np.bool_]) -> Slice:
    of_votes = chosen[table.pairs]
    pairs, values = table.pairs[of_votes], table.values[of_votes]
    counts = _counts(pairs, values, len(chosen), GRADES)
    by_ai = np.where(chosen, table.ai, -1)
    with_ai = counts.copy()
    judged = np.flatnonzero((by_ai >= 0) & (counts.sum(axis=1) > 0))
    with_ai[judged, by_ai[judged]] += 1
    shared = counts[counts.sum(axis=1) >= 2]
    ai = by_ai[pairs]
    compared = _crossed(ai[ai >= 0], values[ai >= 0], GRADES)
    return Slice(
        dimension=dimension,
        name=name,
        pairs=int((counts.sum(axis=1) > 0).sum()),
        people=reliability.ordinal_alpha(counts, seed=SEED, is_mirrored=True),
        with_ai=reliability.ordinal_alpha(with_ai, seed=SEED, is_mirrored=True),
        ai=reliability.weighted_kappa(compared, seed=SEED, is_mirrored=True),
        same_side=_enough(_agreeing(shared), len(shared)),
    )


def _counts(units: Ints, values: Ints, n_units: int, n_values: int) -> Ints:
    """How often each unit got each value, shape (units, values)."""
    found = np.bincount(units * n_values + values, minlength=n_units * n_values)
    return found.reshape(n_units, n_values).astype(np.int64)


def _crossed(first: Ints, second: Ints, n_values: int) -> Ints:
    """How often the one gave the row's value where the other gave the column's."""
    return _counts(first, second, n_values, n_values)


def _agreeing(counts: Ints) -> int:
    sides = np.stack(
        [counts[:, :MIDDLE].sum(axis=1), counts[:, MIDDLE], counts[:, MIDDLE + 1 :].sum(axis=1)]
    )
    return int(((sides > 0).sum(axis=0) == 1).sum())


def _enough(hits: int, n: int) -> Estimate:
    return reliability.share(hits, n) if n >= reliability.ENOUGH else Estimate.unknown(n)


def _diligent(table: _Table) -> list[int]:
    done = np.bincount(table.rater, minlength=len(table.raters))
    return [int(one) for one in np.argsort(-done, kind="stable")[:MAX_RATERS]]


def _couples(table: _Table, ids: Sequence[int], known: Mapping[str, Person]) -> Iterator[Couple]:
    """Each two of the raters that share a pair, the AI as the last rater of all."""
    ai = len(table.raters)
    judged = np.flatnonzero(table.ai >= 0)
    tables = _crossings(
        np.concatenate([table.pairs, judged]),
        np.concatenate([table.rater, np.full(len(judged), ai)]),
        np.concatenate([table.values, table.ai[judged]]),
        n_raters=ai + 1,
    )
    for place, first in enumerate(ids):
        for second in [*ids[place + 1 :], ai]:
            # Neither kappa nor the side depends on which of both raters is named first.
            crossed = tables.get((min(first, second), max(first, second)))
            if crossed is None:
                continue
            yield Couple(
                first=known[table.raters[first]],
                second=None if second == ai else known[table.raters[second]],
                kappa=reliability.weighted_kappa(
                    crossed, seed=SEED, is_mirrored=True, resamples=COUPLE_RESAMPLES
                ),
                same_side=_enough(_same_side(crossed), int(crossed.sum())),
            )


def _same_side(crossed: Ints) -> int:
    low, high = slice(None, MIDDLE), slice(MIDDLE + 1, None)
    both = crossed[low, low].sum() + crossed[high, high].sum() + crossed[MIDDLE, MIDDLE]
    return int(both)


def _crossings(
    units: Ints, raters: Ints, values: Ints, *, n_raters: int
) -> dict[tuple[int, int], Ints]:
    """A table for each two raters, the smaller number first: the values of units both rated."""
    order = np.lexsort((raters, units))
    units, raters, values = units[order], raters[order], values[order]
    cells = GRADES * GRADES
    found: dict[tuple[int, int], Ints] = {}
    for distance in range(1, len(units)):
        same = np.flatnonzero(units[distance:] == units[:-distance])
        if not len(same):
            break
        other = same + distance
        couple = raters[same] * n_raters + raters[other]
        coded, times = np.unique(
            couple * cells + values[same] * GRADES + values[other], return_counts=True
        )
        for one in np.unique(coded // cells):
            of_couple = coded // cells == one
            key = divmod(int(one), n_raters)
            table = found.setdefault(key, np.zeros((GRADES, GRADES), dtype=np.int64))
            table.flat[coded[of_couple] % cells] += times[of_couple]
    return found


def _criteria(table: _Table) -> dict[str, Estimate]:
    """Alpha of each criterion over the answers of the pairs that have two votes."""
    is_shared = np.bincount(table.pairs, minlength=len(table.ai))[table.pairs] >= 2
    rated: dict[str, list[tuple[str, int]]] = {criterion: [] for criterion in CRITERIA}
    for place in np.flatnonzero(is_shared).tolist():
        given_here = table.ratings[place]
        for response_id, stars in json.loads(given_here).items() if given_here else ():
            for criterion, given in stars.items():
                if criterion in rated:
                    rated[criterion].append((response_id, int(given) - 1))
    found = {}
    for criterion, pairs in rated.items():
        if pairs:
            answers, units = _coded([response_id for response_id, _stars in pairs])
            values = np.array([stars for _response_id, stars in pairs], dtype=np.int64)
            counts = _counts(units, values, len(answers), STARS)
            found[criterion] = reliability.ordinal_alpha(counts, seed=SEED)
    return found
