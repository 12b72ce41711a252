"""From there to here: annotations become votes.

Each annotation is judged in one transaction with the note of what became of it, so that it is one
vote whatever dies when. An annotation that changes is a revision of its author's vote; one that is
deleted over there, where everybody may delete everything, changes nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from labeling import claims
from labeling.label_studio import answers, form, state
from labeling.label_studio.models import Answer, Outcome, Person, Project
from labeling.label_studio.server import RemoteTask, Server
from labeling.label_studio.store import AnnotationRow, ProjectRow, TaskRow
from labeling.queue import ReviewQueue
from services.audit.outbox import record
from services.db import Clock, Database, new_id
from services.errors import Conflict, InvalidInput
from services.preferences import queries
from services.preferences.models import Origin, PairStatus, Review
from services.tenants.models import Actor

MARGIN = timedelta(minutes=2)
"""Looked at again each time: a change becomes visible after the time that it bears."""
RECHECK = timedelta(hours=24)
"""After so long everything that has annotations is looked at again."""
EDIT_REASON = "mended in Label Studio"
SETTLED = (Outcome.VOTED.value, Outcome.SKIPPED.value)


@dataclass(frozen=True)
class Judged:
    """What became of an annotation."""

    outcome: Outcome
    reason: str = ""
    review_id: str | None = None
    answer: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Inbox:
    """One project's way in.

    Args:
        beat: Called between tasks; raises where the work should end.
    """

    db: Database
    server: Server
    queue: ReviewQueue
    actor: Actor
    clock: Clock
    beat: Callable[[str], None]

    def pull(self, project: Project, *, everything: bool = False) -> int:
        """Take in what has changed over there.

        Args:
            everything: Look at all tasks that have annotations.

        Returns:
            How many votes were taken in.

        Raises:
            Unavailable: The server is away; asking again goes on from there.
        """
        if project.remote_id is None:
            return 0
        with self.db.read() as session:
            row = state.project_row(session, project.tenant_id, project.id)
            cursor, checked_at = row.cursor, row.checked_at
        now = self.clock()
        whole = everything or cursor is None or checked_at is None or checked_at + RECHECK < now
        since = None if whole or cursor is None else cursor - MARGIN
        people = _People(self, project)
        votes = 0
        self.beat("asking for annotations")
        # By the server's clock, and asked first: what changes from now on is looked at next time.
        newest = self.server.latest_change(project.remote_id)
        for seen, remote in enumerate(self.server.judged(project.remote_id, since)):
            self.beat(f"looked at {seen} tasks, {votes} new votes")
            votes += self._take_task(project, remote, people)
        with self.db.write() as session:
            row = state.project_row(session, project.tenant_id, project.id)
            row.cursor, row.synced_at = newest or cursor, now
            if whole:
                row.checked_at = now
            if votes:
                record(
                    session, self.actor, "label_studio.votes_taken",
                    f"label_studio_project:{project.id}", tenant_id=project.tenant_id,
                    details={"votes": votes}, at=now,
                )  # fmt: skip
        return votes

    def _take_task(self, project: Project, remote: RemoteTask, people: _People) -> int:
        """Judge all annotations of a task; how many became votes."""
        known = people.known([_author(one) for one in remote.annotations])
        votes = 0
        with self.db.write() as session:
            queries.serialise(session, f"label-studio|{project.id}")
            task = session.get(TaskRow, str(remote.data.get(form.KEY)))
            if task is None or task.project_id != project.id:
                return 0  # Somebody else's task.
            texts = state.texts(session, [task.pair_id])
            desk = _TaskDesk(self, session, task, texts, remote)
            for annotation in sorted(remote.annotations, key=_when):
                if isinstance(annotation.get("id"), int):
                    votes += desk.take(annotation, known)
            desk.note_gone([one.get("id") for one in remote.annotations])
        return votes


@dataclass
class _TaskDesk:
    """One task's annotations in one transaction."""

    inbox: Inbox
    session: Session
    task: TaskRow
    texts: state.Texts
    remote: RemoteTask

    def take(self, annotation: Mapping[str, Any], people: Mapping[int, str | None]) -> int:
        """Judge one annotation and note what became of it; 1 if it became a vote now."""
        last = self._last(annotation["id"])
        digest, changed_at = answers.digest(annotation), _when(annotation)[0]
        if last is not None and last.changed_at > changed_at:
            return 0  # What the server told before was newer.
        is_same = last is not None and last.digest == digest
        if last is not None and is_same and (last.outcome in SETTLED or last.is_gone):
            last.is_gone = False
            return 0
        judged = self._judge(annotation, people)
        if last is not None and is_same:
            last.outcome, last.reason = judged.outcome.value, judged.reason
            last.review_id = judged.review_id
        else:
            self._append(annotation, digest, changed_at, last, judged)
        self.session.flush()
        return int(judged.outcome is Outcome.VOTED)

    def note_gone(self, present: Sequence[Any]) -> None:
        """Note which annotations are not over there any more."""
        of_task = AnnotationRow.task_id == self.task.id, AnnotationRow.is_current
        for row in self.session.scalars(select(AnnotationRow).where(*of_task)):
            # A second copy of a task has annotations of its own.
            if self.task.remote_id == self.remote.id and row.annotation_id not in present:
                row.is_gone = True

    def _last(self, annotation_id: int) -> AnnotationRow | None:
        wanted = select(AnnotationRow).where(
            AnnotationRow.project_id == self.task.project_id,
            AnnotationRow.annotation_id == annotation_id,
        )
        return self.session.scalar(wanted.order_by(AnnotationRow.number.desc()).limit(1))

    def _append(
        self,
        annotation: Mapping[str, Any],
        digest: str,
        changed_at: datetime,
        last: AnnotationRow | None,
        judged: Judged,
    ) -> None:
        if last is not None:
            last.is_current = False
        self.session.add(
            AnnotationRow(
                id=new_id(),
                tenant_id=self.task.tenant_id,
                project_id=self.task.project_id,
                task_id=self.task.id,
                annotation_id=annotation["id"],
                number=1 if last is None else last.number + 1,
                digest=digest,
                changed_at=changed_at,
                remote_user=_author(annotation) or 0,
                outcome=judged.outcome.value,
                reason=judged.reason,
                review_id=judged.review_id,
                answer=None if judged.answer is None else dict(judged.answer),
                seen_at=self.inbox.clock(),
                is_current=True,
                is_gone=False,
            )  # fmt: skip
        )

    def _judge(self, annotation: Mapping[str, Any], people: Mapping[int, str | None]) -> Judged:
        if annotation.get("was_cancelled"):
            return Judged(Outcome.SKIPPED)
        author = _author(annotation)
        try:
            answer = self._read(annotation)
            if author is None:
                raise InvalidInput("completed_by: expected the number of an account, found none")
        except InvalidInput as error:
            return Judged(Outcome.REFUSED, error.message)
        kept = {**asdict(answer), "ids": [self.task.left_response_id, self.task.right_response_id]}
        annotator_id = people.get(author)
        if annotator_id is None:
            return Judged(Outcome.WAITING, answer=kept)
        try:
            with self.session.begin_nested():
                review = self._vote(answer, annotator_id)
        except Conflict as error:
            return Judged(Outcome.LATE, error.message, answer=kept)
        except InvalidInput as error:
            return Judged(Outcome.REFUSED, error.message, answer=kept)
        return Judged(Outcome.VOTED, review_id=review.id)

    def _read(self, annotation: Mapping[str, Any]) -> Answer:
        sent = self.texts.data(self.task)
        if not form.shows_the_same(self.remote.data, sent):
            raise InvalidInput(
                f"task {self.remote.id}: expected the texts that were sent, found others: "
                "somebody has changed the task over there"
            )
        shown = {side: str(sent[f"response_{side}"]) for side in form.SIDES}
        return answers.read(annotation, shown=shown)

    def _vote(self, answer: Answer, annotator_id: str) -> Review:
        """The vote, on the texts as this person left them.

        Raises:
            Conflict: It cannot count any more.
            InvalidInput: An edit is none.
        """
        tenant_id, pair_id = self.task.tenant_id, self.task.pair_id
        self.texts = state.texts(self.session, [pair_id])
        ids = {
            side: self._mended(side, response_id, answer.edits.get(side), annotator_id)
            for side, response_id in zip(
                form.SIDES, (self.task.left_response_id, self.task.right_response_id), strict=True
            )
        }
        return self.inbox.queue.record_outside(
            self.inbox.actor,
            tenant_id,
            pair_id,
            annotator_id=annotator_id,
            left_response_id=ids["a"],
            right_response_id=ids["b"],
            verdict=answer.verdict,
            ratings={ids[side]: given for side, given in answer.ratings.items()},
            flags=answer.flags,
            note=answer.note,
            active_ms=answer.active_ms,
            origin=Origin.LABEL_STUDIO,
            replaces=self._standing(annotator_id),
            is_revealed=self.task.has_prediction,
            session=self.session,
        )

    def _mended(self, side: str, response_id: str, edit: str | None, annotator_id: str) -> str:
        """Id of the version that the annotator's vote is about, which may be a new one."""
        shown = self.texts.response(self.task.pair_id, response_id)
        current = self.texts.current(self.task.pair_id, response_id)
        wanted = shown.text if edit is None else edit
        if current.text == wanted:
            return current.id
        if current.id != shown.id and current.author_id != annotator_id:
            raise Conflict(
                f"pair {self.task.pair_id}: response {side.upper()} has changed since it was shown"
            )
        row = queries.locked(self.session, self.task.tenant_id, self.task.pair_id)
        if row.status != PairStatus.UNREVIEWED.value and self._standing(annotator_id) is None:
            raise Conflict(f"pair {row.id}: expected it unreviewed, found it {row.status}")
        version = self.inbox.queue.edit_outside(
            self.inbox.actor, self.task.tenant_id, self.task.pair_id, current.id, wanted,
            annotator_id=annotator_id, reason=EDIT_REASON, session=self.session,
        )  # fmt: skip
        self.session.flush()
        return version.id

    def _standing(self, annotator_id: str) -> str | None:
        """Id of the vote that this person has on the pair at present."""
        mine = claims.held(self.session, self.task.pair_id, annotator_id)
        return mine.review_id if mine is not None and mine.place <= claims.PLANTED else None


