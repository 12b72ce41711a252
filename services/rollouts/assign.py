"""Which arm a user lands on: a pure function of the route and the user."""

from __future__ import annotations

from hashlib import sha256

from services.rollouts.models import Arm, Route

BUCKETS = 10_000
_PER_PERCENT = BUCKETS // 100


def bucket(route: Route, subject: str) -> int:
    """The user's fixed place in the split of one rollout, 0 to 9999.

    The first eight bytes of SHA-256 over salt, rollout, tenant and subject. The parts are
    joined by a byte that UTF-8 never holds, so no two different tuples give the same input.
    The remainder of 2**64 by 10,000 favours no bucket by more than 1 in 10**15.
    """
    parts = (route.salt, route.rollout_id or "", route.tenant_id, subject)
    # Lone surrogates can arrive in a JSON string; they must still hash, always the same way.
    joined = b"\xff".join(part.encode("utf-8", "surrogatepass") for part in parts)
    return int.from_bytes(sha256(joined).digest()[:8], "big") % BUCKETS


def assign(route: Route, subject: str) -> Arm:
    """The arm of one user.

    The same user always lands on the same arm while the share stays; a larger share only ever
    moves users from the stable arm to the candidate, a smaller one only back.

    Args:
        route: The split; one without a candidate gives the stable arm.
        subject: Who asks, stable over a conversation: a user id, a conversation id or a key id.
    """
    return place(route, subject)[0]


def place(route: Route, subject: str) -> tuple[Arm, int | None]:
    """The arm of one user, and the place in the split that decided it.

    Returns:
        None as the place where there is no candidate.
    """
    if route.candidate is None:
        return Arm.STABLE, None
    found = bucket(route, subject)
    return (Arm.CANARY if found < route.percent * _PER_PERCENT else Arm.STABLE), found
