"""From here to there: the project, its tasks, and the end of tasks that are over.

The server's import is not idempotent, and its answer can be lost. What was sent is therefore
learned only by asking: before every import, and after it, the server is asked for the tasks that
are new to us, and each is recognised by the id of our task in its data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from labeling import policies
from labeling.label_studio import form, planning, state
from labeling.label_studio.models import Project, TaskState
from labeling.label_studio.server import Refusal, RemoteTask, Server
from labeling.label_studio.store import TaskRow
from services.audit.outbox import record
from services.db import Clock, Database
from services.errors import NotFound, Unavailable
from services.preferences import queries, records
from services.preferences.evidence import ai_verdict
from services.preferences.models import Judgment
from services.preferences.store import JudgmentRow
from services.tenants.models import Actor

IMPORT = 100
"""Tasks in one import; a killed server loses at most one import."""


@dataclass(frozen=True)
class Outbox:
    """One project's way out.

    Args:
        beat: Called between requests; raises where the work should end.
    """

    db: Database
    server: Server
    actor: Actor
    clock: Clock
    beat: Callable[[str], None]

    def send(self, project: Project, *, hook_url: str, hook_secret: str) -> Project:
        """Bring the other side in step with ours.

        Args:
            hook_url: Where the server is to tell of new annotations.
            hook_secret: What it says with it; empty for no webhook.

        Returns:
            The project, with the numbers that it has over there.

        Raises:
            Unavailable: The server is away or refuses; asking again goes on from there.
            NotFound: Somebody has deleted the project over there.
        """
        project = self._ensure_project(project)
        project = self._ensure_hook(project, hook_url, hook_secret)
        with self.db.write() as session:
            queries.serialise(session, f"label-studio|{project.id}")
            row = state.project_row(session, project.tenant_id, project.id)
            planned, ended = planning.keep_in_step(session, row, self.clock())
            overlap = row.overlap
            if planned or ended:
                self._record(session, project, "kept_in_step", planned=planned, ended=ended)
        self._send_tasks(project, overlap)
        self._close_tasks(project)
        return project

    def _ensure_project(self, project: Project) -> Project:
        if project.remote_id is not None:
            return project
        self.beat("making the project")
        mark = form.description(project.id)
        remote_id = self.server.find_project(mark)
        if remote_id is None:
            with self.db.read() as session:
                guidelines = policies.current(session, project.tenant_id).guidelines
                overlap = state.project_row(session, project.tenant_id, project.id).overlap
            words = form.instruction(guidelines, project.language)
            remote_id = self.server.make_project(
                title=project.title, description=mark, config=form.config(project.language),
                expert_instruction=words, show_instruction=bool(words),
                maximum_annotations=overlap, show_collab_predictions=not project.is_blind,
                sampling="Sequential sampling",
            )  # fmt: skip
        return self._note(project, "project_made", remote_id=remote_id)

    def _ensure_hook(self, project: Project, url: str, secret: str) -> Project:
        if not secret or project.remote_id is None or project.hook_id is not None:
            return project
        self.beat("making the webhook")
        try:
            hook_id = self.server.hook(project.remote_id, url)
            if hook_id is None:
                hook_id = self.server.make_hook(project.remote_id, url, secret)
        except Refusal as error:
            # Servers refuse addresses in private networks unless they are told otherwise.
            if error.message == project.hook_note:
                return project
            return self._note(project, "hook_refused", hook_note=error.message)
        return self._note(project, "hook_made", hook_id=hook_id, hook_note="")

    def _note(self, project: Project, action: str, **values: Any) -> Project:
        """Write what is now known of the project over there."""
        with self.db.write() as session:
            row = state.project_row(session, project.tenant_id, project.id)
            for name, value in values.items():
                setattr(row, name, value)
            numbers = {name: value for name, value in values.items() if isinstance(value, int)}
            self._record(session, project, action, **numbers)
            return state.project(row)

    def _send_tasks(self, project: Project, overlap: int) -> None:
        assert project.remote_id is not None, "the project was made before"
        if not self._unknown(project):
            return
        self._adopt(project)
        before: list[str] | None = None
        while chunk := self._planned(project):
            ids = [task.id for task in chunk]
            if ids == before:
                raise Unavailable(
                    f"Label Studio at {self.server.url} took {len(ids)} tasks and does not list them"
                )
            if before is None:
                self.server.set_overlap(project.remote_id, overlap)
            self.beat(f"sending {len(ids)} tasks")
            self.server.make_tasks(project.remote_id, self._tasks(project, chunk))
            self._adopt(project)
            before = ids

    def _unknown(self, project: Project) -> int:
        """How many tasks may or may not exist over there."""
        with self.db.read() as session:
            wanted = select(func.count()).where(
                TaskRow.project_id == project.id,
                TaskRow.remote_id.is_(None),
                TaskRow.state != TaskState.CLOSED.value,
            )
            return session.scalar(wanted) or 0

    def _planned(self, project: Project) -> Sequence[TaskRow]:
        with self.db.read() as session:
            wanted = select(TaskRow).where(
                TaskRow.project_id == project.id, TaskRow.state == TaskState.PLANNED.value
            )
            return session.scalars(
                wanted.order_by(TaskRow.created_at, TaskRow.id).limit(IMPORT)
            ).all()

    def _tasks(self, project: Project, chunk: Sequence[TaskRow]) -> list[dict[str, Any]]:
        """What is imported; which tasks have predictions is noted before they are sent."""
        with self.db.write() as session:
            shown = state.texts(session, [task.pair_id for task in chunk])
            predictions = {} if project.is_blind else self._predictions(session, chunk, shown)
            for task in session.scalars(
                select(TaskRow).where(TaskRow.id.in_([one.id for one in chunk]))
            ):
                task.has_prediction = task.id in predictions
        return [
            {
                "data": shown.data(task),
                "predictions": [predictions[task.id]] if task.id in predictions else [],
            }
            for task in chunk
        ]

    def _predictions(
        self, session: Session, chunk: Sequence[TaskRow], shown: state.Texts
    ) -> Mapping[str, dict[str, Any]]:
        """What the AI says of present texts, by task; nothing where it contradicts itself."""
        pair_ids = [task.pair_id for task in chunk]
        judgments: dict[str, list[Judgment]] = {}
        for row in session.scalars(select(JudgmentRow).where(JudgmentRow.pair_id.in_(pair_ids))):
            judgments.setdefault(row.pair_id, []).append(records.judgment(row))
        found = {}
        for task in chunk:
            verdict = ai_verdict(shown.versions[task.pair_id], judgments.get(task.pair_id, ()))
            if verdict is None or verdict.is_stale or verdict.is_consistent is False:
                continue
            found[task.id] = form.prediction(verdict, task.left_response_id)
        return found

    def _adopt(self, project: Project) -> None:
        """Learn the numbers of our tasks over there, of those that are new to us."""
        assert project.remote_id is not None, "the project was made before"
        self.beat("asking which tasks are there")
        with self.db.read() as session:
            known = select(func.max(TaskRow.remote_id)).where(TaskRow.project_id == project.id)
            last = session.scalar(known) or 0
        found = list(self.server.tasks_after(project.remote_id, last))
        copies, bare = self._note_numbers(project, found)
        for task_id in copies:
            self.server.close_task(task_id)
        self._add_predictions(project, bare)

    def _note_numbers(
        self, project: Project, found: Sequence[RemoteTask]
    ) -> tuple[list[int], dict[str, int]]:
        """Write the numbers.

        Returns:
            Numbers of second copies, and of tasks that lack their prediction, by our id.
        """
        copies, bare = [], {}
        with self.db.write() as session:
            adopted = 0
            for remote in sorted(found, key=lambda one: one.id):
                row = session.get(TaskRow, str(remote.data.get(form.KEY)))
                if row is None or row.project_id != project.id:
                    continue  # Somebody else's task.
                if row.remote_id is not None:
                    copies.append(remote.id)
                    continue
                row.remote_id, adopted = remote.id, adopted + 1
                if row.state == TaskState.PLANNED.value:
                    row.state = TaskState.SENT.value
                if row.has_prediction and not remote.n_predictions:
                    bare[row.id] = remote.id
            if adopted:
                self._record(session, project, "tasks_sent", tasks=adopted)
        return copies, bare

    def _add_predictions(self, project: Project, bare: Mapping[str, int]) -> None:
        """Mend tasks that the server kept when it died before it kept their predictions."""
        if not bare:
            return
        with self.db.read() as session:
            chunk = session.scalars(select(TaskRow).where(TaskRow.id.in_(bare))).all()
        for start in range(0, len(chunk), IMPORT):
            part = chunk[start : start + IMPORT]
            with self.db.read() as session:
                shown = state.texts(session, [task.pair_id for task in part])
                predictions = self._predictions(session, part, shown)
            for task_id, prediction in predictions.items():
                self.beat("mending predictions")
                self.server.make_prediction(bare[task_id], prediction)

    def _close_tasks(self, project: Project) -> None:
        with self.db.read() as session:
            wanted = select(TaskRow).where(
                TaskRow.project_id == project.id, TaskRow.state == TaskState.CLOSING.value
            )
            closing = session.scalars(wanted.order_by(TaskRow.id)).all()
        for number, task in enumerate(closing, 1):
            self.beat(f"closing task {number} of {len(closing)}")
            if task.remote_id is not None:
                self._close(task.remote_id)
            with self.db.write() as session:
                session.get_one(TaskRow, task.id).state = TaskState.CLOSED.value

    def _close(self, remote_id: int) -> None:
        try:
            self.server.close_task(remote_id)
        except NotFound:
            return  # Somebody has deleted it: nobody can be served it.

    def _record(self, session: Session, project: Project, action: str, **details: int) -> None:
        record(
            session, self.actor, f"label_studio.{action}", f"label_studio_project:{project.id}",
            tenant_id=project.tenant_id, details=details, at=self.clock(),
        )  # fmt: skip