class _People:
    """Who the accounts are; an account that is new to us is noted, for somebody to say."""

    def __init__(self, inbox: Inbox, project: Project) -> None:
        self._inbox, self._project = inbox, project
        self._labels: Mapping[int, str] | None = None
        with inbox.db.read() as session:
            found = state.people(session, project.tenant_id, project.server)
        self._known = {one.remote_id: one.annotator_id for one in found}

    def known(self, authors: Sequence[int | None]) -> Mapping[int, str | None]:
        """The annotators behind the accounts; None for an account that nobody has named."""
        new = {one for one in authors if one is not None and one not in self._known}
        if new:
            self._note(new)
        return self._known

    def _note(self, new: set[int]) -> None:
        if self._labels is None:
            self._labels = self._inbox.server.people()
        with self._inbox.db.write() as session:
            queries.serialise(session, f"label-studio people|{self._project.tenant_id}")
            there = {
                one.remote_id: one.annotator_id
                for one in state.people(session, self._project.tenant_id, self._project.server)
            }
            for remote_id in sorted(new - set(there)):
                label = self._labels.get(remote_id, f"account {remote_id}")
                found = Person(self._project.server, remote_id, label, None)
                state.add_person(
                    session, self._project.tenant_id, found,
                    actor_id=self._inbox.actor.id, at=self._inbox.clock(),
                )  # fmt: skip
        self._known |= there | {one: None for one in new - set(there)}


def recheck(session: Session, tenant_id: str, server: str) -> None:
    """Have the next pull of the server's projects look at everything that waits."""
    session.execute(
        update(ProjectRow)
        .where(ProjectRow.tenant_id == tenant_id, ProjectRow.server == server)
        .values(checked_at=None)
        .execution_options(synchronize_session=False)
    )


def _author(annotation: Mapping[str, Any]) -> int | None:
    """Number of the account; what the server says, which is no proof."""
    found = annotation.get("completed_by")
    if isinstance(found, Mapping):
        found = found.get("id")
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _when(annotation: Mapping[str, Any]) -> tuple[datetime, int]:
    try:
        found = datetime.fromisoformat(str(annotation.get("updated_at")))
    except ValueError:
        found = datetime.fromtimestamp(0, UTC)
    number = annotation.get("id")
    at = found if found.tzinfo else found.replace(tzinfo=UTC)
    return at, number if isinstance(number, int) else 0
