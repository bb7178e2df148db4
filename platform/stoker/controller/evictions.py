"""Room for a replica that does not fit: carries out `stoker.decide.evict`."""

from __future__ import annotations

import math
from collections.abc import Iterator

from stoker.controller.replicas import Replicas
from stoker.controller.view import Live, Replica
from stoker.controller.world import World
from stoker.decide.evict import Resident, Room, Wait, Want, make_room
from stoker.nouns.quantity import format_bytes
from stoker.nouns.record import Phase, Revision


class Evictions:
    """Drains the replicas that must go, and keeps their bytes for whom they went."""

    def __init__(self, world: World, replicas: Replicas) -> None:
        self._world = world
        self._replicas = replicas

    def make_room(
        self, live: Live, revision: Revision, *, waiting: int, waited_s: float | None = None
    ) -> bool:
        """Asks who must go for one more replica; whether room is being made now.

        Once it is, that is remembered in the ledger, and nobody is asked twice.

        Args:
            live: whose replica does not fit now.
            revision: that it would run.
            waiting: requests that wait for it.
            waited_s: how long, in seconds; None: what the gateways say.
        """
        world = self._world
        if world.blind:
            # What was reported last says nothing of who is idle now.
            return False
        if self._is_coming(live, revision):
            return True
        want = self._want(live, revision, waiting, waited_s)
        decided = make_room(
            want, list(self._residents(live)), self._free(live, revision), world.now()
        )
        if isinstance(decided, Wait):
            return False
        world.ledger.promise(live.name, decided.devices, world.ledger.each(revision))
        self._evict(live, want, decided)
        return True

    def _is_coming(self, live: Live, revision: Revision) -> bool:
        """What it was promised is what it needs, and is there once those that leave have left."""
        ledger = self._world.ledger
        promised, each = ledger.promised(live.name), ledger.each(revision)
        free = ledger.free_for(live.name, self._leaving())
        if len(promised) == revision.config.gpus and all(
            count >= (each or ledger.capacity[device]) and free[device] >= count
            for device, count in promised.items()
        ):
            return True
        ledger.forget_promise(live.name)
        return False

    def _leaving(self) -> list[str]:
        return [replica.id for replica in self._world.replicas.values() if replica.draining]

    def _want(self, live: Live, revision: Revision, waiting: int, waited_s: float | None) -> Want:
        world, now = self._world, self._world.now()
        others = [one for one in world.functions.values() if one.no_room and one is not live]
        return Want(
            function=live.name,
            gpus=revision.config.gpus,
            each=world.ledger.each(revision) or 0,
            reload_s=live.reload_s,
            rate=live.rate.per_second(now),
            waiting=max(1, waiting),
            waited_s=live.waited_s(now) if waited_s is None else waited_s,
            behind=sum(one.waiting for one in others),
            limit_s=revision.config.readiness_s,
            first=all(replica.draining for replica in world.replicas_of(live.name)),
        )

    def _free(self, live: Live, revision: Revision) -> dict[str, int]:
        """What is or will be free; of a replica that takes its devices whole, what is missing.

        Whole devices differ in size: counted from full, each needs 0 bytes on each of them.
        """
        ledger = self._world.ledger
        free = ledger.free_for(live.name, self._leaving())
        if ledger.each(revision) is not None:
            return free
        return {device: left - ledger.capacity[device] for device, left in free.items()}

    def _residents(self, live: Live) -> Iterator[Resident]:
        """Everybody else's replicas. Its own make way by rules of their own (Recreate)."""
        for replica in self._world.replicas.values():
            other = self._world.functions.get(replica.function)
            if replica.function == live.name or other is None or replica.draining:
                continue
            yield self._resident(replica, other)

    def _resident(self, replica: Replica, live: Live) -> Resident:
        world, now = self._world, self._world.now()
        ready = [slot.ready_at for slot in replica.slots if slot.phase is Phase.READY]
        # One that was adopted or is half ready has not had its say yet.
        whole = len(ready) == len(replica.slots) and None not in ready
        staying = [one for one in world.beside_canary(live) if not one.draining]
        return Resident(
            id=replica.id,
            function=live.name,
            held=world.ledger.held(replica.id),
            reload_s=live.reload_s,
            rate=live.rate.per_second(now) / max(1, len(staying)),
            since=max(at or 0.0 for at in ready) if whole else None,
            busy=_busy(live, replica),
            pinned=live.is_trying if replica not in staying else _pinned(live, len(staying)),
        )

    def _evict(self, live: Live, want: Want, room: Room) -> None:
        world = self._world
        for identity in room.victims:
            victim = world.replicas[identity]
            owner = world.functions[victim.function]
            held = " and ".join(
                f"{format_bytes(count)} of {device}"
                for device, count in world.ledger.held(identity).items()
            )
            facts = (
                f"{held}, loads in {owner.reload_s:.1f} s, "
                f"{60 * owner.rate.per_second(world.now()):.1f} requests a minute"
            )
            world.tell(
                owner.name, f"replica {identity} is evicted for {live.name} ({facts})", "warning"
            )
            world.tell(
                live.name,
                f"{owner.name} makes room: its replica {identity} is evicted ({facts}) "
                f"after {want.waited_s:.1f} s",
            )
            # However long its requests take: they were accepted.
            self._replicas.drain(victim, patience_s=math.inf)


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
    return not live.record.desired_zero and staying <= serving.config.min_replicas
