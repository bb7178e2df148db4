"""Consumer groups of streams: what they were given, what they gave up, what they read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stoker.nouns.errors import NotFound
from stoker.nouns.stream import DeadLetter, Record, Taken
from stoker.store import keys
from stoker.store.link import Link
from stoker.store.streams import MICROSECONDS, add_words, added_at, entry_id, record_of, sequence_of

PENDING_STEP = 128
"""Pending records read at once."""
STEP_BYTES = 8 * 1024 * 1024
"""Bytes of records read at once, about: more of them would not fit a call's time, and a call that
fails for that fails again each time it is tried."""


class NoSuchGroup(NotFound):
    """The group is not there: it was never made, or Redis came back empty."""


class StreamGroups:
    """What consumers ask. Delivery counts are the number of the try: 1 is the first."""

    _link: Link

    async def subscribe(self, name: str, shards: int, group: str, *, from_start: bool) -> None:
        """Makes a group in the shards that lack it.

        Args:
            name: the stream.
            shards: how many it has.
            group: the group's name.
            from_start: whether a new group begins with the first record, not after the last.
        """
        at = [keys.stream(name, shard) for shard in range(shards)]
        await self._link.script("stream_subscribe", at, group, "0" if from_start else "$")

    async def forget_group(self, name: str, shards: int, group: str) -> int:
        """Forgets a group, what it held and its dead letters; how many these were.

        Whoever reads in that group makes it anew.

        Raises:
            NoSuchGroup: no shard has it.
        """
        at = [*_dead_keys(name, group), *(keys.stream(name, one) for one in range(shards))]
        dead = int(await self._link.script("stream_forget", at, group))
        if dead < 0:
            raise NoSuchGroup(f"the stream {name!r} has no consumer group {group!r}")
        return dead

    async def hold_leases(self, owners: Mapping[str, str], ttl_s: float) -> dict[str, bool]:
        """Takes or renews leases, each for its owner; which of them are held."""
        if not owners:
            return {}
        at = [keys.lease(name) for name in owners]
        milliseconds = max(1, int(ttl_s * 1000))
        held = await self._link.script("leases_hold", at, milliseconds, *owners.values())
        return {name: bool(one) for name, one in zip(owners, held, strict=True)}

    async def take_records(
        self, name: str, shard: int, group: str, *, owner: str, limit: int
    ) -> Taken | None:
        """The next records for a group, of about `STEP_BYTES`; None: the lease is not ``owner``'s.

        Raises:
            NoSuchGroup: see `subscribe`.
        """
        at = [
            keys.lease(keys.stream_lease(name, shard, group)),
            keys.stream(name, shard),
            keys.stream_shard(name, shard),
        ]
        ttl = int(keys.STREAM_LEASE_TTL_S * 1000)
        state, *rest = await self._link.script(
            "stream_take", at, owner, ttl, group, keys.STREAM_CONSUMER, limit, STEP_BYTES
        )
        if state == 0:
            return None
        if state < 0:
            raise NoSuchGroup(f"the stream {name!r} has no consumer group {group!r}")
        last, entries = rest
        return Taken([record_of(shard, entry, fields) for entry, fields in entries], last)

    async def pending_records(
        self, name: str, shard: int, group: str, *, first: int = 0, limit: int = PENDING_STEP
    ) -> tuple[list[Record], int | None]:
        """What a group holds unacknowledged, and where to go on; None after the last.

        At once come about `STEP_BYTES` at most. Records that retention has taken are pending no
        more, and left out.

        Raises:
            NoSuchGroup: see `subscribe`.
        """
        at = [keys.stream(name, shard)]
        more, *rest = await self._link.script(
            "stream_pending", at, group, entry_id(first), limit, STEP_BYTES
        )
        if more < 0:
            raise NoSuchGroup(f"the stream {name!r} has no consumer group {group!r}")
        (found,) = rest
        records = [
            record_of(shard, entry, fields, tries) for entry, tries, fields in found if fields
        ]
        return records, sequence_of(found[-1][0]) + 1 if more else None

    async def ack_records(self, name: str, shard: int, group: str, done: Sequence[int]) -> None:
        """Takes records off what the group holds, by sequence number."""
        if done:
            words = [entry_id(sequence) for sequence in done]
            await self._link.call("XACK", keys.stream(name, shard), group, *words)

    async def note_tries(self, name: str, shard: int, group: str, tries: Mapping[int, int]) -> None:
        """Notes which try of each record (by sequence number) comes next."""
        words: list[str | int] = []
        for sequence, number in tries.items():
            words += [entry_id(sequence), number]
        if words:
            at = [keys.stream(name, shard)]
            await self._link.script("stream_tries", at, group, keys.STREAM_CONSUMER, *words)

    async def requeue_record(self, name: str, group: str, record: Record) -> int:
        """Moves a record that a group holds to the end of its shard, its number of tries with it.

        Whoever acknowledges by offsets must be given ever larger ones. 0 if it is not held.

        Raises:
            NotFound: there is no such stream.
            QueueFull: the shard is full.
        """
        words = add_words(name, record.shard)
        original = record.original or record.sequence
        moved = await self._link.script(
            "stream_requeue", *words, group, entry_id(record.sequence), record.tries, original
        )
        return added_at(moved, name, record.shard)

    async def bury_record(
        self, name: str, group: str, record: Record, *, reason: str, function: str
    ) -> bool:
        """Moves a record that was given up to the dead letters; False if it was not pending."""
        at = [keys.stream(name, record.shard), *_dead_keys(name, group)]
        most = keys.DEAD_LETTERS, keys.DEAD_BYTES
        fields = {
            "s": record.shard,
            "n": record.original or record.sequence,
            "t": int(record.arrived_at * MICROSECONDS),
            "d": record.data,
            "k": record.key,
            "i": record.info,
            "x": record.tries,
            "r": reason,
            "f": function,
        }
        words = [word for pair in fields.items() for word in pair]
        return bool(
            await self._link.script(
                "stream_bury", at, group, entry_id(record.sequence), *most, *words
            )
        )

    async def count_dead(self, name: str, group: str) -> int:
        """How many records a group has given up."""
        return int(await self._link.call("XLEN", keys.stream_dead(name, group)))

    async def list_dead(
        self, name: str, group: str, *, after: str = "", limit: int = 100
    ) -> list[DeadLetter]:
        """Records that a group gave up, oldest first, after one of them."""
        first = f"({after}" if after else "-"
        entries = await self._link.call(
            "XRANGE", keys.stream_dead(name, group), first, "+", "COUNT", limit
        )
        return [_dead_letter(entry, fields) for entry, fields in entries]

    async def get_dead(self, name: str, group: str, identity: str) -> DeadLetter | None:
        """One dead letter, or None."""
        entries = await self._link.call("XRANGE", keys.stream_dead(name, group), identity, identity)
        return _dead_letter(*entries[0]) if entries else None

    async def revive(self, name: str, group: str, letter: DeadLetter) -> int:
        """Puts a dead letter at the end of its shard for its group alone; 0 if it is gone.

        Raises:
            NotFound: there is no such stream.
            QueueFull: the shard is full.
        """
        shard = letter.record.shard
        words = add_words(name, shard, *_dead_keys(name, group))
        added = await self._link.script("stream_revive", *words, group, letter.id)
        return added_at(added, name, shard)

    async def repeat(self, name: str, shard: int, group: str, sequence: int) -> int:
        """Puts a record at the end of its shard once more, for one group alone; 0 if it is gone.

        Raises:
            NotFound: there is no such stream.
            QueueFull: the shard is full.
        """
        words = add_words(name, shard)
        added = await self._link.script("stream_repeat", *words, group, sequence)
        return added_at(added, name, shard)

    async def rewind(self, name: str, shard: int, group: str, first: int) -> None:
        """Makes a group read a shard again, from a sequence number on.

        Raises:
            NoSuchGroup: see `subscribe`.
        """
        at = [keys.stream(name, shard), keys.stream_shard(name, shard)]
        done = await self._link.script(
            "stream_rewind", at, group, max(0, first - 1), keys.BELLS, shard, name
        )
        if not done:
            raise NoSuchGroup(f"the stream {name!r} has no consumer group {group!r}")


def _dead_keys(name: str, group: str) -> tuple[str, str]:
    """Where a group's dead letters lie, and where their bytes are counted."""
    return keys.stream_dead(name, group), keys.stream_shard(name, 0)


def _dead_letter(entry: bytes, fields: Mapping[bytes, bytes]) -> DeadLetter:
    shared = {**fields, b"g": b"", b"o": b"0"}
    sequence = b"%d-0" % int(fields[b"n"])
    return DeadLetter(
        id=entry.decode(),
        record=record_of(int(fields[b"s"]), sequence, shared, int(fields[b"x"])),
        reason=fields[b"r"].decode("utf-8", "replace"),
        died_at=int(entry.partition(b"-")[0]) / 1000,
        function=fields[b"f"].decode(),
    )
