"""Streams in memory, with what a gateway asks of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stoker.nouns.errors import StoreUnavailable
from stoker.nouns.stream import DeadLetter, Record, StreamSpec, Taken
from stoker.store.stream_groups import NoSuchGroup

Place = tuple[str, int, str]


@dataclass
class Group:
    """One consumer group in one shard: what was handed out last, and what is pending."""

    cursor: int = 0
    pending: dict[int, int] = field(default_factory=dict)


class FakeStreams:
    """Part of the fake store; ``available`` is its switch."""

    available: bool

    def __init__(self) -> None:
        self.specs: dict[str, StreamSpec] = {}
        self.records: dict[tuple[str, int], list[Record]] = {}
        self.groups: dict[Place, Group] = {}
        self.leases: dict[str, str] = {}
        self.dead: list[DeadLetter] = []
        self.bell: asyncio.Queue[tuple[str, int] | None] = asyncio.Queue()
        self.gateways: set[str] = set()
        self.changed = asyncio.Event()

    def _reach(self) -> None:
        if not self.available:
            raise StoreUnavailable("Redis is away")

    # -- what tests do

    def make_stream(self, name: str, shards: int = 1) -> None:
        self.specs[name] = StreamSpec(name, shards, 24, 0.0)
        for shard in range(shards):
            self.records.setdefault((name, shard), [])

    def put(self, name: str, *texts: str, shard: int = 0) -> None:
        kept = self.records[name, shard]
        for text in texts:
            kept.append(Record(shard, len(kept) + 1, text.encode(), "", b"", time.time()))
        self.bell.put_nowait((name, shard))

    def held(self, name: str, group: str = "g", shard: int = 0) -> dict[int, int]:
        """What a group holds unacknowledged: sequence number → number of the try."""
        return self.groups[name, shard, group].pending

    # -- what gateways ask

    async def list_streams(self) -> dict[str, StreamSpec]:
        self._reach()
        return dict(self.specs)

    async def list_gateways(self) -> set[str]:
        self._reach()
        return set(self.gateways)

    async def subscribe(self, name: str, shards: int, group: str, *, from_start: bool) -> None:
        self._reach()
        for shard in range(shards):
            cursor = 0 if from_start else len(self.records[name, shard])
            self.groups.setdefault((name, shard, group), Group(cursor))

    async def hold_leases(self, owners: Mapping[str, str], ttl_s: float) -> dict[str, bool]:
        self._reach()
        return {
            name: self.leases.setdefault(name, owner) == owner for name, owner in owners.items()
        }

    async def release_lease(self, name: str, owner: str) -> None:
        self._reach()
        if self.leases.get(name) == owner:
            del self.leases[name]

    async def bells(self) -> AsyncIterator[tuple[str, int] | None]:
        yield None
        while True:
            yield await self.bell.get()

    async def take_records(
        self, name: str, shard: int, group: str, *, owner: str, limit: int
    ) -> Taken | None:
        self._reach()
        if self.leases.get(f"stream:{name}:{shard}:{group}") != owner:
            return None
        state = self.groups.get((name, shard, group))
        if state is None:
            raise NoSuchGroup("no such group")
        kept = self.records[name, shard]
        taken = kept[state.cursor : state.cursor + limit]
        state.cursor += len(taken)
        state.pending |= {record.sequence: record.tries for record in taken}
        return Taken(list(taken), len(kept))

    async def pending_records(
        self, name: str, shard: int, group: str, *, first: int = 0, limit: int = 128
    ) -> tuple[list[Record], int | None]:
        self._reach()
        state = self.groups.get((name, shard, group))
        if state is None:
            raise NoSuchGroup("no such group")
        kept = self.records[name, shard]
        held = sorted(n for n in state.pending if n >= first)[:limit]
        return [replace(kept[n - 1], tries=state.pending[n]) for n in held], None

    async def ack_records(self, name: str, shard: int, group: str, done: Sequence[int]) -> None:
        self._reach()
        for sequence in done:
            self.groups[name, shard, group].pending.pop(sequence, None)
        self.changed.set()

    async def note_tries(self, name: str, shard: int, group: str, tries: Mapping[int, int]) -> None:
        self._reach()
        pending = self.groups[name, shard, group].pending
        pending |= {n: number for n, number in tries.items() if n in pending}
        self.changed.set()

    async def requeue_record(self, name: str, group: str, record: Record) -> int:
        self._reach()
        kept = self.records[name, record.shard]
        if self.groups[name, record.shard, group].pending.pop(record.sequence, None) is None:
            return 0
        original = record.original or record.sequence
        copy = replace(record, sequence=len(kept) + 1, group=group, original=original)
        kept.append(copy)
        self.changed.set()
        return copy.sequence

    async def bury_record(
        self, name: str, group: str, record: Record, *, reason: str, function: str
    ) -> bool:
        self._reach()
        if self.groups[name, record.shard, group].pending.pop(record.sequence, None) is None:
            return False
        self.dead.append(DeadLetter(str(len(self.dead)), record, reason, 0.0, function))
        self.changed.set()
        return True
