"""What follows when a worker of the serving revision dies unasked: replacement, or giving up."""

from __future__ import annotations

from stoker.controller.headline import headline
from stoker.controller.replicas import Replicas
from stoker.controller.view import Live, Replica, Slot
from stoker.controller.world import World
from stoker.decide.restart import WINDOW_S, restart

SERVED_WELL_S = 30.0
"""A worker that was ready this long was no part of a crash loop, whatever the gateways count."""
FIRST_BLOCK_S = 10.0
LONGEST_BLOCK_S = 300.0
ALONE_S = 5.0
"""Beside siblings that are ready, one that died sooner than this is not taken for the one that
answered: they may have answered everything."""
RETRY_ON_WAKE_S = 5.0
"""A wake tries a crash loop again, but not sooner: waiting requests repeat their wakes."""


class Crashes:
    """Counts crashes and carries out `stoker.decide.restart`."""

    def __init__(self, world: World, replicas: Replicas) -> None:
        self._world = world
        self._replicas = replicas

    def of_serving(self, live: Live, replica: Replica, slot: Slot, why: str) -> None:
        """A worker of the serving revision died."""
        now = self._world.now()
        served = self._served(live, slot, now)
        if served:
            live.crashes, live.give_ups, slot.crashes = [], 0, []
        live.crashes = _recent(live.crashes, now)
        slot.crashes = _recent(slot.crashes, now)
        live.answered_at_crash = live.answered
        # Siblings that crash once each are no loop; after a give-up the replicas are new ones, and
        # the loop is the function's.
        counted = live.crashes if live.give_ups else slot.crashes
        verdict = restart(counted, now=now, served_since_last=served)
        summary = headline(f"worker {replica.id}.{slot.index}: {why}")
        if verdict.give_up:
            self._give_up(live, summary, len(counted))
            return
        self._world.tell(
            live.name, f"{summary}; replaced in {verdict.delay_s:g} s", level="warning"
        )
        slot.restart_at = now + verdict.delay_s
        self._world.effects.put_replica(replica.record())

    def _served(self, live: Live, slot: Slot, now: float) -> bool:
        if slot.ready_at is None:
            return False
        lived = now - slot.ready_at
        if lived >= SERVED_WELL_S:
            return True
        alone = not any(replica.has_ready for replica in self._world.replicas_of(live.name))
        return live.answered > live.answered_at_crash and (alone or lived >= ALONE_S)

    def _give_up(self, live: Live, summary: str, crashes: int) -> None:
        now = self._world.now()
        live.give_ups += 1
        pause = min(FIRST_BLOCK_S * 2 ** (live.give_ups - 1), LONGEST_BLOCK_S)
        live.blocked_at, live.blocked_until = now, now + pause
        live.blocked_why = (
            f"crash loop: {crashes} crashes without a served request; last: {summary}"
        )
        live.asked_at = None
        self._world.tell(
            live.name, f"{live.blocked_why}; not tried again for {pause:g} s", level="error"
        )
        for replica in self._world.beside_canary(live):
            # What still runs keeps the replica, and nobody but this fills its dead places again.
            stays = not replica.draining and any(slot.running for slot in replica.slots)
            again = live.blocked_until if stays else None
            for slot in replica.slots:
                slot.restart_at = None if slot.running else again
            if replica.is_empty:
                self._replicas.remove(replica)
            else:
                self._world.effects.put_replica(replica.record())

    def is_blocked(self, live: Live) -> bool:
        """Nothing of it may be started now."""
        return live.blocked_until is not None and self._world.now() < live.blocked_until

    def wake(self, live: Live) -> bool:
        """Somebody asks for it: whether a try may begin."""
        if self.is_blocked(live) and self._world.now() - live.blocked_at < RETRY_ON_WAKE_S:
            return False
        live.blocked_until = None
        return True

    @staticmethod
    def forgive(live: Live) -> None:
        """A new revision serves: its predecessor's crashes say nothing about it."""
        live.crashes, live.give_ups, live.blocked_until, live.blocked_why = [], 0, None, ""


def _recent(crashes: list[float], now: float) -> list[float]:
    """The crashes that still count, with the one of now."""
    return [time for time in crashes if now - time <= WINDOW_S] + [now]
