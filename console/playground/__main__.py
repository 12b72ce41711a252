"""`python -m console.playground`: serves the playground until SIGTERM or Ctrl-C."""

from __future__ import annotations

import sys

import uvicorn

from console.exit_status import exit_status
from console.playground.app import build_app
from services.errors import ConsoleError
from services.settings import load

SHUTDOWN_S = 3


def main() -> int:
    """Serve; the exit status is that of the error, if there was one."""
    try:
        settings = load()
        app = build_app(settings)
    except ConsoleError as error:
        print(f"playground: {error.message}", file=sys.stderr)
        return exit_status(error)
    uvicorn.run(
        app, host=settings.host, port=settings.playground_port, log_level="warning",
        timeout_graceful_shutdown=SHUTDOWN_S, server_header=False, access_log=False,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
