"""What can be done with preference pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from services.attestation.custody import Custody
from services.audit.outbox import record
from services.db import Clock, Database, utcnow
from services.errors import InvalidInput
from services.preferences import importing, queries, self_instruct
from services.preferences.choices import Choices
from services.preferences.datasets import Datasets
from services.preferences.exports import Form
from services.preferences.filters import Filters, Sort, conditions
from services.preferences.gates.models import Rules
from services.preferences.gates.truncation import TrainingTokenizer
from services.preferences.models import (
    Dataset,
    Decision,
    ImportReport,
    Manifest,
    Page,
    Pair,
    PairStats,
    PairStatus,
)
from services.preferences.snapshots import Progress, silent
from services.preferences.store import ImportRow, PairRow, ResponseRow, ReviewRow
from services.preferences.streams import Upload
from services.preferences.text import defect
from services.tenants.models import Actor, Permission
from services.tenants.scope import scope

DEMO_SET = Path(__file__).parent / "demo" / "pairs.jsonl"
DEMO_SOURCE = "demo set"
MAX_BYTES = 100 << 20
MAX_NOTE = 2_000
Purpose = Literal["training", "evaluation"]
PURPOSES = get_args(Purpose)
NO_RULES, CONVERSATIONAL = Rules(), Form()
"""Every gate as it is by default, and the form that TRL recommends."""


class Preferences:
    """Pairs of all tenants.

    Args:
        datasets_dir: Where snapshots are kept, a folder a tenant.
        max_bytes: Largest file that is imported, as sent and once more unpacked, bytes.
        tokenizer: Gives the tokenizer of the model that is trained here, if it is on disk.
        custody: States what is frozen and exported; without it that is only in the log.
    """

    def __init__(
        self,
        db: Database,
        *,
        datasets_dir: Path,
        max_bytes: int = MAX_BYTES,
        tokenizer: Callable[[], TrainingTokenizer | None] = lambda: None,
        custody: Custody | None = None,
        clock: Clock = utcnow,
    ) -> None:
        self._db = db
        self._datasets = Datasets(
            db, datasets_dir, tokenizer=tokenizer, custody=custody, clock=clock
        )
        self._max_bytes = max_bytes
        self._clock = clock

    def import_pairs(
        self,
        actor: Actor,
        tenant_id: str,
        stream: BinaryIO | Mapping[str, BinaryIO],
        *,
        source: str,
        format: str = "auto",
        dry_run: bool = False,
        strict: bool = False,
        purpose: Purpose = "training",
    ) -> ImportReport:
        """Take in a file of pairs; all its good rows are written in one transaction, or none.

        Args:
            stream: The file's bytes, gzip-packed or not; or several files of `self-instruct`
                predictions by the name of the model that made them.
            source: Where the pairs are from, such as the file's name.
            format: One of `formats.FORMATS`, or `auto`.
            dry_run: Count only.
            strict: Write nothing if any row is bad.
            purpose: `evaluation` declares the prompts an evaluation set, also those that the
                tenant has already: they are in no training set from then on.

        Raises:
            NotPermitted: The actor may not import in this tenant.
            UnknownFormat: The file is in no format that is read here.
            InvalidInput: The file as a whole is broken.
            TooLarge: It is larger than `max_bytes`.
            StorageFull: The disk is full; nothing was written.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        _refuse_note(source, "source", required=True)
        # Checking takes longer than writing, and locks nobody out.
        if purpose not in PURPOSES:
            raise InvalidInput(f"purpose: expected {' or '.join(PURPOSES)}, found {purpose!r}")
        parsed = self._parsed(stream, format)
        if dry_run or (strict and parsed.counts.rejected):
            return self._count_only(tenant_id, parsed, would_write=not strict or dry_run)
        with self._db.write() as session:
            queries.serialise(session, f"pairs|{tenant_id}")
            now = self._clock()
            writer = importing.Writer(
                session, tenant_id, source, actor.id, now, purpose == "evaluation"
            )
            import_id = writer.write(parsed)
            counts = parsed.counts
            details = {
                "format": parsed.format,
                "purpose": purpose,
                "sha256": parsed.sha256,
                "read": counts.read,
                "imported": counts.imported,
                "duplicates": counts.duplicates,
                "rejected": counts.rejected,
            }
            subject = f"import:{import_id}"
            record(
                session, actor, "pairs.imported", subject, tenant_id=tenant_id, details=details,
                at=now,
            )  # fmt: skip
        return parsed.counts.report(parsed.format)

    def _parsed(self, stream: BinaryIO | Mapping[str, BinaryIO], format: str) -> importing.Parsed:
        if not isinstance(stream, Mapping):
            return importing.parse(Upload(stream, max_bytes=self._max_bytes), format)
        if format not in {"auto", self_instruct.FORMAT}:
            raise InvalidInput(
                f"several files: expected the format {self_instruct.FORMAT}, found {format}"
            ).because("several_files")
        uploads = {name: Upload(one, max_bytes=self._max_bytes) for name, one in stream.items()}
        counts, rows = importing.checked(self_instruct.read(uploads))
        return importing.Parsed(self_instruct.FORMAT, self_instruct.digest(uploads), rows, counts)

    def _count_only(
        self, tenant_id: str, parsed: importing.Parsed, *, would_write: bool
    ) -> ImportReport:
        with self._db.read() as session:
            writer = importing.Writer(session, tenant_id, "", "", self._clock())
            for _ in writer.fresh(parsed):
                pass
        if not would_write:
            parsed.counts.imported = 0
        return parsed.counts.report(parsed.format)

    def load_demo(self, actor: Actor, tenant_id: str) -> ImportReport:
        """Import the bundled demo set; what is there already is not doubled."""
        with DEMO_SET.open("rb") as stream:
            return self.import_pairs(actor, tenant_id, stream, source=DEMO_SOURCE, format="trl")

    def pairs(
        self,
        actor: Actor,
        tenant_id: str,
        filters: Filters | None = None,
        *,
        sort: Sort = Sort.ARRIVAL,
        limit: int = 50,
        offset: int = 0,
        **asked: Any,
    ) -> Page:
        """One page of pairs.

        Args:
            filters: Which ones; all by default.
            limit: From 1 to 1,000.
            asked: Single fields of `Filters`, in place of `filters`.

        Raises:
            InvalidInput: See `filters.refuse`.
        """
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        limit, offset = max(1, min(limit, 1_000)), max(0, offset)
        with self._db.read() as session:
            first = queries.COUNTED + 1 if sort is Sort.ARRIVAL else None
            wanted = conditions(session, tenant_id, filters or Filters(**asked), first=first)
            found = queries.find(session, wanted, limit=limit, offset=offset, sort=sort)
            total = queries.count(session, wanted, up_to=queries.COUNTED + 1)
        capped = min(total, queries.COUNTED)
        return Page(tuple(found), capped, limit, offset, is_capped=total > capped)

    def sources(self, actor: Actor, tenant_id: str) -> list[str]:
        """Names of the files that pairs came from, in order."""
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        with self._db.read() as session:
            named = select(ImportRow.source).where(ImportRow.tenant_id == tenant_id).distinct()
            return sorted(session.scalars(named))

    def counts(self, actor: Actor, tenant_id: str) -> Mapping[PairStatus, int]:
        """How many pairs have each status."""
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        with self._db.read() as session:
            found = _grouped(session, PairRow.status, tenant_id)
        return {status: found.get(status.value, 0) for status in PairStatus}

    def pair(self, actor: Actor, tenant_id: str, pair_id: str) -> Pair:
        """One pair with its history.

        Raises:
            NotFound: The tenant has no such pair.
        """
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        with self._db.read() as session:
            found = queries.get(session, tenant_id, pair_id)
            return replace(found, history=queries.history(session, found.id))

    def decide(
        self,
        actor: Actor,
        tenant_id: str,
        pair_id: str,
        *,
        verdict: PairStatus,
        chosen_response_id: str | None = None,
        reason: str = "",
    ) -> Decision:
        """Approve, reject or reopen a pair; whoever has it as a card loses the card.

        Args:
            chosen_response_id: The current version that is better; only for an approval.

        Raises:
            NotFound: The tenant has no such pair.
            InvalidInput: An approval without a current response of this pair, or a choice
                without an approval.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        _refuse_note(reason, "reason")
        with self._db.write() as session:
            row = queries.locked(session, tenant_id, pair_id)
            found = queries.get(session, tenant_id, pair_id)
            return self.decide_in_session(
                session, actor, row, found, PairStatus(verdict), chosen_response_id, reason=reason
            )

    def decide_in_session(
        self,
        session: Session,
        actor: Actor,
        row: PairRow,
        found: Pair,
        verdict: PairStatus,
        chosen_response_id: str | None,
        *,
        reason: str = "",
        review_id: str | None = None,
        action: str = "pair.decided",
    ) -> Decision:
        """The same inside the transaction of a caller who has admitted the actor.

        Somebody who opens a pair again wants another opinion: one more person is asked than have
        voted. (A vote that was taken back has left its own place free.)

        Args:
            row: The pair's row, locked.
            found: The same pair.
            review_id: The vote or undo that decides.
            action: Name of the audit event.

        Raises:
            InvalidInput: See `decide`.
        """
        chosen, rejected = _sides(found, verdict, chosen_response_id)
        if verdict is PairStatus.UNREVIEWED and review_id is None:
            row.overlap = max(row.overlap, row.taken + 1)
        now = self._clock()
        decision = queries.decide(
            session, row, verdict, chosen_id=chosen, rejected_id=rejected, actor_id=actor.id,
            at=now, reason=reason, review_id=review_id,
        )  # fmt: skip
        details = {"verdict": verdict.value, "chosen": chosen or "", "review": review_id or ""}
        record(
            session, actor, action, f"pair:{row.id}", tenant_id=row.tenant_id, details=details,
            at=now,
        )  # fmt: skip
        return decision

    def approve_imported(self, actor: Actor, tenant_id: str, *, mark: str = "demo") -> int:
        """Approve every unreviewed pair as its import preferred it; each decision bears the mark.

        Meant for demonstrations: a manifest names the pairs that nobody looked at.

        Returns:
            How many pairs were approved.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        _refuse_note(mark, "mark", required=True)
        with self._db.write() as session:
            queries.serialise(session, f"pairs|{tenant_id}")
            now, approved = self._clock(), 0
            queries.lock_unreviewed(session, tenant_id)
            for chunk in queries.every(session, tenant_id, status=PairStatus.UNREVIEWED):
                chosen = [
                    (one, *_sides_of(one.pair, preferred.id))
                    for one in chunk
                    if (preferred := one.pair.response(one.pair.imported_preference))
                ]
                queries.approve_many(
                    session, chosen, actor_id=actor.id, at=now, reason="as imported", mark=mark
                )
                approved += len(chosen)
            details = {"approved": approved, "mark": mark}
            record(
                session, actor, "pairs.approved_as_imported", f"tenant:{tenant_id}",
                tenant_id=tenant_id, details=details, at=now,
            )  # fmt: skip
        return approved

    def stats(self, actor: Actor, tenant_id: str) -> PairStats:
        """Counts of the tenant's pairs."""
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        with self._db.read() as session:
            by_status = _grouped(session, PairRow.status, tenant_id)
            edited = select(func.count(ResponseRow.pair_id.distinct())).where(
                ResponseRow.tenant_id == tenant_id, ResponseRow.version > 1
            )
            reviews = select(func.count()).where(ReviewRow.tenant_id == tenant_id)
            return PairStats(
                total=sum(by_status.values()),
                by_status={status: by_status.get(status.value, 0) for status in PairStatus},
                by_language=_grouped(session, PairRow.language, tenant_id),
                by_source=_grouped(session, PairRow.source, tenant_id),
                edited=session.scalar(edited) or 0,
                demo=_grouped(session, PairRow.mark, tenant_id).get("demo", 0),
                reviews=session.scalar(reviews) or 0,
            )

    def snapshot(
        self,
        actor: Actor,
        tenant_id: str,
        *,
        include_unreviewed: bool = False,
        eval_fraction: float = 0.1,
        seed: int = 0,
        rules: Rules = NO_RULES,
        unpaired: bool = False,
    ) -> Dataset:
        """Freeze the approved pairs that pass the gates as a data set that a run can train on.

        The same pairs and choices give the data set that is there already.

        Args:
            unpaired: Write each answer alone, too, and those of pairs that are both bad: what KTO
                learns from.

        Raises:
            Conflict: There is no pair to train on.
            InvalidInput: The fraction is out of range.
            StorageFull: The disk is full; nothing was written.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        form = Form(also=("kto",)) if unpaired else CONVERSATIONAL
        choices = Choices(include_unreviewed, eval_fraction, seed, rules, form)
        return self._datasets.snapshot(actor, tenant_id, choices)

    def export(
        self,
        actor: Actor,
        tenant_id: str,
        out_dir: Path,
        *,
        include_unreviewed: bool = False,
        eval_fraction: float = 0.1,
        seed: int = 0,
        rules: Rules = NO_RULES,
        form: Form = CONVERSATIONAL,
        progress: Progress = silent,
    ) -> Manifest:
        """Write the data set into a folder: whole, or not at all.

        Args:
            out_dir: Made if it is not there; an earlier export in it is replaced.
            rules: How the gates are set.
            form: Which files are written, and in which shape.

        Raises:
            Conflict: The folder holds something else.
            InvalidInput: The fraction is out of range, or the folder cannot be written.
            StorageFull: The disk is full; nothing was written.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        choices = Choices(include_unreviewed, eval_fraction, seed, rules, form)
        return self._datasets.export(actor, tenant_id, out_dir, choices, progress=progress)

    def datasets(self, actor: Actor, tenant_id: str) -> list[Dataset]:
        """The tenant's data sets, newest first."""
        return self._datasets.list(scope(actor, tenant_id, Permission.READ_PAIRS))

    def dataset(self, actor: Actor, tenant_id: str, dataset_id: str) -> Dataset:
        """One data set.

        Raises:
            NotFound: The tenant has no such data set.
        """
        return self._datasets.get(scope(actor, tenant_id, Permission.READ_PAIRS), dataset_id)


