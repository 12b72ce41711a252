"""Full-text search over prompts and answers: FTS5 on SQLite, tsvector with GIN on PostgreSQL.

One document a pair: the distinct folded words of what was asked and of both current answers. The
index holds no texts. Both databases get words that were cut and folded here, so that they find
the same; a word of three letters or more also finds what begins with it.

These tables belong to no mapped class: SQLAlchemy declares neither FTS5 nor its shadow tables.
`store` has them made together with `pairs`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, String, bindparam, column, text
from sqlalchemy.orm import Session

from services.preferences.text import folded

TABLES = "pair_search"
"""What the names of all tables of the index begin with."""
MAX_QUERY_WORDS = 20
MAX_WORD = 64
MAX_DOCUMENT = 500_000
"""Characters of a document; PostgreSQL takes no tsvector of a megabyte."""
PREFIX_FROM = 3
_WORDS = re.compile(r"\w+")
_TENANT_BITS = 40
_CHUNK = 2_000

_SQLITE = (
    "CREATE TABLE IF NOT EXISTS pair_search_tenants "
    "(number INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL UNIQUE)",
    # The words come folded and cut; `ascii` leaves every other letter as it is.
    "CREATE VIRTUAL TABLE IF NOT EXISTS pair_search USING fts5("
    "words, content='', columnsize=0, detail=none, tokenize=\"ascii tokenchars '_'\")",
)
_POSTGRESQL = (
    "CREATE TABLE IF NOT EXISTS pair_search (pair_id VARCHAR PRIMARY KEY, "
    "tenant_id VARCHAR NOT NULL, words tsvector NOT NULL)",
    "CREATE INDEX IF NOT EXISTS ix_pair_search_words ON pair_search USING gin (words)",
)


_TENANTS = text("SELECT DISTINCT tenant_id FROM pairs").columns(column("tenant_id", String))


def create(connection: Connection) -> None:
    """Make the tables of the index if they are not there, and index the pairs that are.

    For migrations too: pairs that an older version imported are found afterwards.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    for statement in _SQLITE if is_sqlite else _POSTGRESQL:
        connection.execute(text(statement))
    if connection.scalar(text("SELECT 1 FROM pairs LIMIT 1")) is None:
        return
    for tenant_id in connection.scalars(_TENANTS).all():
        if not _is_indexed(connection, tenant_id):
            _index_all(connection, tenant_id)


def words(texts: Iterable[str]) -> str:
    """The document of some texts: their distinct folded words in order, a space between them."""
    found = set(_WORDS.findall(folded("\n".join(texts))))
    document = " ".join(sorted(word[:MAX_WORD] for word in found))
    return document[:MAX_DOCUMENT].rpartition(" ")[0] if len(document) > MAX_DOCUMENT else document


def add(connection: Connection, tenant_id: str, documents: Sequence[tuple[str, int, str]]) -> None:
    """Index new pairs.

    Args:
        documents: Id, position and `words` of each.
    """
    if not documents:
        return
    if connection.dialect.name == "sqlite":
        base = _base(connection, tenant_id, make=True)
        connection.execute(
            text("INSERT INTO pair_search (rowid, words) VALUES (:number, :words)"),
            [{"number": base + position, "words": found} for _, position, found in documents],
        )
        return
    connection.execute(
        text(
            "INSERT INTO pair_search (pair_id, tenant_id, words) VALUES "
            "(:pair_id, :tenant_id, array_to_tsvector(string_to_array(:words, ' ')))"
        ),
        [
            {"pair_id": pair_id, "tenant_id": tenant_id, "words": found}
            for pair_id, _, found in documents
        ],
    )


def change(
    connection: Connection, tenant_id: str, pair_id: str, position: int, *, before: str, after: str
) -> None:
    """Index one pair anew.

    Args:
        before: Its `words` as they were indexed; FTS5 needs them to forget them.
        after: Its `words` from now on.
    """
    if connection.dialect.name == "sqlite":
        number = _base(connection, tenant_id, make=True) + position
        forget = "INSERT INTO pair_search (pair_search, rowid, words) VALUES ('delete', :n, :words)"
        connection.execute(text(forget), {"n": number, "words": before})
        add(connection, tenant_id, [(pair_id, position, after)])
        return
    connection.execute(
        text(
            "UPDATE pair_search SET words = array_to_tsvector(string_to_array(:words, ' ')) "
            "WHERE pair_id = :pair_id"
        ),
        {"pair_id": pair_id, "words": after},
    )


