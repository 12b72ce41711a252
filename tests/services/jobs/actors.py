"""The people of these tests, and the smallest set of services that a worker runs with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services import settings as configuration
from services.db import Database
from services.jobs.service import Jobs
from services.settings import Settings
from services.tenants.models import Actor, Role


def person(role: Role, tenant_id: str = "acme") -> Actor:
    """Somebody who holds one role in one tenant."""
    return Actor(
        kind="user", id=f"user-{role}", name=role.title(), grants={tenant_id: frozenset({role})}
    )


ENGINEER = person(Role.ENGINEER)
MANAGER = person(Role.MANAGER)
ANNOTATOR = person(Role.ANNOTATOR)
STRANGER = person(Role.ENGINEER, "globex")


@dataclass(frozen=True)
class Parts:
    """What `run_worker` needs."""

    settings: Settings
    jobs: Jobs


def parts(database: Database, home: Path) -> Parts:
    """The services of a worker whose state lies in `home`."""
    return Parts(configuration.load({"PARAM_HOME": str(home)}, directory=home), Jobs(database))
