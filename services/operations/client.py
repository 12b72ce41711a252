"""The gateway's admin endpoints, as the console reaches them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx

from services.errors import NotFound, Unavailable
from services.operations.models import GatewayState, TenantView, Upstream
from services.operations.token import HEADER

PATIENCE_S = 3.0


class GatewayAdmin:
    """A client of one gateway's admin endpoints.

    Args:
        url: The gateway's address.
        token: Gives the admin token; asked at each request, so a new one is found.
    """

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        self._url = url
        self._token = token

    def state(self) -> GatewayState:
        """The gateway as it is now.

        Raises:
            Unavailable: It does not answer, or does not take the token.
        """
        return _state(self._ask("GET", "/admin/v1/state"))

    def tenant(self, tenant_id: str) -> TenantView:
        """One tenant as the gateway sees it.

        Raises:
            NotFound: It knows no key of such a tenant.
            Unavailable: See `state`.
        """
        found = self._ask("GET", f"/admin/v1/tenants/{tenant_id}")
        return TenantView(
            tenant_id=found["tenant"],
            limits=found["limits"],
            tokens_left_today=found["tokens_left_today"],
            policy_version=found["policy"]["version"],
            policy_sha256=found["policy"]["sha256"],
            aliases=tuple(found["aliases"]),
            may_fall_back=found["may_fall_back"],
        )

    def drain(self, on: bool) -> None:
        """Let the gateway take no more chat requests, or take them again."""
        self._ask("POST", "/admin/v1/drain", {"on": on})

    def retry(self, upstream: str) -> None:
        """Let the next request try an engine whose breaker is open."""
        self._ask("POST", f"/admin/v1/upstreams/{upstream}/retry")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = httpx.request(
                method,
                self._url + path,
                json=body,
                headers={HEADER: self._token()},
                timeout=PATIENCE_S,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            raise Unavailable(f"the gateway at {self._url} does not answer").because(
                "gateway_silent", address=self._url
            ) from error
        if answer.status_code == 200:
            found: dict[str, Any] = answer.json()
            return found
        if answer.status_code == 404 and path.startswith("/admin/v1/tenants/"):
            raise NotFound("the gateway knows no key of this tenant").because("gateway_no_key")
        if answer.status_code == 401:
            raise Unavailable(
                f"the gateway at {self._url} does not take the admin token of this installation"
            ).because("gateway_token")
        raise Unavailable(f"the gateway at {self._url} answered with status {answer.status_code}")


def _state(found: dict[str, Any]) -> GatewayState:
    upstreams = tuple(
        Upstream(**{**one, "adapters": tuple(one["adapters"])}) for one in found.pop("upstreams")
    )
    started_at = datetime.fromisoformat(found.pop("started_at"))
    return GatewayState(**found, started_at=started_at, upstreams=upstreams)
