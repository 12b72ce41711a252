"""What a fresh `PARAM_HOME` needs before `param up` makes sense. Safe to repeat."""

from __future__ import annotations

from collections.abc import Callable

from console.serve import migrate, require_model
from services import bootstrap
from services.bootstrap import Services
from services.settings import Settings
from services.tenants.demo import DEMO_TENANTS, Credential, create_demo
from services.tenants.models import Actor

ACTOR = Actor.system("setup")
PAIRS_TENANT = DEMO_TENANTS[0][0]


Shown = Callable[[list[Credential]], None]


def prepare(
    settings: Settings, *, demo: bool, report: Callable[[str], None], show_credentials: Shown
) -> int:
    """Migrate the database, fetch the base model, and make the demo data if asked for.

    Args:
        demo: Whether to make the demo tenants, their people and their pairs.
        report: Takes one sentence before each part.
        show_credentials: Takes the accounts that this call made, with their passwords, as soon
            as they exist: whatever fails later, somebody has seen them.

    Returns:
        How many of the bundled pairs were imported by this call.

    Raises:
        ConsoleError: A part failed; what was done before it stays, and a repetition goes on.
    """
    report("Database: bringing it up to date")
    migrate(settings)
    report(f"Base model: looking for {settings.base_model}, fetching it where it is missing")
    require_model(settings, pull=True)
    if not demo:
        return 0
    services = bootstrap.build(settings)
    try:
        report("Demo data: tenants, people, preference pairs")
        show_credentials(create_demo(services.tenants))
        return _import_pairs(services)
    finally:
        services.close()


def _import_pairs(services: Services) -> int:
    return services.preferences.load_demo(ACTOR, PAIRS_TENANT).imported
