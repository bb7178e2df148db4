"""What the autoscaler is told about a lane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stoker.nouns.record import Demand

if TYPE_CHECKING:
    from stoker.sdk.routing.lane import Lane


def demand_of(lane: Lane, now: float, epoch_offset: float) -> Demand:
    """How a lane stands at ``now`` (CLOCK_MONOTONIC seconds).

    Args:
        lane: whose demand.
        now: CLOCK_MONOTONIC, seconds.
        epoch_offset: turns that clock into epoch seconds when it is added.
    """
    heads = [link.kept[0] for link in lane.links.values() if link.kept]
    heads += [lane.room[0]] if lane.room else []
    oldest = now - min((call.arrived for call in heads), default=now)
    held = _by_replica(lane)
    return Demand(
        in_flight=sum(held.values()),
        waiting=len(lane.room) + sum(len(link.kept) for link in lane.links.values()),
        oldest_wait_s=max(0.0, oldest),
        arrivals=lane.arrivals,
        last_active=lane.last_active + epoch_offset if lane.last_active else 0.0,
        answered=lane.answered,
        by_replica=held,
        tally=lane.trial.tally() if lane.trial is not None else None,
    )


def _by_replica(lane: Lane) -> dict[str, int]:
    held: dict[str, int] = {}
    for link in lane.links.values():
        # A worker that owes acknowledgements is at work, if only as one request would be.
        busy = len(link.streams) or (1 if link.debtors else 0)
        if busy:
            held[link.replica] = held.get(link.replica, 0) + busy
    return held
