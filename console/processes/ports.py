"""Whether a port is free, and who holds it otherwise."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from services.errors import PortInUse, WrongConfiguration


@dataclass(frozen=True)
class Port:
    """A TCP port that a program will listen on.

    Attributes:
        variable: The environment variable that moves it.
    """

    program: str
    host: str
    number: int
    variable: str


def require_free(ports: Iterable[Port]) -> None:
    """Refuse to start where something listens already.

    Raises:
        PortInUse: Names the port, the program that holds it where that can be seen, and the
            variable that changes it.
        WrongConfiguration: Two programs are given one port, or the host is no address of this
            machine.
    """
    taken: dict[int, Port] = {}
    for port in ports:
        if other := taken.get(port.number):
            raise WrongConfiguration(
                f"{port.variable}: expected a port of its own, found {port.number}, which the "
                f"{other.program} has ({other.variable})"
            )
        taken[port.number] = port
        if not _is_free(port):
            raise PortInUse(
                f"port {port.number} of the {port.program}: expected it free, found "
                f"{_holder(port.number)} listening there; end that program or set {port.variable}"
            )


def free(host: str) -> int:
    """A port that nobody listens on now; the caller takes it at once."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _is_free(port: Port) -> bool:
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    with socket.socket(family) as probe:
        # What every server here sets as well: a port that only waits out old connections is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((port.host, port.number))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise WrongConfiguration(
                f"PARAM_HOST, {port.variable}: expected an address of this machine and a port "
                f"that may be opened, found {port.host}:{port.number} ({error.strerror})"
            ) from error
    return True


def _holder(number: int) -> str:
    import psutil  # noqa: PLC0415 - only where a port is busy

    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return "another program"  # macOS shows foreign connections to the superuser only
    for connection in connections:
        if (
            connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr.port == number
            and connection.pid
        ):
            try:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
            except psutil.Error:
                return f"process {connection.pid}"
    return "another program"
