"""Between warm and zero: which replicas sleep, and which sleepers go to zero.

A replica that sleeps keeps its process and its weights in host memory; of its device it keeps what
every process that uses one takes, and no more. It comes back in the time of a copy. Sleeping is
scaling, with a shorter window and a softer end: `stoker.decide.scale` decides how many stay awake,
these functions the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stoker.decide.scale import Bounds


@dataclass(frozen=True, slots=True)
class Sleeper:
    """A replica that sleeps. ``since``: in the seconds of ``now``."""

    id: str
    since: float


@dataclass(frozen=True, slots=True)
class Pinned:
    """A worker process, and the devices that it is pinned to."""

    pid: int
    devices: tuple[str, ...]


def residue(
    workers: Sequence[Pinned],
    contexts: Mapping[str, int],
    promised: int,
    seen: Mapping[str, Mapping[int, int]],
) -> dict[str, int]:
    """Bytes by device that a replica holds while it sleeps.

    Args:
        workers: its processes.
        contexts: by device, what a process takes of it before anything else.
        promised: bytes on each device that it was promised awake: asleep it is not taken for more,
            unless it was measured.
        seen: by device and pid, what processes were measured to hold since it fell asleep. A
            driver that hides pids tells of none.

    >>> one, two = Pinned(7, ("a",)), Pinned(8, ("a",))
    >>> residue([one, two], {"a": 500}, 4000, {})
    {'a': 1000}
    >>> residue([one, two], {"a": 500}, 4000, {"a": {7: 320}})
    {'a': 820}
    >>> residue([one], {"a": 500}, 300, {})
    {'a': 300}
    """
    held: dict[str, int] = {}
    measured: set[str] = set()
    for worker in workers:
        for device in worker.devices:
            count = seen.get(device, {}).get(worker.pid, 0)
            if count:
                measured.add(device)
            held[device] = held.get(device, 0) + (count or contexts.get(device, 0))
    return {
        device: count if device in measured else min(count, promised)
        for device, count in held.items()
    }


def awake_bounds(bounds: Bounds, sleep_after_s: float) -> Bounds:
    """What bounds the replicas that are awake: none has to be, and they rest sooner.

    >>> awake_bounds(Bounds(minimum=1, maximum=4, permits=1, idle_window_s=60.0), 5.0)
    Bounds(minimum=0, maximum=4, permits=1, idle_window_s=5.0)
    """
    return replace(bounds, minimum=0, idle_window_s=min(sleep_after_s, bounds.idle_window_s))


def to_zero(
    sleepers: Sequence[Sleeper],
    bounds: Bounds,
    *,
    sleep_after_s: float,
    staying: int,
    desired_zero: bool,
    now: float,
) -> tuple[str, ...]:
    """The sleepers whose idle window is over too, the longest asleep first.

    The window counts from the last request, as without sleep. ``minReplicas`` of them stay: a
    sleeping replica is a replica.

    Args:
        sleepers: replicas that are asleep and not wanted.
        bounds: what the function declares.
        sleep_after_s: how long they had been idle when they fell asleep.
        staying: replicas in all, awake ones included.
        desired_zero: the user asked for zero: all of them go now.
        now: seconds.
    """
    oldest = sorted(sleepers, key=lambda sleeper: sleeper.since)
    if desired_zero:
        return tuple(sleeper.id for sleeper in oldest)
    left_s = max(0.0, bounds.idle_window_s - sleep_after_s)
    over = [sleeper.id for sleeper in oldest if now - sleeper.since >= left_s]
    return tuple(over[: max(0, staying - bounds.minimum)])