def _sides(pair: Pair, verdict: PairStatus, chosen_id: str | None) -> tuple[str | None, str | None]:
    """Ids of the chosen and the rejected response of a decision."""
    if verdict is PairStatus.APPROVED:
        return _sides_of(pair, chosen_id)
    if chosen_id is not None:
        raise InvalidInput(
            f"pair {pair.id}: expected no chosen response with the verdict {verdict.value!r}"
        )
    return None, None


def _sides_of(pair: Pair, chosen_id: str | None) -> tuple[str, str]:
    first, second = (response.id for response in pair.responses)
    if chosen_id == first:
        return first, second
    if chosen_id == second:
        return second, first
    raise InvalidInput(
        f"pair {pair.id}: expected the id of one of its two current responses, found {chosen_id!r}"
    )


def _grouped(
    session: Session, column: InstrumentedAttribute[str], tenant_id: str
) -> Mapping[str, int]:
    wanted = select(column, func.count()).where(PairRow.tenant_id == tenant_id).group_by(column)
    return {value: number for value, number in session.execute(wanted)}


def _refuse_note(text: str, name: str, *, required: bool = False) -> None:
    if required and not text.strip():
        raise InvalidInput(f"{name}: expected a text, found an empty one").because(
            "empty", field=name
        )
    if len(text) > MAX_NOTE:
        raise InvalidInput(
            f"{name}: expected at most {MAX_NOTE} characters, found {len(text)}"
        ).because("too_long", field=name, most=MAX_NOTE, found=len(text))
    if found := defect(text):
        raise InvalidInput(f"{name}: expected text that can be stored, found {found}").because(
            "not_storable", field=name
        )
