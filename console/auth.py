"""Who is signed in, and the cookie that remembers it.

The session token lives in three places: hashed in the database, in this browser session's memory
on the server, and in an HttpOnly cookie. A Streamlit script cannot set cookies, and a script in
the page must never see the token. So the script hands the browser a ticket, good once and for a
minute; the browser posts it to `/session` (see `routes`), which answers with the cookie.
"""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import streamlit as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console import state, wiring
from services.errors import NotSignedIn
from services.tenants.models import Actor, User

TICKET_SECONDS = 60
MAX_TICKETS = 10_000
MAX_TICKET_BYTES = 128


@dataclass(frozen=True)
class _Ticket:
    """What the browser gets for a ticket: a cookie with the token, or (None) its removal."""

    token: str | None
    max_age_s: int
    good_until: float


_tickets: dict[str, _Ticket] = {}
_lock = threading.Lock()


def cookie_name() -> str:
    """Name of the cookie: cookies do not tell ports apart, so the name does."""
    return f"param_session_{wiring.services().settings.console_port}"


def issue_ticket(
    token: str | None, max_age_s: int = 0, *, good_for_s: float = TICKET_SECONDS
) -> str:
    """A ticket that the browser may exchange once.

    Args:
        token: What the cookie will hold; None for its removal.
        max_age_s: How long the browser keeps the cookie, seconds.
        good_for_s: How long the ticket can be exchanged, seconds.
    """
    now = time.monotonic()
    ticket = secrets.token_urlsafe(32)
    with _lock:
        for old in [key for key, found in _tickets.items() if found.good_until < now]:
            del _tickets[old]
        if len(_tickets) < MAX_TICKETS:
            _tickets[ticket] = _Ticket(token, max_age_s, now + good_for_s)
    return ticket


async def exchange(request: Request) -> Response:
    """Give the cookie for a ticket; 403 for a ticket that is unknown, used, late or foreign."""
    origin = urlsplit(request.headers.get("origin", "")).netloc
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_TICKET_BYTES:
            return Response(status_code=413)
    with _lock:
        ticket = _tickets.pop(body.decode("ascii", "replace"), None)
    if origin != request.headers.get("host") or ticket is None:
        return Response(status_code=403)
    if ticket.good_until < time.monotonic():
        return Response(status_code=403)
    answer = Response(status_code=204, headers={"cache-control": "no-store"})
    answer.set_cookie(
        cookie_name(),
        ticket.token or "",
        max_age=ticket.max_age_s if ticket.token else 0,
        path="/",
        httponly=True,
        samesite="strict",
        secure=_is_https(request),
    )
    return answer


def _is_https(request: Request) -> bool:
    forwarded = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip()
    return "https" in {request.url.scheme, forwarded}


def routes() -> list[Route]:
    """The routes that the console adds to Streamlit's own."""
    return [Route("/session", exchange, methods=["POST"])]


def sign_in(username: str, password: str) -> User:
    """Sign this browser session in and leave a ticket for its cookie.

    Raises:
        NotSignedIn: Wrong name or password, or too many attempts (`LockedOut`).
    """
    entered = wiring.services().tenants.sign_in(username, password)
    hours = wiring.services().settings.session_hours
    state.put(state.TOKEN, entered.token)
    state.put(state.LANGUAGE, entered.user.language)
    state.put(state.COOKIE_TICKET, issue_ticket(entered.token, hours * 3600))
    return entered.user


def sign_out() -> None:
    """End the session on the server and have the browser drop its cookie."""
    token = _token()
    if token is not None:
        wiring.services().tenants.sign_out(token)
    state.clear()
    state.put(state.COOKIE_TICKET, issue_ticket(None))


def user() -> User | None:
    """Who is signed in, asked of the database each time: a sign-out elsewhere counts at once."""
    token = _token()
    if token is None:
        return None
    found = wiring.services().tenants.resume(token)
    if found is None:
        state.drop(state.TOKEN)
    elif state.get(state.LANGUAGE) is None:
        state.put(state.LANGUAGE, found.language)
    return found


def actor() -> Actor:
    """Who asks, for the services.

    Raises:
        NotSignedIn: Nobody is signed in, or the session has ended.
    """
    found = user()
    if found is None:
        raise NotSignedIn("expected a signed-in person, found none or an ended session")
    return found.actor()


def _token() -> str | None:
    """The token of this session, or of the cookie that the page was opened with."""
    token = state.get(state.TOKEN)
    if token is None and state.get(state.COOKIE_TICKET) is None:
        token = st.context.cookies.get(cookie_name())
        if token:
            state.put(state.TOKEN, token)
    return str(token) if token else None
