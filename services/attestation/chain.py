"""The chain of custody: from an answer back to the people who decided, each link looked at.

A link holds if its statement is there, its signature and key hold, it says what it is kept for,
the log names it, and every statement that it names is there. What has no statement is said to have
none: what was made before statements were signed is not made up for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.attestation.bundling import Further
from services.attestation.custody import STATEMENT_OF, Custody, Kind, logged_as, predicate_type
from services.attestation.statements import Statement, open_statement
from services.attestation.store import CustodyRow
from services.audit.outbox import OutboxRow
from services.audit.store import AuditRow
from services.errors import VerificationFailed
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

Problem = Literal[
    "", "missing", "signature", "other", "revoked", "unlogged", "material", "previous", "receipt"
]
"""What is wrong with a link; empty for nothing."""

PROBLEMS: Mapping[Problem, str] = {
    "missing": "no statement of this is there",
    "signature": "form, signature or key do not hold",
    "other": "the statement is about something else",
    "revoked": "its key was revoked, and the log does not show that it is older",
    "unlogged": "no entry of the log names it",
    "material": "a statement that it builds on is not there",
    "previous": "the step before it is another, or not there",
    "receipt": "the receipt does not hold",
}


@dataclass(frozen=True)
class Origin:
    """What the registry remembers of how an adapter came to be."""

    run_id: str
    dataset_sha256: str


@dataclass(frozen=True)
class Link:
    """One link, and what it comes from.

    Attributes:
        kind: `receipt`, `adapter`, `registration`, `run`, `dataset`, `people`, `evaluation`,
            `rollout` or `step`.
        digest: sha256 of what it is about, hex; empty where it is about nothing by itself.
        statement: sha256 of its statement, hex; empty where it has none.
        detail: More of the problem, in English.
        entry: Number of the log entry that names it; None where it has none yet.
        facts: What the statement says, its signature checked.
    """

    kind: str
    name: str
    digest: str = ""
    statement: str = ""
    problem: Problem = ""
    detail: str = ""
    entry: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Link, ...] = ()

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Link]]:
        """This link and all below it, each with its depth."""
        yield depth, self
        for part in self.parts:
            yield from part.walk(depth + 1)

    @property
    def broken(self) -> list[Link]:
        """The links that are missing or do not hold."""
        return [link for _depth, link in self.walk() if link.problem]


def chain(
    custody: Custody,
    actor: Actor,
    tenant_id: str,
    *,
    name: str,
    digest: str,
    origins: Sequence[Origin],
    steps: Sequence[Further] = (),
) -> Link:
    """The chain of an adapter.

    Args:
        digest: The adapter's sha256, hex.
        origins: The runs that made it, as the registry remembers them.
        steps: Signed steps of the rollouts that brought it in.

    Raises:
        NotPermitted: The actor may not read the tenant's models.
    """
    tenant = scope(actor, tenant_id, Permission.READ_MODELS)
    with custody.db.read() as session:
        found = _Chain(session, tenant, custody.keyring.jwks())
        parts = (
            *found.made(digest, origins),
            *found.evaluated(digest),
            *found.rolled(digest, steps),
        )
    return Link("adapter", name, digest, parts=parts)


@dataclass(frozen=True)
class _Opened:
    """A kept statement, and what looking at it brought."""

    row: CustodyRow
    statement: Statement | None
    problem: Problem
    detail: str
    entry: int | None

    def link(self, kind: str, name: str, parts: tuple[Link, ...] = ()) -> Link:
        facts = {} if self.statement is None else self.statement.predicate
        return Link(kind, name, self.row.subject, self.row.sha256, self.problem, self.detail,
                    self.entry, facts, parts)  # fmt: skip

    def says(self, name: str, value: str) -> bool:
        return self.statement is not None and self.statement.predicate.get(name) == value


class _Chain:
    """One look at one tenant's statements."""

    def __init__(self, session: Session, tenant_id: str, jwks: Any) -> None:
        self._session = session
        self._tenant = tenant_id
        self._jwks = jwks

    def made(self, digest: str, origins: Sequence[Origin]) -> Iterator[Link]:
        """How it was made: registration, run, data set, people; once for each run."""
        registered = self._about(digest, "adapter")
        ended = self._about(digest, "run")
        for origin in origins:
            run = self._of_run(ended, origin)
            dataset = self._dataset(origin.dataset_sha256)
            name = origin.run_id
            below = (
                Link("run", name, problem="missing", parts=(dataset,))
                if run is None
                else run.link("run", name, (dataset,))
            )
            registration = self._of_run(registered, origin)
            yield (
                Link("registration", name, digest, problem="missing", parts=(below,))
                if registration is None
                else registration.link("registration", name, (below,))
            )
        for stray in (*registered, *ended):  # broken, or of a run that the registry does not know
            yield stray.link("registration" if stray.row.kind == "adapter" else "run",
                             stray.row.name)  # fmt: skip

    def evaluated(self, digest: str) -> Iterator[Link]:
        """The verdicts."""
        for one in self._about(digest, "evaluation"):
            facts = {} if one.statement is None else one.statement.predicate
            yield one.link("evaluation", str(facts.get("evaluation", one.row.name)))

    def rolled(self, digest: str, steps: Sequence[Further]) -> Iterator[Link]:
        """The rollouts that brought it in, each with its steps."""
        of_rollout: dict[str, list[Further]] = {}
        for step in steps:
            of_rollout.setdefault(step.logged_as, []).append(step)
        for subject, listed in of_rollout.items():
            yield Link("rollout", subject.partition(":")[2], parts=self._steps(digest, listed))

    def _steps(self, digest: str, listed: Sequence[Further]) -> tuple[Link, ...]:
        links: list[Link] = []
        for step in listed:
            before = links[-1].statement if links else None
            try:
                statement, key = open_statement(step.envelope, self._jwks)
            except VerificationFailed as error:
                links.append(Link("step", step.name, problem="signature", detail=error.message))
                continue
            entry, is_logged = self._logged(step.logged_as, statement.payload_sha256)
            previous = (statement.predicate.get("previous") or {}).get("sha256")
            problem: Problem = ""
            if digest not in statement.subjects.values():
                problem = "other"
            elif previous != before:
                problem = "previous"
            elif not is_logged:
                problem = "unlogged"
            elif key.last_valid_index is not None and (entry or 2**53) > key.last_valid_index:
                problem = "revoked"
            links.append(
                Link("step", step.name, digest, statement.payload_sha256, problem, entry=entry,
                     facts=statement.predicate)
            )  # fmt: skip
        return tuple(links)

    def _dataset(self, digest: str) -> Link:
        found = self._about(digest, "dataset")
        if not found:
            return Link("dataset", digest[:12], digest, problem="missing")
        # The statement of the oldest one that holds: later exports of the same bytes add nothing.
        one = next((one for one in found if not one.problem), found[0])
        people = one.statement.predicate.get("people", []) if one.statement else []
        parts = tuple(Link("people", str(name)) for name in people)
        return one.link("dataset", one.row.name, parts)

    def _of_run(self, opened: list[_Opened], origin: Origin) -> _Opened | None:
        """The statement of a run, taken out; one that cannot be read stands in for it."""
        named = next((one for one in opened if one.says("run", origin.run_id)), None)
        named = named or next((one for one in opened if one.statement is None), None)
        if named is None:
            return None
        opened.remove(named)
        uses = set() if named.statement is None else named.statement.refers_to
        if named.statement is not None and not named.problem and origin.dataset_sha256 not in uses:
            detail = "it names another data set than the registry"
            return _Opened(named.row, named.statement, "other", detail, named.entry)
        return named

    def _about(self, digest: str, kind: Kind) -> list[_Opened]:
        """The statements of a kind about a digest, oldest first."""
        rows = self._session.scalars(
            select(CustodyRow)
            .where(
                CustodyRow.tenant_id == self._tenant,
                CustodyRow.subject == digest,
                CustodyRow.kind == kind,
            )
            .order_by(CustodyRow.id)
        )
        return [self._opened(row, kind) for row in rows]

    def _opened(self, row: CustodyRow, kind: Kind) -> _Opened:
        try:
            statement, key = open_statement(row.envelope, self._jwks)
        except VerificationFailed as error:
            return _Opened(row, None, "signature", error.message, None)
        entry, is_logged = self._logged(logged_as(row.sha256), row.sha256)
        problem, detail = self._wrong(row, kind, statement)
        if not problem and not is_logged:
            problem = "unlogged"
        if (
            not problem
            and key.last_valid_index is not None
            and (entry is None or entry > key.last_valid_index)
        ):
            problem = "revoked"
        return _Opened(row, statement, problem, detail, entry)

    def _wrong(self, row: CustodyRow, kind: Kind, statement: Statement) -> tuple[Problem, str]:
        is_own = (
            statement.payload_sha256 == row.sha256
            and statement.predicate_type == predicate_type(kind)
            and statement.subjects == {row.name: row.subject}
            and statement.predicate.get("tenant") == self._tenant
        )
        if not is_own:
            return "other", ""
        for one in statement.predicate.get("materials", []):
            if one["name"].startswith(STATEMENT_OF) and not self._has(one["digest"]["sha256"]):
                return "material", one["name"]
        return "", ""

    def _has(self, digest: str) -> bool:
        wanted = select(CustodyRow.id).where(
            CustodyRow.tenant_id == self._tenant, CustodyRow.sha256 == digest
        )
        return self._session.scalar(wanted) is not None

    def _logged(self, subject: str, digest: str) -> tuple[int | None, bool]:
        """The entry that names a statement, and whether one does or will: one may be on its way."""
        rows = self._session.scalars(select(AuditRow).where(AuditRow.subject == subject))
        seq = next((row.seq for row in rows if digest in row.details.values()), None)
        if seq is not None:
            return seq, True
        waiting = self._session.scalars(select(OutboxRow).where(OutboxRow.subject == subject))
        return None, any(digest in row.details.values() for row in waiting)
