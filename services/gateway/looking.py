"""What requests need to know, read from the database and the model store in one look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.errors import InvalidInput, MissingModel, NotFound
from services.gateway.outcome import Model
from services.gateway.parts import Parts
from services.inference.model_store import resolve
from services.metering.models import PriceTable
from services.registry.models import Adapter
from services.rollouts.models import Route
from services.tenants.models import Actor, KeyLimits, Tenant

SYSTEM = Actor.system("gateway")


@dataclass(frozen=True, slots=True)
class Seen:
    """One consistent look; travels between processes.

    Attributes:
        callers: Who asks, by the hex SHA-256 of the key.
        routes: What an alias is served by, by tenant id and alias.
        adapters: The adapters that the routes name, by tenant id and name.
        base: The base model alone.
        policies: Version and source of the policy, by tenant id, where a tenant has one of its own.
        key_limits: What a key may ask for, by the key's id, where it has limits of its own.
        prices: The newest price table.
        keep_days: For how long a tenant keeps texts, by tenant id, where it does.
    """

    callers: Mapping[str, tuple[Actor, Tenant]]
    routes: Mapping[tuple[str, str], Route]
    adapters: Mapping[tuple[str, str], Adapter]
    base: Model
    policies: Mapping[str, tuple[int, str]]
    key_limits: Mapping[str, KeyLimits]
    prices: PriceTable
    keep_days: Mapping[str, int]


class Looker:
    """Looks again and again, and tells only of changes; used by one thread at a time.

    Args:
        parts: Where keys, aliases, rollouts and adapters are kept.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._adapters: dict[tuple[str, str], Adapter] = {}
        self._base = base_model(parts)
        self._last: Seen | None = None

    def look(self) -> Seen | None:
        """What there is now; None where it is what there was at the last look.

        Raises:
            ConsoleError: The database cannot be read; likewise SQLAlchemyError.
        """
        seen = self._read()
        if seen == self._last:
            return None
        self._last = seen
        return seen

    def _read(self) -> Seen:
        parts = self._parts
        callers, routes = parts.tenants.live_keys(), parts.rollouts.routes()
        if not self._base.base_digest:
            self._base = base_model(parts)
        return Seen(
            callers,
            routes,
            self._named(routes),
            self._base,
            parts.guardrails.live(),
            parts.tenants.key_limits(),
            parts.metering.prices_now(),
            parts.evidence.retention.live(),
        )

    def _named(self, routes: Mapping[tuple[str, str], Route]) -> dict[tuple[str, str], Adapter]:
        """The adapters that routes name; each is asked for once, because nothing of it changes."""
        found = {}
        for (tenant_id, _), route in routes.items():
            if route.is_split_outside:
                continue  # A cluster loads its own.
            for name in (route.stable, route.candidate):
                if name is None:
                    continue
                if (tenant_id, name) not in self._adapters:
                    adapter = find_adapter(self._parts, tenant_id, name)
                    if adapter is None:
                        continue
                    self._adapters[tenant_id, name] = adapter
                found[tenant_id, name] = self._adapters[tenant_id, name]
        return found


def find_adapter(parts: Parts, tenant_id: str, name: str) -> Adapter | None:
    """A registered adapter of a tenant; None where there is none."""
    try:
        return parts.registry.get(SYSTEM, tenant_id, name)
    except (NotFound, InvalidInput):
        return None


def base_model(parts: Parts) -> Model:
    """The installation's base model; without a digest where its files are not on this machine.

    An engine elsewhere may serve a model that this machine never saw; receipts then name the
    model and leave its digest empty instead of guessing one.
    """
    settings = parts.settings
    try:
        found = resolve(settings.base_model, settings.models_dir)
    except MissingModel:
        return Model(settings.base_model, None, settings.base_model, "")
    return Model(found.name, None, found.name, found.digest)
