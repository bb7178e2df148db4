"""Writes to the store, in order, none waited for, none lost while the store is away."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from stoker.controller.effects import Change
from stoker.controller.happenings import FunctionSeen, Happening
from stoker.nouns.errors import Conflict, FunctionNotFound, RecordUnreadable, StoreUnavailable
from stoker.nouns.record import FunctionRecord, ReplicaRecord
from stoker.nouns.rollout import RolloutEvent

log = logging.getLogger(__name__)

RETRY_S = 0.25


class Writes(Protocol):
    """The part of the store that the outbox writes to."""

    async def put_replica(self, record: ReplicaRecord) -> None:
        """Writes and announces a replica."""

    async def remove_replica(self, replica: str, /) -> None:
        """Removes and announces a replica."""

    async def update_function(self, name: str, change: Change) -> FunctionRecord:
        """Changes a function optimistically."""

    async def create_function(self, record: FunctionRecord) -> None:
        """Writes a new function."""

    async def add_rollout_event(self, function: str, event: RolloutEvent) -> None:
        """Appends to the history of a function's canaries."""


class Outbox:
    """The queue of writes. Replicas first: a wake waits for that one; the latest of each wins.

    Events before changes of functions: if the controller dies between the two, what it does again
    is told twice, but nothing is done that was never told.
    """

    def __init__(self, store: Writes, report: Callable[[Happening], None]) -> None:
        self._store = store
        self._report = report
        self._replicas: dict[str, ReplicaRecord | None] = {}
        self._changes: dict[str, list[Change]] = {}
        self._restores: dict[str, FunctionRecord] = {}
        self._notes: deque[tuple[str, RolloutEvent]] = deque()
        self._some = asyncio.Event()
        self._busy = False

    def put_replica(self, record: ReplicaRecord) -> None:
        """Queues the record in place of an older one."""
        self._replicas[record.id] = record
        self._some.set()

    def remove_replica(self, replica: str) -> None:
        """Queues the removal."""
        self._replicas[replica] = None
        self._some.set()

    def change_function(self, name: str, change: Change) -> None:
        """Queues the change; changes of one function are written together."""
        self._changes.setdefault(name, []).append(change)
        self._some.set()

    def restore_function(self, record: FunctionRecord) -> None:
        """Queues the return of a record that the store has lost."""
        self._restores[record.name] = record
        self._some.set()

    def note_rollout(self, function: str, event: RolloutEvent) -> None:
        """Queues an event."""
        self._notes.append((function, event))
        self._some.set()

    @property
    def is_empty(self) -> bool:
        """Everything has been written."""
        queued = self._replicas or self._changes or self._restores or self._notes
        return not (queued or self._busy)

    async def run(self) -> None:
        """Writes until cancelled; while the store is away the queue waits."""
        while True:
            await self._some.wait()
            self._some.clear()
            if not await self.flush():
                await asyncio.sleep(RETRY_S)
                self._some.set()

    async def flush(self) -> bool:
        """Writes what is queued; False when the store went away, and the rest stays queued."""
        self._busy = True
        try:
            while self._replicas or self._restores or self._notes or self._changes:
                await self._write_one()
        except StoreUnavailable as exc:
            log.debug("the store is away, the write waits: %s", exc)
            return False
        finally:
            self._busy = False
        return True

    async def _write_one(self) -> None:
        if self._replicas:
            await self._write_replica()
        elif self._restores:
            await self._restore()
        elif self._notes:
            await self._store.add_rollout_event(*self._notes[0])
            self._notes.popleft()
        else:
            await self._write_changes()

    async def _write_replica(self) -> None:
        identity, record = next(iter(self._replicas.items()))
        if record is None:
            await self._store.remove_replica(identity)
        else:
            await self._store.put_replica(record)
        if self._replicas.get(identity) is record:
            del self._replicas[identity]

    async def _restore(self) -> None:
        name, record = next(iter(self._restores.items()))
        try:
            await self._store.create_function(record)
        except Conflict:
            log.info("function %s is in the store already", name)
        self._restores.pop(name, None)

    async def _write_changes(self) -> None:
        name, changes = next(iter(self._changes.items()))
        taken = list(changes)

        def all_of_them(record: FunctionRecord) -> FunctionRecord:
            for change in taken:
                record = change(record)
            return record

        try:
            seen = await self._store.update_function(name, all_of_them)
        except FunctionNotFound:
            # That it was deleted is announced. A store that came back empty has not got it either.
            self._done(name, len(taken))
            return
        except Exception as error:
            if isinstance(error, StoreUnavailable) and not isinstance(error, RecordUnreadable):
                raise
            # Kept, it would be tried for ever, and every other function's change behind it.
            log.error("a change of function %s is dropped: %r", name, error)
            self._done(name, len(taken))
            return
        self._done(name, len(taken))
        self._report(FunctionSeen(name, seen))

    def _done(self, name: str, count: int) -> None:
        changes = self._changes[name]
        del changes[:count]
        if not changes:
            del self._changes[name]
