"""The admin token: what the console shows at the gateway's admin endpoints.

It lies in a file of `PARAM_HOME` that only its owner may read, made by whoever needs it first; an
installation whose console runs on another host sets `PARAM_GATEWAY_ADMIN_TOKEN` on both instead.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from services.errors import Unavailable, WrongConfiguration
from services.settings import Settings

NAME = "gateway-admin.token"
HEADER = "x-param-admin"
SHORTEST = 16
"""Characters; the file's token has 43."""


def token_file(settings: Settings) -> Path:
    """Where the token lies."""
    return settings.home / "run" / NAME


def admin_token(settings: Settings, *, make: bool = False) -> str:
    """The token of this installation.

    Args:
        make: Make the file where it is not there.

    Raises:
        WrongConfiguration: The setting is too short, the file is empty, or others may read it.
        Unavailable: There is no file, or it cannot be read or made.
    """
    if settings.gateway_admin_token:
        if len(settings.gateway_admin_token) < SHORTEST:
            raise WrongConfiguration(
                f"PARAM_GATEWAY_ADMIN_TOKEN: expected at least {SHORTEST} characters, found fewer"
            )
        return settings.gateway_admin_token
    path = token_file(settings)
    try:
        if make and not path.exists():
            _make(path)
        return _read(path)
    except OSError as error:
        raise Unavailable(
            f"{path}: expected the gateway's admin token, found none that can be read "
            f"({error.strerror}); a gateway makes it when it starts"
        ) from error


def is_token(shown: str, token: str) -> bool:
    """Whether a shown token is the right one; takes as long for a wrong one."""
    return hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), token.encode())


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise WrongConfiguration(
                f"{path}: expected a file that only its owner may read (mode 600), found mode "
                f"{mode:o}; delete it and start the gateway again"
            )
        token = file.read().strip()
    if len(token) < SHORTEST:
        raise WrongConfiguration(
            f"{path}: expected a token, found fewer than {SHORTEST} characters; delete it and "
            "start the gateway again"
        )
    return token


def _make(path: Path) -> None:
    """Make the file whole or not at all, also where two gateways start at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
