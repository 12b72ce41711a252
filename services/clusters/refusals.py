"""What a cluster's refusals are called here, and the sentence that people read.

Unavailable
└── ClusterUnavailable     it does not answer, is overloaded, or its webhook is down: try again
    └── ClusterForbids     the console's account may not do this: ask who may grant it
Conflict
└── ClusterRefused         it will never take this as it is: a person has to look
    └── ObjectChanged      the object is not the one that was read
NotFound                   there is no such object
"""

from __future__ import annotations

import json
import re
from typing import Any

from services.errors import Conflict, ConsoleError, NotFound, Unavailable

MAX_WORDS = 400
"""Characters of a server's own words that are quoted."""
_TEST_FAILED = "the server rejected our request due to an error in our request"
_WEBHOOK = "admission webhook"
_ECHO = re.compile(r'Invalid value: "?\{.*\}"?: ', re.DOTALL)
"""The server repeats a patched object in full; it may hold what nobody should log."""


class ClusterUnavailable(Unavailable):
    """The cluster does not answer, or cannot at this moment."""

    code = "cluster_unavailable"


class ClusterForbids(ClusterUnavailable):
    """The console's account lacks a permission there, or is not known."""

    code = "cluster_forbids"


class ClusterRefused(Conflict):
    """The cluster refuses what was sent, and would refuse it again."""

    code = "cluster_refused"


class ObjectChanged(ClusterRefused):
    """The object is not the one that was read before."""

    code = "cluster_object_changed"


def translate(error: Any, doing: str) -> ConsoleError:
    """The error that stands for an `ApiException` of the client, or for a failed connection.

    Args:
        error: What the client raised.
        doing: What was tried, such as `patch InferenceService prod/support`.
    """
    status = getattr(error, "status", None)
    if not isinstance(status, int) or status == 0:
        reason = str(getattr(error, "reason", "") or error).split("\n")[-1]
        return ClusterUnavailable(
            f"{doing}: expected an answer of the cluster, found none ({_cut(reason)})"
        )
    words = server_words(error)
    match status:
        case 401:
            return ClusterForbids(f"{doing}: the cluster does not accept the console's credentials")
        case 403 if _WEBHOOK not in words:
            return ClusterForbids(f"{doing}: the console's account may not: {words}")
        case 404:
            return NotFound(f"{doing}: {words}")
        case 409 if "already exists" not in words:
            return ObjectChanged(f"{doing}: somebody changed it at the same time; {words}")
        case 422 if _TEST_FAILED in words:
            return ObjectChanged(f"{doing}: it is not as it was read: {_causes(error) or words}")
        case 429 | 500 | 502 | 503 | 504:
            return ClusterUnavailable(f"{doing}: the cluster cannot now ({status}): {words}")
        case _:
            return ClusterRefused(f"{doing}: the cluster refuses it ({status}): {words}")


def server_words(error: Any) -> str:
    """What the server said, without the object that it repeats, in at most `MAX_WORDS`."""
    body = _body(error)
    found = body.get("message") or getattr(error, "reason", None) or "no reason given"
    return _cut(_ECHO.sub("", str(found)))


def _causes(error: Any) -> str:
    details = _body(error).get("details") or {}
    return _cut("; ".join(str(one.get("message", "")) for one in details.get("causes") or []))


def _body(error: Any) -> dict[str, Any]:
    try:
        found = json.loads(getattr(error, "body", None) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_WORDS else f"{line[:MAX_WORDS]} …"
