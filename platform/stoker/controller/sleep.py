"""Putting replicas to sleep and waking them: frames to workers, and the ledger's bytes."""

from __future__ import annotations

from collections.abc import Mapping

from stoker.controller.view import Replica
from stoker.controller.world import World
from stoker.decide.lifecycle import Signal
from stoker.decide.rest import Pinned, residue
from stoker.nouns.quantity import format_bytes
from stoker.nouns.record import Phase, Revision


class Sleep:
    """The verbs over replicas that can leave their device and stay alive."""

    def __init__(self, world: World) -> None:
        self._world = world

    def ask(self, replica: Replica) -> None:
        """Asks every worker that is ready; one that has work meanwhile stays awake."""
        for slot in replica.slots:
            if slot.running and slot.phase is Phase.READY:
                self._world.effects.sleep_worker(replica.id, slot.index)

    def residue(
        self, replica: Replica, seen: Mapping[str, Mapping[int, int]] | None = None
    ) -> dict[str, int]:
        """Bytes by device that it holds, or would hold, asleep.

        Args:
            replica: the replica.
            seen: what processes were measured to hold, by device and pid; None: not yet.
        """
        ledger = self._world.ledger
        workers = [Pinned(slot.pid, slot.devices) for slot in replica.slots if slot.running]
        contexts = {device: ledger.context(device) for device in replica.devices}
        return residue(workers, contexts, replica.device_bytes, seen or {})

    def weigh(self) -> None:
        """Takes what sleepers were measured to hold into the ledger."""
        seen = {name: dict(device.use.by_session) for name, device in self._world.devices.items()}
        for replica in self._world.replicas.values():
            if replica.asleep and replica.slept_at is not None:
                self._world.ledger.keep(replica.id, self.residue(replica, seen))

    def fell_asleep(self, replica: Replica) -> None:
        """A worker told so. The bytes are free once all of them have left the device."""
        if not replica.asleep or replica.slept_at is not None:
            return
        world = self._world
        replica.slept_at = world.now()
        replica.slept_early = replica.making_room_since is not None
        replica.making_room_since = None
        held = sum(world.ledger.held(replica.id).values())
        world.ledger.keep(replica.id, self.residue(replica))
        world.freed = True
        kept = sum(world.ledger.held(replica.id).values())
        if replica.device_bytes:
            left = f"; its processes keep {format_bytes(kept)}" if kept else ""
            freed = f"{format_bytes(held - kept)} are free{left}"
            world.tell(replica.function, f"replica {replica.id} sleeps: {freed}")
        world.effects.put_replica(replica.record())

    def stayed_awake(self, replica: Replica) -> None:
        """A worker had work when it was asked: whoever waits for its bytes looks elsewhere."""
        replica.making_room_since = None

    def wake(self, replica: Replica, revision: Revision) -> bool:
        """Brings its workers back, if their devices have the room for this revision again.

        They are pinned to these devices for life: elsewhere a new replica must start.
        """
        world, name = self._world, replica.function
        if replica.slept_at is not None:
            if replica.devices:
                each = world.ledger.room_on(replica.devices, revision, name, replica.id)
                if each is None:
                    return False
                replica.device_bytes = each
                world.ledger.take(replica.id, replica.devices, each)
            world.ledger.forget_promise(name)
            replica.slept_at = None
            replica.was_ready = False  # so that this wake is measured as well
        for slot in replica.slots:
            if slot.running and slot.phase is Phase.ASLEEP:
                slot.move(Signal.WAKE)
                slot.roused_at = world.now()
                slot.deadline = world.now() + revision.config.readiness_s
                world.effects.wake_worker(replica.id, slot.index)
        world.effects.put_replica(replica.record())
        return True
