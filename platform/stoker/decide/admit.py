"""Admission: what becomes of a request the moment it has been read."""

from __future__ import annotations

from enum import StrEnum

from stoker.nouns.record import FunctionState


class Verdict(StrEnum):
    """What to do with the request."""

    DISPATCH = "dispatch"
    """A warm worker has a free permit and nobody waits: send it now."""
    WAIT = "wait"
    """Capacity exists or is on its way: wait in the room."""
    WAKE = "wake"
    """Wait in the room, and ask for a wake: nothing is warm or starting."""
    FULL = "full"
    """The room is full: 429 for this, the newest. Those who wait keep their places."""
    UNHEALTHY = "unhealthy"
    """The function cannot start as it is deployed: 503 with the reason, now rather than later."""


_BROKEN = frozenset({FunctionState.ERROR, FunctionState.UNHEALTHY})


def admit(
    *,
    free_permits: int,
    waiting: int,
    queue_limit: int,
    warm: int,
    starting: int,
    state: FunctionState,
) -> Verdict:
    """Decides over one request.

    Args:
        free_permits: permits free on warm workers, as this caller sees them.
        waiting: requests of the function that wait already; they go first.
        queue_limit: how many may wait.
        warm: ready workers.
        starting: workers on their way.
        state: the function's state. ``error`` and ``unhealthy`` count only while no worker is warm
            or starting: a failed redeploy leaves the previous revision serving, and a verdict on a
            past attempt must not outlive the attempt (Nuclio replays a stale one for 60 s).
    """
    if free_permits > 0 and waiting == 0:
        return Verdict.DISPATCH
    if warm == 0 and starting == 0 and state in _BROKEN:
        return Verdict.UNHEALTHY
    if waiting >= queue_limit:
        return Verdict.FULL
    return Verdict.WAIT if warm or starting else Verdict.WAKE
