"""Room for a replica that does not fit: carries out `stoker.decide.evict`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from stoker.controller.replicas import Replicas
from stoker.controller.sleep import Sleep
from stoker.controller.view import Live, Replica
from stoker.controller.world import World
from stoker.decide.evict import Resident, Room, Wait, Want, make_room
from stoker.nouns.quantity import format_bytes
from stoker.nouns.record import Phase, Revision

OFFLOAD_S = 30.0
"""Seconds that weights may take from a device to the host: tens of GiB, by the slowest bus."""


class Evictions:
    """Ends the replicas that must go, or has them sleep, and keeps their bytes for whom they go."""

    def __init__(self, world: World, replicas: Replicas, sleep: Sleep) -> None:
        self._world = world
        self._replicas = replicas
        self._sleep = sleep

    def make_room(
        self,
        live: Live,
        revision: Revision,
        *,
        waiting: int,
        waited_s: float | None = None,
        sleeper: Replica | None = None,
    ) -> bool:
        """Asks who must go for one more replica; whether room is being made now.

        Once it is, that is remembered in the ledger, and nobody is asked twice.

        Args:
            live: whose replica does not fit now.
            revision: that it would run.
            waiting: requests that wait for it.
            waited_s: how long, in seconds; None: what the gateways say.
            sleeper: a replica of its own that sleeps and has no room to wake: it would come back,
                or go, so that its bytes are not in the way.
        """
        world = self._world
        if world.blind:
            # What was reported last says nothing of who is idle now.
            return False
        coming = list(self._coming(sleeper))
        if self._is_coming(live, revision, coming):
            return True
        want = self._want(live, revision, waiting, waited_s, sleeper)
        free = self._free(live, revision, coming)
        decided = make_room(want, list(self._residents(live)), free, world.now())
        if isinstance(decided, Wait):
            return False
        world.ledger.promise(live.name, decided.devices, world.ledger.each(revision))
        self._evict(live, want, decided)
        return True

    def _is_coming(self, live: Live, revision: Revision, coming: list[Mapping[str, int]]) -> bool:
        """What it was promised is what it needs, and is there once those that leave have left."""
        ledger = self._world.ledger
        promised, each = ledger.promised(live.name), ledger.each(revision)
        free = self._free(live, revision, coming)
        # Of whole devices nothing more is missing; of others there is what is needed. A device
        # that was lost meanwhile has nothing.
        if len(promised) == revision.config.gpus and all(
            count >= (each or ledger.capacity[device]) and free.get(device, -1) >= (each or 0)
            for device, count in promised.items()
        ):
            return True
        ledger.forget_promise(live.name)
        return False

    def _coming(self, sleeper: Replica | None) -> Iterator[Mapping[str, int]]:
        """Bytes by device that are on their way back."""
        held = self._world.ledger.held
        for replica in self._world.replicas.values():
            if replica.draining or replica is sleeper:
                yield held(replica.id)
            elif self._is_falling_asleep(replica):
                kept = self._sleep.residue(replica)
                yield {
                    device: count - kept.get(device, 0)
                    for device, count in held(replica.id).items()
                }

    def _is_falling_asleep(self, replica: Replica) -> bool:
        """It was asked to, for somebody's sake; one with work will not."""
        live, since = self._world.functions.get(replica.function), replica.making_room_since
        if live is None or since is None or _busy(live, replica):
            return False
        return self._world.now() - since < OFFLOAD_S

    def _want(
        self,
        live: Live,
        revision: Revision,
        waiting: int,
        waited_s: float | None,
        sleeper: Replica | None,
    ) -> Want:
        world, now = self._world, self._world.now()
        others = [one for one in world.functions.values() if one.no_room and one is not live]
        return Want(
            function=live.name,
            gpus=revision.config.gpus,
            each=world.ledger.each(revision) or 0,
            reload_s=live.rouse_s if sleeper else live.reload_s,
            rate=live.rate.per_second(now),
            waiting=max(1, waiting),
            waited_s=live.waited_s(now) if waited_s is None else waited_s,
            behind=sum(one.waiting for one in others),
            limit_s=revision.config.readiness_s,
            # A canary's replicas take none of those who wait.
            first=all(one.draining or one.asleep for one in world.beside_canary(live)),
        )

    def _free(
        self, live: Live, revision: Revision, coming: list[Mapping[str, int]]
    ) -> dict[str, int]:
        """What is or will be free; of a replica that takes its devices whole, what is missing.

        Whole devices differ in size: counted from full, each needs 0 bytes on each of them.
        """
        ledger = self._world.ledger
        if ledger.each(revision) is not None:
            return ledger.usable(revision, ledger.free_for(live.name, coming))
        return ledger.usable(revision, ledger.uncleared(live.name, coming))

    def _residents(self, live: Live) -> Iterator[Resident]:
        """Everybody else's replicas. Its own make way by rules of their own (Recreate)."""
        for replica in self._world.replicas.values():
            other = self._world.functions.get(replica.function)
            going = replica.draining or self._is_falling_asleep(replica)
            if replica.function == live.name or other is None or going:
                continue
            if replica.asleep:
                yield self._asleep(replica, other)
            else:
                yield self._resident(replica, other)

    def _asleep(self, replica: Replica, live: Live) -> Resident:
        """One of those that would wake first, if it is asked for."""
        world = self._world
        staying = [one for one in world.beside_canary(live) if not one.draining]
        return Resident(
            id=replica.id,
            function=live.name,
            held=world.ledger.held(replica.id),
            reload_s=live.reload_s,
            rouse_s=live.rouse_s,
            rate=live.rate.per_second(world.now()) / max(1, len(staying)),
            since=replica.slept_at,
            busy=bool(live.waiting),
            pinned=live.is_trying if replica not in staying else _pinned(live, len(staying)),
            asleep=True,
        )

    def _resident(self, replica: Replica, live: Live) -> Resident:
        world, now = self._world, self._world.now()
        ready = [slot.ready_at for slot in replica.slots if slot.phase is Phase.READY]
        # One that was adopted or is half ready has not had its say yet.
        whole = len(ready) == len(replica.slots) and None not in ready
        staying = [one for one in world.beside_canary(live) if not one.draining]
        awake = [one for one in staying if not one.asleep]
        return Resident(
            id=replica.id,
            function=live.name,
            held=world.ledger.held(replica.id),
            reload_s=live.reload_s,
            rouse_s=live.rouse_s,
            rate=live.rate.per_second(now) / max(1, len(awake)),
            since=max(at or 0.0 for at in ready) if whole else None,
            busy=_busy(live, replica),
            pinned=live.is_trying if replica not in staying else _pinned(live, len(staying)),
            rest=self._sleep.residue(replica) if self._sleeps(replica, live) else None,
        )

    def _sleeps(self, replica: Replica, live: Live) -> bool:
        """Its function wants it to sleep rather than end, and its workers can.

        A canary's never: no request waits for it, so that nothing would wake it.
        """
        if replica in self._world.canary_replicas(live):
            return False
        revision = self._world.revision(replica)
        declared = revision is not None and revision.config.sleep_after_s is not None
        # One that was asked, has no work and is awake all the same is asked no more: it hangs.
        return declared and replica.can_sleep and replica.making_room_since is None

    def _evict(self, live: Live, want: Want, room: Room) -> None:
        for identity in room.victims:
            victim = self._world.replicas[identity]
            self._tell(live, want, victim, "is evicted")
            # However long its requests take: they were accepted.
            self._replicas.drain(victim, patience_s=math.inf)
        for identity in room.sleepers:
            victim = self._world.replicas[identity]
            self._tell(live, want, victim, "is put to sleep")
            victim.making_room_since = self._world.now()
            self._sleep.ask(victim)

    def _tell(self, live: Live, want: Want, victim: Replica, what: str) -> None:
        """In the logs of both functions."""
        world = self._world
        owner = world.functions[victim.function]
        held = " and ".join(
            f"{format_bytes(count)} of {device}"
            for device, count in world.ledger.held(victim.id).items()
        )
        facts = (
            f"{held}, loads in {owner.reload_s:.1f} s, "
            f"{60 * owner.rate.per_second(world.now()):.1f} requests a minute"
        )
        world.tell(owner.name, f"replica {victim.id} {what} for {live.name} ({facts})", "warning")
        world.tell(
            live.name,
            f"{owner.name} makes room: its replica {victim.id} {what} ({facts}) "
            f"after {want.waited_s:.1f} s",
        )


def _busy(live: Live, replica: Replica) -> bool:
    """It has work, or its function has some of which nobody knows where it is."""
    by_replica = live.in_flight_by_replica()
    in_flight = sum(demand.in_flight for demand in live.demand.values())
    unknown = sum(by_replica.values()) < in_flight
    return bool(by_replica.get(replica.id) or unknown or live.waiting)


def _pinned(live: Live, staying: int) -> bool:
    """Its user wants so many of it at all times, or a deployment is busy with it."""
    serving = live.record.serving
    if serving is None or live.rollout is not None or live.deleted:
        return True
    return needed(live, staying)


def needed(live: Live, staying: int) -> bool:
    """Its user wants so many of it at all times."""
    serving = live.record.serving
    if serving is None or live.record.desired_zero:
        return False
    return staying <= serving.config.min_replicas
