"""What becomes of replicas when devices fill up, fall off the bus and come back."""

from __future__ import annotations

import logging

from stoker.controller.happenings import DevicesSeen
from stoker.controller.replicas import Replicas
from stoker.controller.sleep import Sleep
from stoker.controller.view import Replica
from stoker.controller.world import World
from stoker.decide.foreign import foreign_bytes
from stoker.nouns.device import DeviceKind, DeviceSeen

log = logging.getLogger(__name__)


class Cards:
    """Takes what was seen of the devices into the ledger. What others hold ends nobody."""

    def __init__(self, world: World, replicas: Replicas, sleep: Sleep) -> None:
        self._world = world
        self._replicas = replicas
        self._sleep = sleep

    def seen(self, event: DevicesSeen) -> list[str]:
        """The functions that may have to move."""
        world = self._world
        before = world.ledger.lost
        present = {seen.device.id: seen for seen in event.seen}
        world.devices.update(present)
        self._sleep.weigh()
        world.ledger.see(
            {name: seen.device.total_bytes for name, seen in present.items()},
            {name: self._foreign(seen) for name, seen in present.items()},
            {
                name: seen.device.context_bytes
                for name, seen in present.items()
                if seen.device.context_bytes is not None
            },
            [name for name, seen in present.items() if seen.device.kind is DeviceKind.MIG],
        )
        for name in sorted(world.ledger.lost - before):
            log.error("device %s is lost", name)
        for name in sorted(before - world.ledger.lost):
            log.warning("device %s is back", name)
        return [self._leave(replica) for replica in self._stranded(set(present))]

    def _foreign(self, seen: DeviceSeen) -> int:
        ours = {slot.pid for _, slot in self._world.slots() if slot.pid}
        promised = self._world.ledger.used().get(seen.device.id, 0)
        return foreign_bytes(seen.use, ours, promised)

    def _stranded(self, present: set[str]) -> list[Replica]:
        """Those with a device that is gone, and that nobody has ended for it yet."""
        return [
            replica
            for replica in self._world.replicas.values()
            if not replica.stranded and not present.issuperset(replica.devices)
        ]

    def _leave(self, replica: Replica) -> str:
        """Nothing can be waited for: its processes may hang in the driver."""
        replica.stranded = True
        lost = sorted(set(replica.devices) & self._world.ledger.lost) or list(replica.devices)
        why = f"device {', '.join(lost)} is lost"
        entry = self._world.logged(f"{why}: replica {replica.id} leaves it at once", "error")
        self._world.change(replica.function, entry, stamped=False)
        for slot in replica.slots:
            if slot.running:
                told = f"the worker is ended: {why}"
                self._world.effects.log_worker(replica.record(), slot.index, "error", told)
        self._replicas.kill(replica)
        return replica.function
