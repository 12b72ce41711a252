"""What people do with Label Studio: hand pairs over, ask for votes, say who is who."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from labeling.label_studio import form, inbox, planning, state
from labeling.label_studio.models import (
    FormLanguage,
    Outcome,
    Person,
    Problem,
    Project,
    ProjectState,
    Selection,
    TaskState,
)
from labeling.label_studio.store import AnnotationRow, ProjectRow, TaskRow
from labeling.label_studio.sync import Sync
from labeling.queue import ReviewQueue
from services.audit.outbox import record
from services.db import Clock, Database, new_id, utcnow
from services.errors import Conflict, InvalidInput, NotFound, WrongConfiguration
from services.jobs import hints
from services.jobs.models import Job
from services.jobs.service import Jobs
from services.preferences import queries
from services.settings import Settings
from services.tenants.models import EVERY_TENANT, GRANTED, Actor, Permission
from services.tenants.scope import scope
from services.tenants.store import GrantRow, UserRow

MAX_PAIRS = 10_000
MAX_PROBLEMS = 200


class LabelStudio:
    """The synchronisation, seen from outside the worker.

    Args:
        queue: Where votes are cast.
    """

    def __init__(
        self,
        db: Database,
        queue: ReviewQueue,
        jobs: Jobs,
        settings: Settings,
        *,
        clock: Clock = utcnow,
    ) -> None:
        self._db, self._jobs, self._settings, self._clock = db, jobs, settings, clock
        self.sync = Sync(db, queue, settings, clock=clock)

    @property
    def is_configured(self) -> bool:
        """Whether the settings name a server and a token."""
        return bool(self._settings.label_studio_url and self._settings.label_studio_token)

    def push(
        self,
        actor: Actor,
        tenant_id: str,
        selection: Selection,
        *,
        title: str,
        is_blind: bool = True,
        language: FormLanguage = "en",
    ) -> tuple[Project, int]:
        """Hand pairs over to a project, which is made where there is none of this title.

        They are handed over at once: the desk does not serve them any more. The next
        synchronisation, which is asked for separately, makes them tasks.

        Args:
            title: Of the project over there.
            is_blind: Do not show there what the AI prefers.
            language: Of the form.

        Returns:
            The project, and how many pairs were handed over.

        Raises:
            NotPermitted: The actor may not.
            WrongConfiguration: The settings name no server, or no token.
            InvalidInput: The title or the number of pairs cannot be used.
            Conflict: The project of this title is another kind.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        title = title.strip()
        self._refuse_unconfigured()
        if len(title) not in form.TITLE_LENGTHS:
            shortest, longest = form.TITLE_LENGTHS[0], form.TITLE_LENGTHS[-1]
            raise InvalidInput(
                f"title: expected {shortest} to {longest} characters, found {len(title)}"
            )
        if not 1 <= selection.limit <= MAX_PAIRS:
            raise InvalidInput(f"pairs: expected 1 to {MAX_PAIRS:,}, found {selection.limit:,}")
        with self._db.write() as session:
            queries.serialise(session, f"label-studio|{tenant_id}")
            row = self._of_title(session, actor, tenant_id, title, is_blind, language)
            now = self._clock()
            pairs = planning.hand_over(session, row, selection, now)
            record(
                session, actor, "label_studio.pushed", f"label_studio_project:{row.id}",
                tenant_id=tenant_id, details={"pairs": pairs}, at=now,
            )  # fmt: skip
            return state.project(row), pairs

    def take_back(self, actor: Actor, tenant_id: str, project_id: str) -> int:
        """Give the pairs that nobody has judged over there back to the desk; how many.

        A vote that is cast there all the same still comes in, if it finds a place.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        with self._db.write() as session:
            row = state.project_row(session, tenant_id, project_id)
            pairs = planning.take_back(session, row)
            record(
                session, actor, "label_studio.taken_back", f"label_studio_project:{row.id}",
                tenant_id=tenant_id, details={"pairs": pairs}, at=self._clock(),
            )  # fmt: skip
            return pairs

    def ask(
        self, actor: Actor, tenant_id: str, project_id: str, *, everything: bool = False
    ) -> Job:
        """Have the worker synchronise a project; the waiting job where one waits already.

        Args:
            everything: Look at all annotations again, not only at new ones.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        self._refuse_unconfigured()
        with self._db.read() as session:
            project = state.project(state.project_row(session, tenant_id, project_id))
        payload = {"project": project.id} | ({"everything": "yes"} if everything else {})
        return hints.enqueue_once(
            self._db, self._jobs, actor, tenant_id, hints.LABEL_STUDIO, payload
        )

    def run_here(
        self, actor: Actor, tenant_id: str, project_id: str, *, everything: bool = False
    ) -> int:
        """Synchronise in this process instead of the worker's; how many votes came in.

        Raises:
            Conflict: A synchronisation of the project runs already.
            Unavailable: The server is away or refuses.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        holder = new_id()
        if not self.sync.hold(project_id, holder):
            raise Conflict(f"project {project_id}: it is being synchronised just now")
        try:
            return self.sync.run(
                tenant_id, project_id, holder=holder, beat=lambda _doing: None,
                everything=everything,
            )  # fmt: skip
        finally:
            state.let_go(self._db, project_id, holder)

    def map_person(
        self, actor: Actor, tenant_id: str, server: str, remote_id: int, annotator_id: str | None
    ) -> Person:
        """Say who an account over there is here; the votes that wait for it come in next.

        Votes that came in before keep their annotator.

        Args:
            annotator_id: Somebody who may review in this tenant; None for nobody.

        Raises:
            NotFound: The account has annotated nothing for this tenant.
            InvalidInput: The annotator may not review in this tenant.
        """
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        with self._db.write() as session:
            queries.serialise(session, f"label-studio people|{tenant_id}")
            known = {one.remote_id: one for one in state.people(session, tenant_id, server)}
            if remote_id not in known:
                raise NotFound(f"no account {remote_id} of {server} has annotated for {tenant_id}")
            if annotator_id is not None and annotator_id not in dict(
                _annotators(session, tenant_id)
            ):
                raise InvalidInput(
                    f"annotator: expected somebody who may review in {tenant_id}, "
                    f"found {annotator_id[:80]!r}"
                )
            now = self._clock()
            found = Person(server, remote_id, known[remote_id].label, annotator_id)
            version = state.add_person(session, tenant_id, found, actor_id=actor.id, at=now)
            inbox.recheck(session, tenant_id, server)
            record(
                session, actor, "label_studio.person_mapped", f"tenant:{tenant_id}",
                tenant_id=tenant_id, at=now,
                details={
                    "account": remote_id, "annotator": annotator_id or "", "version": version,
                },
            )  # fmt: skip
            return found

    def people(self, actor: Actor, tenant_id: str) -> builtins.list[Person]:
        """Accounts that have annotated for the tenant, and who they are."""
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        with self._db.read() as session:
            return state.people(session, tenant_id)

    def annotators(self, actor: Actor, tenant_id: str) -> builtins.list[tuple[str, str]]:
        """Ids and names of those who may review in the tenant, by name."""
        tenant_id = scope(actor, tenant_id, Permission.EDIT_PAIRS)
        with self._db.read() as session:
            return _annotators(session, tenant_id)

    def projects(self, actor: Actor, tenant_id: str) -> builtins.list[ProjectState]:
        """The tenant's projects, newest first, and how far each is."""
        tenant_id = scope(actor, tenant_id, Permission.READ_PAIRS)
        with self._db.read() as session:
            wanted = select(ProjectRow).where(ProjectRow.tenant_id == tenant_id)
            rows = session.scalars(
                wanted.order_by(ProjectRow.created_at.desc(), ProjectRow.id)
            ).all()
            return [_state(session, row, _job(session, row)) for row in rows]

    def _refuse_unconfigured(self) -> None:
        if not self.is_configured:
            raise WrongConfiguration(
                "expected a Label Studio server in PARAM_LABEL_STUDIO_URL and a token in "
                "PARAM_LABEL_STUDIO_TOKEN or the file PARAM_LABEL_STUDIO_TOKEN_FILE, found "
                "one of them empty"
            )

    def _of_title(
        self,
        session: Session,
        actor: Actor,
        tenant_id: str,
        title: str,
        is_blind: bool,
        language: FormLanguage,
    ) -> ProjectRow:
        server = self._settings.label_studio_url
        found = session.scalar(
            select(ProjectRow).where(
                ProjectRow.tenant_id == tenant_id,
                ProjectRow.server == server,
                ProjectRow.title == title,
            )
        )
        if found is not None:
            if found.is_blind != is_blind or found.language != language:
                kind = "blind" if found.is_blind else "not blind"
                raise Conflict(
                    f"project {title!r}: it is {kind} and in {found.language!r}; "
                    "choose another title for another kind"
                )
            return found
        row = ProjectRow(
            id=new_id(), tenant_id=tenant_id, server=server, title=title, is_blind=is_blind,
            language=language, overlap=1, hook_note="", actor_id=actor.id,
            created_at=self._clock(),
        )  # fmt: skip
        session.add(row)
        session.flush()
        return row


