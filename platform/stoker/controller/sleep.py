"""Putting replicas to sleep and waking them: frames to workers, and the ledger's bytes."""

from __future__ import annotations

from stoker.controller.view import Replica
from stoker.controller.world import World
from stoker.decide.lifecycle import Signal
from stoker.nouns.quantity import format_bytes
from stoker.nouns.record import Phase


class Sleep:
    """The verbs over replicas that can leave their device and stay alive."""

    def __init__(self, world: World) -> None:
        self._world = world

    def ask(self, replica: Replica) -> None:
        """Asks every worker that is ready; one that has work meanwhile stays awake."""
        for slot in replica.slots:
            if slot.running and slot.phase is Phase.READY:
                self._world.effects.sleep_worker(replica.id, slot.index)

    def fell_asleep(self, replica: Replica) -> None:
        """A worker told so. The bytes are free once all of them have left the device."""
        if not replica.asleep or replica.slept_at is not None:
            return
        replica.slept_at = self._world.now()
        self._world.ledger.give_back(replica.id)
        self._world.freed = True
        if replica.device_bytes:
            freed = format_bytes(replica.device_bytes * len(replica.devices))
            self._world.tell(replica.function, f"replica {replica.id} sleeps: {freed} are free")
        self._world.effects.put_replica(replica.record())

    def wake(self, replica: Replica) -> bool:
        """Brings its workers back, if their devices have the room again.

        They are pinned to these devices for life: elsewhere a new replica must start.
        """
        world = self._world
        if replica.slept_at is not None:
            ledger, name = world.ledger, replica.function
            if not ledger.has_room(name, replica.devices, replica.device_bytes):
                return False
            ledger.take(replica.id, replica.devices, replica.device_bytes)
            ledger.forget_promise(name)
            replica.slept_at = None
            replica.was_ready = False  # so that this wake is measured as well
        revision = world.revision(replica)
        for slot in replica.slots:
            if slot.running and slot.phase is Phase.ASLEEP:
                slot.move(Signal.WAKE)
                slot.deadline = world.now() + (revision.config.readiness_s if revision else 0.0)
                world.effects.wake_worker(replica.id, slot.index)
        world.effects.put_replica(replica.record())
        return True
