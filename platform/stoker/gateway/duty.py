"""What a gateway reads, and for whom."""

from __future__ import annotations

from dataclasses import dataclass

from stoker.nouns.stream import Record
from stoker.nouns.stream_trigger import EVENT_KIND, StreamTrigger
from stoker.nouns.wire import RecordMeta


@dataclass(frozen=True, slots=True)
class Duty:
    """One shard of a stream of ``shards``, read for a function by one of its triggers."""

    function: str
    trigger: StreamTrigger
    shard: int
    shards: int

    def meta(self, record: Record) -> RecordMeta:
        """What a worker is told about a record besides its bytes."""
        return {
            "kind": EVENT_KIND,
            "topic": self.trigger.stream_path,
            "shard": record.shard,
            "shards": self.shards,
            "offset": record.sequence,
            "time": record.arrived_at,
            "explicit": self.trigger.explicit,
        }
