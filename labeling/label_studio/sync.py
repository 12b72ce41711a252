"""One synchronisation of one project: out, then in, then out again if votes made it necessary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from labeling.label_studio import state
from labeling.label_studio.inbox import Inbox
from labeling.label_studio.models import Project
from labeling.label_studio.outbox import Outbox
from labeling.label_studio.server import Server
from labeling.queue import ReviewQueue
from services.db import Clock, Database, utcnow
from services.errors import Unavailable, WrongConfiguration
from services.jobs import hints
from services.jobs.worker import JobContext
from services.settings import Settings
from services.tenants.models import Actor

CARRIER = Actor.system("label-studio")
"""Who carries votes in: the votes themselves bear their annotators' names."""

Beat = Callable[[str], None]
WAIT_S = 1.0


@dataclass(frozen=True)
class Sync:
    """What synchronising takes.

    Args:
        queue: Where votes are cast.
        connect: Opens the server that the settings name.
    """

    db: Database
    queue: ReviewQueue
    settings: Settings
    connect: Callable[[Settings], Server] = Server.of
    clock: Clock = utcnow

    def hold(self, project_id: str, holder: str) -> bool:
        """Take, or keep, the right to synchronise the project; whether it was free or ours."""
        return state.hold(self.db, project_id, holder, self.clock())

    def require(self, tenant_id: str, project_id: str) -> Project:
        """The project.

        Raises:
            NotFound: The tenant has no such project.
        """
        with self.db.read() as session:
            return state.project(state.project_row(session, tenant_id, project_id))

    def run(
        self,
        tenant_id: str,
        project_id: str,
        *,
        holder: str,
        beat: Beat,
        everything: bool = False,
    ) -> int:
        """Bring both sides in step. The caller holds the right to.

        Args:
            holder: In whose name the right is held; it is kept up.
            beat: Told what is being done; raises where the work should end.
            everything: Look at all annotations again, not only at new ones.

        Returns:
            How many votes were taken in.

        Raises:
            NotFound: There is no such project, here or over there.
            Unavailable: The server is away or refuses; asking again goes on from there.
            WrongConfiguration: The settings name no server, or another one than the project's.
        """
        project = self.require(tenant_id, project_id)
        self._refuse_other_server(project)

        def keep(doing: str) -> None:
            beat(doing)
            if not self.hold(project_id, holder):
                raise Unavailable("another synchronisation of this project has taken over")

        with self._server() as server:
            outbox = Outbox(self.db, server, CARRIER, self.clock, keep)
            inbox = Inbox(self.db, server, self.queue, CARRIER, self.clock, keep)
            url, secret = self._hook(project)
            project = outbox.send(project, hook_url=url, hook_secret=secret)
            votes = inbox.pull(project, everything=everything)
            if votes:
                # Decided pairs need nobody any more, mended ones need another task.
                outbox.send(project, hook_url=url, hook_secret=secret)
        return votes

    def _refuse_other_server(self, project: Project) -> None:
        if self.settings.label_studio_url != project.server:
            raise WrongConfiguration(
                f"PARAM_LABEL_STUDIO_URL: expected {project.server}, where the project "
                f"{project.title!r} is, found {self.settings.label_studio_url or 'nothing'!r}"
            )

    def _hook(self, project: Project) -> tuple[str, str]:
        """Address and secret of the project's webhook."""
        secret = self.settings.label_studio_hook_secret
        subject = hints.label_studio_subject(project.tenant_id, project.id)
        made = hints.secret_of(secret, subject) if secret else ""
        return f"{self.settings.gateway_url}/v1/hints/{subject}", made

    @contextmanager
    def _server(self) -> Iterator[Server]:
        server = self.connect(self.settings)
        try:
            yield server
        finally:
            server.close()


def handler(context: JobContext) -> None:
    """Run the synchronisation that a job names; the worker's side.

    Raises:
        ConsoleError: It cannot be done; what was done stays done.
        JobStopped: A person asked for a stop.
        JobPutBack: This worker is leaving.
        JobTaken: Another worker holds the job.
    """
    services, job = context.services, context.job
    queue = ReviewQueue(services.db, services.preferences)
    sync = Sync(services.db, queue, services.settings)
    project_id = str(job.payload["project"])
    sync.require(job.tenant_id, project_id)
    while not sync.hold(project_id, job.id):
        context.progress(0.0, "waiting for another synchronisation")
        context.wait(WAIT_S)
        context.check()

    def beat(doing: str) -> None:
        context.check()
        context.progress(0.5, doing)

    try:
        votes = sync.run(
            job.tenant_id, project_id, holder=job.id, beat=beat,
            everything=bool(job.payload.get("everything")),
        )  # fmt: skip
    finally:
        state.let_go(services.db, project_id, job.id)
    context.progress(1.0, f"in step; {votes} new votes", now=True)
