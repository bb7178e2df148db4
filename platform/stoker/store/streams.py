"""Streams: shards of records, one Redis stream each, under the v3io platform's sequence numbers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from stoker.nouns.errors import BadRequest, Conflict, NotFound, QueueFull, StoreUnavailable
from stoker.nouns.near import near_names
from stoker.nouns.stream import GroupState, NewRecord, Record, ShardState, StreamSpec
from stoker.store import keys
from stoker.store.link import Link

MICROSECONDS = 1_000_000


class Streams:
    """What producers and readers without a group ask."""

    _link: Link

    async def create_stream(self, name: str, shards: int, retention_hours: int) -> StreamSpec:
        """Makes a stream.

        Raises:
            Conflict: it is there already.
        """
        spec = StreamSpec(name, shards, retention_hours, time.time())
        made = await self._link.script("stream_create", [keys.STREAMS], name, _document(spec))
        if not made:
            raise Conflict(f"the stream {name!r} exists")
        return spec

    async def grow_stream(self, name: str, shards: int) -> int:
        """Gives a stream more shards; how many it has now.

        Raises:
            NotFound: there is no such stream.
        """
        now = int(await self._link.script("stream_grow", [keys.STREAMS], name, shards))
        if not now:
            raise unknown_stream(name)
        return now

    async def delete_stream(self, name: str) -> None:
        """Forgets a stream: its records, its groups, their dead letters.

        Raises:
            NotFound: there is no such stream.
        """
        while True:
            text = await self._link.call("HGET", keys.STREAMS, name)
            if text is None:
                raise unknown_stream(name)
            spec = _spec(name, text)
            at = [keys.STREAMS]
            for shard in range(spec.shards):
                at += [keys.stream(name, shard), keys.stream_shard(name, shard)]
                state = await self.read_shard(name, shard)
                at += [keys.stream_dead(name, group) for group in state.groups]
            if await self._link.script("stream_delete", at, name, text):
                return

    async def get_stream(self, name: str) -> StreamSpec | None:
        """The stream of that name, or None."""
        text = await self._link.call("HGET", keys.STREAMS, name)
        return None if text is None else _spec(name, text)

    async def list_streams(self) -> dict[str, StreamSpec]:
        """All streams by name."""
        found = await self._link.call("HGETALL", keys.STREAMS)
        specs = (_spec(name.decode(), text) for name, text in found.items())
        return {spec.name: spec for spec in specs}

    async def put_records(self, name: str, shard: int, records: Sequence[NewRecord]) -> int:
        """Adds records to a shard, all or none; the sequence number of the first.

        Raises:
            NotFound: there is no such stream.
            BadRequest: there is no such shard.
            QueueFull: the shard is full of records that a group has not done with.
        """
        words: list[Any] = []
        for record in records:
            words += [record.data, record.key, record.info, ""]
        added = await self._link.script("stream_put", *add_words(name, shard), *words)
        return added_at(added, name, shard)

    async def read_records(
        self, name: str, shard: int, *, first: int, limit: int, most_bytes: int = 10 * 1024 * 1024
    ) -> list[Record]:
        """Records of a shard from a sequence number on; at least one if there are any.

        Those that were replayed for one group are left out: the reader has met them before.
        """
        found: list[Record] = []
        size = 0
        while len(found) < limit:
            step = min(limit - len(found), 64)
            asked = ["XRANGE", keys.stream(name, shard), f"{first}-0", "+", "COUNT", step]
            entries = await self._link.call(*asked)
            for entry, fields in entries:
                record = record_of(shard, entry, fields)
                first = record.sequence + 1
                if record.group:
                    continue
                size += len(record.data)
                if found and size > most_bytes:
                    return found
                found.append(record)
            if len(entries) < step:
                return found
        return found

    async def seek_time(self, name: str, shard: int, epoch_s: float) -> int:
        """The sequence number of the first record at or after a time; 1 past the last if none."""
        at = [keys.stream(name, shard), keys.stream_shard(name, shard)]
        return int(await self._link.script("stream_seek", at, int(epoch_s * MICROSECONDS)))

    async def read_shard(self, name: str, shard: int) -> ShardState:
        """How a shard and its groups stand."""
        at = [keys.stream(name, shard), keys.stream_shard(name, shard)]
        last, size, count, first, flat = await self._link.script("stream_state", at)
        groups = {}
        for title, pending, delivered in flat:
            group = title.decode()
            holder = await self._link.call("GET", keys.lease(keys.stream_lease(name, shard, group)))
            groups[group] = GroupState(
                name=group,
                delivered=delivered,
                pending=pending,
                lag=max(0, last - delivered),
                consumer=holder.decode() if holder else "",
            )
        return ShardState(shard, first, last, count, size, groups)


def add_words(name: str, shard: int, *more_keys: str) -> tuple[Any, ...]:
    """The keys, and the first arguments, of every script that adds records."""
    at = [keys.STREAMS, keys.stream(name, shard), keys.stream_shard(name, shard), *more_keys]
    return at, name, shard, keys.STREAM_RECORDS, keys.STREAM_BYTES, keys.BELLS


def added_at(added: Sequence[int], name: str, shard: int) -> int:
    """The sequence number that a script which adds records answered; 0 when it had none to add.

    Raises:
        NotFound: there is no such stream.
        BadRequest: there is no such shard.
        QueueFull: the shard is full of records that a group has not done with.
    """
    first = int(added[0])
    if first == -1:
        raise unknown_stream(name)
    if first == -2:
        raise BadRequest(f"the stream {name!r} has shards 0 to {added[1] - 1}, was {shard}")
    if first == -3:
        raise QueueFull(
            f"shard {shard} of the stream {name!r} is full ({keys.STREAM_RECORDS} records or "
            f"{keys.STREAM_BYTES} bytes) of what a consumer group has not done with",
            retry_after_s=1.0,
        )
    return first


def unknown_stream(name: str, known: Iterable[str] = ()) -> NotFound:
    """The refusal of a name that no stream has, with those of ``known`` that could be meant."""
    near = near_names(name, list(known))
    hint = f"; near names: {', '.join(near)}" if near else ""
    return NotFound(f"there is no stream {name!r}{hint}", near=near)


def record_of(shard: int, entry: bytes, fields: Any, tries: int | None = None) -> Record:
    """A record from its entry in Redis; ``fields`` as redis-py or as a script gives them.

    Without ``tries``, they are those that it was put with.

    Raises:
        StoreUnavailable: the entry is not one of ours.
    """
    found = (
        fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    )
    try:
        return Record(
            shard=shard,
            sequence=sequence_of(entry),
            data=found[b"d"],
            key=found[b"k"].decode(),
            info=found[b"i"],
            arrived_at=int(found[b"t"]) / MICROSECONDS,
            tries=int(found[b"x"]) if tries is None else tries,
            group=found[b"g"].decode(),
            original=int(found[b"o"]),
        )
    except (KeyError, ValueError) as error:
        raise StoreUnavailable(f"a record in Redis cannot be read: {error!r}") from error


def sequence_of(entry: bytes) -> int:
    """The sequence number in an entry's id."""
    return int(entry.partition(b"-")[0])


def entry_id(sequence: int) -> str:
    """The id of the entry with a sequence number."""
    return f"{sequence}-0"


def _document(spec: StreamSpec) -> bytes:
    return orjson.dumps(
        {
            "shards": spec.shards,
            "retention_hours": spec.retention_hours,
            "created_at": spec.created_at,
        }
    )


def _spec(name: str, text: bytes) -> StreamSpec:
    try:
        kept = orjson.loads(text)
        return StreamSpec(
            name=name,
            shards=int(kept["shards"]),
            retention_hours=int(kept["retention_hours"]),
            created_at=float(kept["created_at"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreUnavailable(f"the stream {name!r} in Redis cannot be read: {error!r}") from error