def _job(session: Session, row: ProjectRow) -> Job | None:
    return hints.latest(session, row.tenant_id, hints.LABEL_STUDIO, "project", row.id)


def _annotators(session: Session, tenant_id: str) -> list[tuple[str, str]]:
    roles = [role.value for role, held in GRANTED.items() if Permission.REVIEW in held]
    wanted = (
        select(UserRow.id, UserRow.display_name)
        .join(GrantRow, GrantRow.user_id == UserRow.id)
        .where(
            or_(GrantRow.tenant_id == tenant_id, GrantRow.tenant_id == EVERY_TENANT),
            GrantRow.role.in_(roles),
            UserRow.disabled.is_(False),
        )
        .distinct()
        .order_by(UserRow.display_name, UserRow.id)
    )
    return [(user_id, name) for user_id, name in session.execute(wanted)]


def _state(session: Session, row: ProjectRow, job: Job | None) -> ProjectState:
    of_project = AnnotationRow.project_id == row.id, AnnotationRow.is_current
    tasks = session.execute(
        select(TaskRow.state, func.count())
        .where(TaskRow.project_id == row.id)
        .group_by(TaskRow.state)
    )
    annotations = session.execute(
        select(AnnotationRow.outcome, func.count())
        .where(*of_project, AnnotationRow.is_gone.is_(False))
        .group_by(AnnotationRow.outcome)
    )
    gone = session.scalar(
        select(func.count()).where(
            *of_project, AnnotationRow.is_gone, AnnotationRow.outcome == Outcome.VOTED.value
        )
    )
    return ProjectState(
        project=state.project(row),
        tasks={TaskState(name): number for name, number in tasks},
        annotations={Outcome(name): number for name, number in annotations},
        gone=gone or 0,
        problems=tuple(_problems(session, row)),
        job=job,
    )


def _problems(session: Session, row: ProjectRow) -> Sequence[Problem]:
    wanted = (
        select(AnnotationRow, TaskRow.pair_id, TaskRow.remote_id)
        .join(TaskRow, TaskRow.id == AnnotationRow.task_id)
        .where(
            AnnotationRow.project_id == row.id,
            AnnotationRow.is_current,
            AnnotationRow.is_gone.is_(False),
            AnnotationRow.outcome.in_(
                [Outcome.WAITING.value, Outcome.LATE.value, Outcome.REFUSED.value]
            ),
        )
        .order_by(AnnotationRow.seen_at.desc(), AnnotationRow.annotation_id)
        .limit(MAX_PROBLEMS)
    )
    return [
        Problem(
            pair_id=pair_id,
            task_id=task_id,
            annotation_id=found.annotation_id,
            remote_user=found.remote_user,
            outcome=Outcome(found.outcome),
            reason=found.reason,
            seen_at=found.seen_at,
        )
        for found, pair_id, task_id in session.execute(wanted)
    ]
