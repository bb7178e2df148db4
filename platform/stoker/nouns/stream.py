"""Streams as the v3io stream web API has them: a name, shards, records with sequence numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from stoker.nouns.errors import BadRequest

LONGEST_NAME = 512
MOST_SHARDS = 1000
MAX_RECORD_BYTES = 2 * 1024 * 1024
"""The largest record that the v3io platform gives back, and so the largest worth keeping."""
MOST_RECORDS = 1000
"""Records of one put, as in the v3io platform."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""Consumer groups. No colon: their names stand last in keys of the store."""


def stream_name(container: str, path: str) -> str:
    """The one spelling of a stream's name: ``container/path`` without a slash at either end.

    >>> stream_name("projects", "/shop/orders/")
    'projects/shop/orders'

    Raises:
        BadRequest: nothing could be kept under that name.
    """
    segments = [*container.strip("/").split("/"), *path.strip("/").split("/")]
    name = "/".join(segments)
    if len(segments) < 2 or any(segment in ("", ".", "..") for segment in segments):
        raise BadRequest(f"a stream is named <container>/<path>, was {container!r}, {path!r}")
    if len(name) > LONGEST_NAME or _CONTROL.search(name):
        raise BadRequest(
            f"a stream's name must be at most {LONGEST_NAME} characters, none of them a control "
            f"character, was {name[:100]!r}"
        )
    return name


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream as it was created.

    Attributes:
        shards: how many; it may grow, never shrink.
        retention_hours: how long records stay, consumed or not.
        created_at: epoch seconds.
    """

    name: str
    shards: int
    retention_hours: int
    created_at: float

    @property
    def container(self) -> str:
        """The first segment of the name."""
        return self.name.partition("/")[0]

    @property
    def path(self) -> str:
        """The name without its container."""
        return self.name.partition("/")[2]


@dataclass(frozen=True, slots=True)
class NewRecord:
    """What a producer puts.

    Attributes:
        key: the partition key; records of one key go to one shard, in order.
        info: the producer's own bytes about it, up to it alone.
    """

    data: bytes
    key: str = ""
    info: bytes = b""


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it is kept.

    Attributes:
        sequence: its place in its shard, from 1 on, without gaps.
        arrived_at: epoch seconds.
        tries: which try this is; 1 for one that was never given to a handler before.
        group: the one consumer group that it is for, when it was put once more for that one; empty
            for all.
        original: the sequence number that it had at first, then; 0 for one that has it still.
    """

    shard: int
    sequence: int
    data: bytes
    key: str
    info: bytes
    arrived_at: float
    tries: int = 1
    group: str = ""
    original: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was given up.

    Attributes:
        id: its id among the group's dead letters; what a replay names.
        record: the record as it was; ``tries`` is how often it was tried.
        reason: why the last try failed.
        died_at: epoch seconds.
        function: who failed it.
    """

    id: str
    record: Record
    reason: str
    died_at: float
    function: str


@dataclass(frozen=True, slots=True)
class GroupState:
    """One consumer group in one shard.

    Attributes:
        delivered: the last sequence number that was handed out.
        pending: handed out and not acknowledged.
        lag: records after the last one handed out.
        consumer: who reads the shard for the group now; empty when nobody does.
    """

    name: str
    delivered: int
    pending: int
    lag: int
    consumer: str = ""


@dataclass(frozen=True, slots=True)
class ShardState:
    """One shard: the sequence numbers that it holds (0 to 0 when empty), and its groups."""

    shard: int
    first: int
    last: int
    records: int
    bytes: int
    groups: dict[str, GroupState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a consumer was given.

    Attributes:
        records: in order; empty when there are none now (a bell will ring for the next one).
        last: the shard's last sequence number.
    """

    records: list[Record]
    last: int
