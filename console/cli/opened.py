"""What commands work on: the settings, the assembled services, and who acts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from services.bootstrap import Services
    from services.tenants.models import Actor

TenantOption = Annotated[
    str, typer.Option("--tenant", "-t", help="Id of the tenant, such as ailydian-hq.")
]


@contextmanager
def opened() -> Iterator[Services]:
    """The services over an up-to-date database, closed at the end.

    Raises:
        ConsoleError: The settings are off, or the database cannot be used.
    """
    from console.serve import migrate
    from services import bootstrap
    from services.settings import load

    settings = load()
    migrate(settings)
    services = bootstrap.build(settings)
    try:
        yield services
    finally:
        services.close()


@cache
def actor() -> Actor:
    """Whoever has a shell on this machine, named `cli` in the audit log."""
    from services.tenants.models import Actor

    return Actor.system("cli")
