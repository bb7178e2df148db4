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
            live.crashes, live.give_ups = [], 0
        live.crashes = [time for time in live.crashes if now - time <= WINDOW_S] + [now]
        live.answered_at_crash = sum(live.answered.values())
        verdict = restart(live.crashes, now=now, served_since_last=served)
        summary = headline(f"worker {replica.id}.{slot.index}: {why}")
        if verdict.give_up:
            self._give_up(live, summary)
            return
        self._world.tell(
            live.name, f"{summary}; replaced in {verdict.delay_s:g} s", level="warning"
        )
        slot.restart_at = now + verdict.delay_s
        self._world.effects.put_replica(replica.record())

    def _served(self, live: Live, slot: Slot, now: float) -> bool:
        lived = slot.ready_at is not None and now - slot.ready_at >= SERVED_WELL_S
        return lived or sum(live.answered.values()) > live.answered_at_crash

    def _give_up(self, live: Live, summary: str) -> None:
        now = self._world.now()
        live.give_ups += 1
        pause = min(FIRST_BLOCK_S * 2 ** (live.give_ups - 1), LONGEST_BLOCK_S)
        live.blocked_at, live.blocked_until = now, now + pause
        live.blocked_why = (
            f"crash loop: {len(live.crashes)} crashes without a served request; last: {summary}"
        )
        live.asked_at = None
        self._world.tell(
            live.name, f"{live.blocked_why}; not tried again for {pause:g} s", level="error"
        )
        for replica in self._world.replicas_of(live.name):
            for slot in replica.slots:
                slot.restart_at = None
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
