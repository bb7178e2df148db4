"""What the parts of the reconciler share: the view, the ledger, the clock and the verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from stoker.controller.effects import Change, Clock, Effects
from stoker.controller.launching import new_replica_id
from stoker.controller.ledger import Ledger
from stoker.controller.settings import ControllerSettings
from stoker.controller.view import Live, Replica, Slot
from stoker.nouns.device import DeviceSeen
from stoker.nouns.function import FunctionConfig
from stoker.nouns.home import Home
from stoker.nouns.record import FunctionRecord, LogEntry, Revision

LOG_LINES = 2000
"""Lines of a deploy log that a record keeps; the oldest go, since the end says what went wrong."""


@dataclass(slots=True)
class World:
    """The controller's knowledge and its hands. Single writer: the reconciler."""

    effects: Effects
    clock: Clock
    settings: ControllerSettings
    home: Home
    ledger: Ledger
    new_id: Callable[[str, str], str] = new_replica_id
    functions: dict[str, Live] = field(default_factory=dict)
    replicas: dict[str, Replica] = field(default_factory=dict)
    devices: dict[str, DeviceSeen] = field(default_factory=dict)
    """As each was last seen; one that the ledger calls lost is there no more."""
    freed: bool = False
    """A replica's bytes came back: who waits for some has not looked yet."""
    blind: bool = False
    """The store is away: the demand in the view is old, and no reason to end anything."""

    def now(self) -> float:
        """Monotonic seconds."""
        return self.clock.monotonic()

    def replicas_of(self, function: str, revision: int | None = None) -> list[Replica]:
        """The function's replicas, draining ones included."""
        return [
            replica
            for replica in self.replicas.values()
            if replica.function == function and revision in (None, replica.revision)
        ]

    def computes_on(self, config: FunctionConfig) -> str:
        """The kind of device that a function's workers get: ``cpu``, or ``cuda:9.0``.

        What asks for none, and what is pinned to a simulated one, computes on the CPU.
        """
        cards = [seen.device.capability for seen in self.devices.values() if config.gpus]
        known = min((card for card in cards if card), default=None)
        return f"cuda:{known[0]}.{known[1]}" if known else "cpu"

    def slots(self) -> Iterator[tuple[Replica, Slot]]:
        """Every worker's place."""
        for replica in list(self.replicas.values()):
            for slot in replica.slots:
                yield replica, slot

    def slot(self, replica: str, index: int) -> tuple[Replica, Slot] | None:
        """One worker's place."""
        found = self.replicas.get(replica)
        if found is None or not 0 <= index < len(found.slots):
            return None
        return found, found.slots[index]

    def revision(self, replica: Replica) -> Revision | None:
        """The revision that the replica runs, while its function's record holds it."""
        live = self.functions.get(replica.function)
        if live is None:
            return None
        for revision in live.record.revisions:
            if revision.number == replica.revision:
                return revision
        return None

    def canary_replicas(self, live: Live) -> list[Replica]:
        """The replicas, draining ones included, of the canary that there is."""
        canary = live.record.canary
        return self.replicas_of(live.name, canary.revision.number) if canary else []

    def beside_canary(self, live: Live) -> list[Replica]:
        """The function's replicas, draining ones included, but those of a canary."""
        tried = self.canary_replicas(live)
        return [replica for replica in self.replicas_of(live.name) if replica not in tried]

    @staticmethod
    def awaits_room(live: Live) -> bool:
        """A candidate or a canary of it may have been promised the bytes that others give up."""
        watch = live.watch
        return live.rollout is not None or (watch is not None and watch.no_room_at is not None)

    def change(self, name: str, change: Change, *, stamped: bool = True) -> None:
        """Changes the stored record and stamps it, when there is anything to change.

        What was meant for a function that was deleted never reaches its namesake.

        Args:
            name: the function's.
            change: gives back the record itself where nothing is to be done.
            stamped: False for what says nothing of the function's state: the stamp dates that, and
                a failure that was there before an ask must not look as if it came after.
        """
        stamp = self.clock.epoch()
        live = self.functions.get(name)

        def guarded(record: FunctionRecord) -> FunctionRecord:
            if live is not None and record.created_at != live.record.created_at:
                return record
            changed = change(record)
            if changed is record or not stamped:
                return changed
            return changed.model_copy(update={"updated_at": stamp})

        self.effects.change_function(name, guarded)

    def tell(self, name: str, message: str, level: str = "info") -> None:
        """One line into the function's deploy log."""
        self.change(name, self.logged(message, level))

    def logged(self, line: str, level: str = "info", **updates: Any) -> Change:
        """A change that sets fields and appends a line to the deploy log."""
        entry = LogEntry(time=self.clock.epoch() * 1000, level=level, message=line)
        return lambda record: append_logs(record.model_copy(update=updates), (entry,))


def append_logs(record: FunctionRecord, entries: tuple[LogEntry, ...]) -> FunctionRecord:
    """The record with more lines, the oldest dropped past `LOG_LINES`."""
    return record.model_copy(update={"logs": (*record.logs, *entries)[-LOG_LINES:]})


def if_candidate(number: int, change: Change) -> Change:
    """The change, only while that candidate is still the one: a newer deployment wins."""

    def guarded(record: FunctionRecord) -> FunctionRecord:
        if record.candidate is None or record.candidate.number != number:
            return record
        return change(record)

    return guarded
