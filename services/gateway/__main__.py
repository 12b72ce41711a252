"""`python -m services.gateway`: one gateway process, until SIGTERM."""

from __future__ import annotations

import socket
import sys

import uvicorn

from services import bootstrap
from services import settings as configuration
from services.errors import PortInUse
from services.gateway.app import build_app
from services.gateway.ledger import Scribe, spare_the_collector
from services.gateway.logs import Lines, configure
from services.gateway.protocol import BoundedProtocol

DRAIN_S = 20
"""How long running requests may go on after SIGTERM before they are cut off and recorded."""

SWITCH_S = 0.0005
"""How long another thread may hold up the event loop; Python's own 5 ms would be the p50."""

BACKLOG = 2048


def main() -> None:
    """Serve until told to stop; then finish what runs, record it, and leave.

    Raises:
        PortInUse: Another program listens on the gateway's port.
    """
    settings = configuration.load()
    lines = Lines()
    configure(settings.log_level, lines)
    listener = _listen(settings.host, settings.gateway_port)
    app = build_app(bootstrap.build(settings), on_started=_tune, lines=lines, ledger=Scribe())
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        date_header=False,
        timeout_graceful_shutdown=DRAIN_S,
        timeout_keep_alive=30,
        backlog=BACKLOG,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortInUse(
            f"gateway: expected {host}:{port} to be free, found another program listening "
            "there; stop it or set PARAM_GATEWAY_PORT"
        ) from error
    return listener


def _tune() -> None:
    """Let the event loop run."""
    sys.setswitchinterval(SWITCH_S)
    spare_the_collector()


if __name__ == "__main__":
    main()