def matches(
    session: Session,
    tenant_id: str,
    query: str,
    *,
    pair_id: Any,
    position: Any,
    first: int | None = None,
) -> ColumnElement[bool] | None:
    """The condition that a pair holds all words of a query.

    Args:
        pair_id: The column of the pairs' ids; likewise of their positions.
        first: Only so many of them matter, those that arrived first: a word that nearly all
            pairs hold is then as quick as any other.

    Returns:
        None where the query holds no word.
    """
    wanted = _WORDS.findall(folded(query))[:MAX_QUERY_WORDS]
    if not wanted:
        return None
    wanted = [word[:MAX_WORD] for word in wanted]
    if session.get_bind().dialect.name == "sqlite":
        low = _base(session.connection(), tenant_id, make=False)
        found = text(
            "SELECT rowid - :search_low FROM pair_search WHERE pair_search MATCH :search_query "
            "AND rowid BETWEEN :search_low AND :search_high ORDER BY rowid LIMIT :search_first"
        ).bindparams(
            search_low=low,
            search_high=low + (1 << _TENANT_BITS) - 1,
            search_first=-1 if first is None else first,
            search_query=" AND ".join(f'"{w}"{"*" * (len(w) >= PREFIX_FROM)}' for w in wanted),
        )
        return _within(position, found)
    found = text(
        "SELECT pair_id FROM pair_search WHERE tenant_id = :search_tenant "
        "AND words @@ CAST(:search_query AS tsquery)"
    ).bindparams(
        search_tenant=tenant_id,
        search_query=" & ".join(f"'{w}'{':*' * (len(w) >= PREFIX_FROM)}" for w in wanted),
    )
    return _within(pair_id, found)


def _within(value: Any, found: Any) -> ColumnElement[bool]:
    inner: ColumnElement[bool] = value.in_(found.columns(column("found")))
    return inner


def _base(connection: Connection, tenant_id: str, *, make: bool) -> int:
    """Number of the tenant's first document on SQLite: a pair's is this and its position."""
    wanted = text("SELECT number FROM pair_search_tenants WHERE tenant_id = :tenant_id")
    number = connection.scalar(wanted, {"tenant_id": tenant_id})
    if number is None and make:
        new = text("INSERT INTO pair_search_tenants (tenant_id) VALUES (:tenant_id)")
        connection.execute(new, {"tenant_id": tenant_id})
        number = connection.scalar(wanted, {"tenant_id": tenant_id})
    return (number or 0) << _TENANT_BITS


def _is_indexed(connection: Connection, tenant_id: str) -> bool:
    table = "pair_search_tenants" if connection.dialect.name == "sqlite" else "pair_search"
    wanted = text(f"SELECT 1 FROM {table} WHERE tenant_id = :tenant_id LIMIT 1")
    return connection.scalar(wanted, {"tenant_id": tenant_id}) is not None


def _index_all(connection: Connection, tenant_id: str) -> None:
    after = -1
    pairs = text(
        "SELECT pairs.id, pairs.position, prompts.folded FROM pairs "
        "JOIN prompts ON prompts.id = pairs.prompt_id WHERE pairs.tenant_id = :tenant_id "
        "AND pairs.position > :after ORDER BY pairs.position LIMIT :chunk"
    )
    answers = text(
        "SELECT pair_id, root_id, text FROM responses WHERE pair_id IN :ids ORDER BY version"
    ).bindparams(bindparam("ids", expanding=True))
    while True:
        chunk = connection.execute(
            pairs, {"tenant_id": tenant_id, "after": after, "chunk": _CHUNK}
        ).all()
        if not chunk:
            return
        current: dict[str, dict[str, str]] = {row.id: {} for row in chunk}
        for start in range(0, len(chunk), 500):
            ids = [row.id for row in chunk[start : start + 500]]
            for answer in connection.execute(answers, {"ids": ids}):
                current[answer.pair_id][answer.root_id] = answer.text
        documents = [
            (row.id, row.position, words([row.folded, *current[row.id].values()])) for row in chunk
        ]
        add(connection, tenant_id, documents)
        after = chunk[-1].position
