"""`python -m services.inference.engine`: the embedded engine as a process."""

from __future__ import annotations

import argparse
import logging
import socket
import sys
from dataclasses import fields

import torch
import uvicorn

from services import settings as configuration
from services.errors import ConsoleError, PortInUse
from services.inference.engine.app import build_app
from services.inference.engine.engine import Options

SHUTDOWN_S = 3


def main() -> int:
    """Serve until told to stop; 1 if it could not start."""
    options = _options()
    try:
        settings = configuration.load()
        logging.basicConfig(level=settings.log_level, format="%(levelname)s %(name)s %(message)s")
        if settings.torch_threads:
            torch.set_num_threads(settings.torch_threads)
        with _bound(settings.host, settings.engine_port) as listener:
            app = build_app(settings, options)
            config = uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=SHUTDOWN_S,
            )
            print(f"engine: {settings.base_model} on {settings.engine_url}", flush=True)
            uvicorn.Server(config).run(sockets=[listener])
    except ConsoleError as error:
        print(f"engine: {error.message}", file=sys.stderr)
        return 1
    return 0


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="python -m services.inference.engine")
    for field in fields(Options):
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=int, default=field.default)
    return Options(**vars(parser.parse_args()))


def _bound(host: str, port: int) -> socket.socket:
    """Take the port before the model is loaded, so that a clash is told at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortInUse(
            f"PARAM_ENGINE_PORT: expected to listen on {host}:{port}, found {error.strerror}"
        ) from error
    return listener


if __name__ == "__main__":
    sys.exit(main())
