"""When a worker hands its waiting events to the handler as one batch."""

from __future__ import annotations

from typing import NamedTuple


class Assembly(NamedTuple):
    """What to do with the waiting events now.

    Attributes:
        take: how many of the oldest to run as a batch now; 0 is none.
        wait_until: when to ask again (seconds, same clock as ``now``); None means not before
            another event arrives or a batch finishes.
    """

    take: int
    wait_until: float | None = None


def leave_by(arrived: float, deadline: float | None, timeout_s: float) -> float:
    """The time by which an event must be in a batch.

    It waits at most ``timeout_s``, and at most half of the time that its deadline leaves: an event
    that waited to the end for company would have none left to be handled in.

    >>> leave_by(10.0, None, 1.0), leave_by(10.0, 10.5, 1.0), leave_by(10.0, 60.0, 1.0)
    (11.0, 10.25, 11.0)
    """
    latest = arrived + timeout_s
    if deadline is None:
        return latest
    return min(latest, arrived + max(0.0, deadline - arrived) / 2)


def assemble(
    waiting: int, soonest_leave: float, *, size: int, busy: bool, closing: bool, now: float
) -> Assembly:
    """How many of ``waiting`` events go into a batch now.

    A batch leaves when it is full, when one of its events has waited as long as it may, or when
    nothing more can come (``closing``). A busy worker takes nothing: what collects meanwhile
    leaves the moment it is free, if it is due.

    Args:
        waiting: events in the inbox.
        soonest_leave: the earliest `leave_by` among them; without meaning when there are none.
        size: the largest batch, at least 1.
        busy: the handler runs.
        closing: the worker drains, so no further event will be accepted.
        now: the time.

    >>> assemble(3, 11.0, size=4, busy=False, closing=False, now=10.2)
    Assembly(take=0, wait_until=11.0)
    >>> assemble(9, 11.0, size=4, busy=False, closing=False, now=10.2)
    Assembly(take=4, wait_until=None)
    """
    if busy or waiting == 0:
        return Assembly(0)
    if waiting >= size:
        return Assembly(size)
    if closing or now >= soonest_leave:
        return Assembly(waiting)
    return Assembly(0, soonest_leave)
