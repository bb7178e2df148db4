"""Scaling: how many replicas a function should have, and which ones go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stoker.nouns.record import Phase

SUSTAINED_S = 0.5
"""Seconds that requests must have been waiting before another replica is added: a burst that the
warm replicas clear in less costs nothing, and a start takes CPU from exactly those replicas."""


@dataclass(frozen=True, slots=True)
class Load:
    """Demand summed over the gateways. ``last_active`` is in the seconds of ``now``."""

    in_flight: int
    waiting: int
    last_active: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the function declares. ``permits``: requests that one replica may hold at once."""

    minimum: int
    maximum: int
    permits: int
    idle_window_s: float


@dataclass(frozen=True, slots=True)
class ScaleMemory:
    """What must be remembered between two decisions over one function.

    Attributes:
        queued_since: since when requests have been waiting without a break.
        surplus_since: since when fewer replicas would have done.
        peak: the most replicas that the load needed since then; scaling down stops there, so that
            a load that comes in waves does not flap (ray#18925).
    """

    queued_since: float | None = None
    surplus_since: float | None = None
    peak: int = 0


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """What choosing a victim looks at."""

    id: str
    phase: Phase
    in_flight: int
    created_at: float


def desired_replicas(
    load: Load,
    bounds: Bounds,
    current: int,
    memory: ScaleMemory,
    *,
    desired_zero: bool,
    now: float,
) -> tuple[int, ScaleMemory]:
    """How many replicas there should be, and what to remember until the next decision.

    Up at once, down only after the window: the count falls to the peak that the whole window
    needed. ``current`` counts starting and ready replicas, not draining ones.
    """
    needed = _needed(load, bounds)
    queued_since = _since(memory.queued_since, now) if load.waiting else None
    memory = replace(memory, queued_since=queued_since)
    if load.waiting and current == 0:
        return max(1, bounds.minimum), ScaleMemory(queued_since=now)
    if desired_zero and not (load.waiting or load.in_flight):
        return 0, ScaleMemory()
    floor = 0 if desired_zero else bounds.minimum
    if current < floor:
        return floor, memory
    if needed > current:
        sustained = queued_since is not None and now - queued_since >= SUSTAINED_S
        target = min(needed, bounds.maximum) if sustained else current
        return target, replace(memory, surplus_since=None, peak=0)
    return _down(load, bounds, needed, current, floor, memory, now)


def _needed(load: Load, bounds: Bounds) -> int:
    """Replicas that would hold all of the load at once; never none while any waits."""
    fitting = math.ceil((load.in_flight + load.waiting) / max(1, bounds.permits))
    return max(fitting, 1 if load.waiting else 0)


def _down(
    load: Load,
    bounds: Bounds,
    needed: int,
    current: int,
    floor: int,
    memory: ScaleMemory,
    now: float,
) -> tuple[int, ScaleMemory]:
    if needed >= current or current <= floor:
        return current, replace(memory, surplus_since=None, peak=0)
    since = _since(memory.surplus_since, now)
    peak = max(memory.peak, needed)
    if now - since < bounds.idle_window_s:
        return current, replace(memory, surplus_since=since, peak=peak)
    # The step to zero waits for a whole window without any request, even one that came and went
    # between two decisions; the other steps do not, or a light load would keep every replica.
    resting = now - load.last_active >= bounds.idle_window_s
    target = max(peak, floor, 0 if resting else 1)
    if target >= current:
        return current, replace(memory, surplus_since=since, peak=needed)
    return target, replace(memory, surplus_since=None, peak=0)


def _since(earlier: float | None, now: float) -> float:
    return now if earlier is None else earlier


def victims(replicas: Sequence[ReplicaFacts], surplus: int) -> tuple[str, ...]:
    """Which replicas go when ``surplus`` are too many.

    Never one with work. One that is still starting goes before a healthy one, the youngest first:
    it has served nobody yet.
    """
    idle = [r for r in replicas if r.in_flight == 0 and r.phase in (Phase.STARTING, Phase.READY)]
    idle.sort(key=lambda r: (r.phase is not Phase.STARTING, -r.created_at))
    return tuple(r.id for r in idle[: max(0, surplus)])
