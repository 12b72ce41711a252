"""Reading the record of a request that may have been answered a moment ago."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from services.db import age_s
from services.errors import NotFound
from services.gateway.writer import Writer

YOUNG_S = 2.0
"""How old a request is at most whose record may be on its way from another gateway."""

PAUSE_S = 0.05

T = TypeVar("T")


async def read_fresh(writer: Writer, request_id: str, read: Callable[[], T]) -> T:
    """What is read of a request's record, once it is committed.

    A request of this process is known to be on its way; of another gateway's, its id tells only
    how young it is.

    Args:
        read: Asks the database; runs in a thread, more than once where the request is young.

    Raises:
        NotFound: There is no such record, or not for whoever asks.
        Unavailable: It cannot be written now.
    """
    await writer.committed(request_id)
    while True:
        try:
            return await asyncio.to_thread(read)
        except NotFound:
            if not _is_young(request_id):
                raise
        await asyncio.sleep(PAUSE_S)


def _is_young(request_id: str) -> bool:
    try:
        return 0 <= age_s(request_id) < YOUNG_S
    except ValueError:
        return False
