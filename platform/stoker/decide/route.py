"""Routing: which warm worker gets a request."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def choose(outstanding: Sequence[int], permits: Sequence[int], start: int) -> int | None:
    """The index of the least loaded worker with a free permit.

    Ties go round from ``start`` on, so that equal workers share the work; a worker that has just
    become ready takes as many as its permits allow and no more.

    >>> choose([1, 0, 0], [1, 1, 1], start=2), choose([1, 1], [1, 1], start=0)
    (2, None)
    """
    count = len(outstanding)
    best: int | None = None
    least = -1
    for step in range(count):
        index = (start + step) % count
        load = outstanding[index]
        if load < permits[index] and (best is None or load < least):
            best, least = index, load
            if load == 0:
                break
    return best


def precedence(name: str, *, serves: bool, created_at: float) -> tuple[bool, float, str]:
    """Of functions that declare one model name the one with the least of these answers by it.

    One that has a revision to answer with, before one that has none; then the one that was there
    first: nobody takes another's requests by declaring its name.

    >>> precedence("b", serves=True, created_at=1.0) < precedence("a", serves=True, created_at=2.0)
    True
    """
    return (not serves, created_at, name)


def eligible_revision(serving: int, ready: Collection[int]) -> int | None:
    """The revision whose workers get traffic.

    The serving one when any of its workers is ready, else the newest older one that still has some;
    never a newer one, which is a candidate that has proved nothing yet.

    >>> eligible_revision(3, {2, 4}), eligible_revision(3, {4}), eligible_revision(3, {2, 3})
    (2, None, 3)
    """
    return max((revision for revision in ready if revision <= serving), default=None)
