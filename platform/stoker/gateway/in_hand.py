"""What a shard's consumer has in hand: records on their way in, out, and back."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from stoker.decide.deliver import Hand, acknowledged
from stoker.nouns.stream import Record
from stoker.sdk.routing import Link


@dataclass(slots=True)
class Held:
    """A record that a worker has seen and nobody has acknowledged."""

    link: Link
    tries: int


class InHand:
    """Single writer: the shard's consumer.

    Attributes:
        ready: to be given to a handler, in this order.
        unacked: by sequence number.
        lost: by sequence number, the number of the next try: their worker ended.
        scan: from which sequence number on the store has records that were given out before and
            are not in hand; None when it has none.
        failed: by sequence number, why: their worker said so after it had answered.
    """

    __slots__ = ("_aside", "failed", "lost", "ready", "scan", "unacked")

    def __init__(self) -> None:
        self.ready: deque[Record] = deque()
        self.unacked: dict[int, Held] = {}
        self.lost: dict[int, int] = {}
        self.failed: dict[int, str] = {}
        self.scan: int | None = 0
        self._aside: list[tuple[float, int, Record]] = []

    @property
    def count(self) -> int:
        """Records that were given out and are not done with, those ``ready`` aside."""
        return len(self._aside) + len(self.unacked) + len(self.lost) + len(self.failed)

    def facts(self, *, not_before: float, look_at: float) -> Hand:
        """How things stand, for the decision about the next step."""
        return Hand(
            ready=len(self.ready),
            aside=len(self._aside),
            due=self._aside[0][0] if self._aside else None,
            unacked=len(self.unacked),
            not_before=not_before,
            look_at=look_at,
        )

    def set_aside(self, record: Record, due: float) -> None:
        """A record that failed waits for its next try."""
        heapq.heappush(self._aside, (due, record.sequence, record))

    def take_due(self) -> Record:
        """The record whose next try is due first."""
        return heapq.heappop(self._aside)[2]

    def add_pending(self, records: Collection[Record], done: Collection[int]) -> None:
        """Records that the store has as given out, less those in hand and those just done."""
        known = {*self.unacked, *self.lost, *self.failed, *done}
        known |= {record.sequence for record in self.ready}
        known |= {sequence for _, sequence, _ in self._aside}
        self.ready += [record for record in records if record.sequence not in known]

    def acknowledge(self, link: Link, offset: int) -> list[int]:
        """A worker has done with what it was given up to an offset; which records that are."""
        done = acknowledged(offset, {n: held.link for n, held in self.unacked.items()}, link)
        for sequence in done:
            del self.unacked[sequence]
        return done

    def fail(self, link: Link, sequence: int, reason: str) -> None:
        """A worker failed a record that it had answered for."""
        held = self.unacked.get(sequence)
        if held is not None and held.link is link:
            del self.unacked[sequence]
            self.failed[sequence] = reason

    def lose(self, link: Link) -> None:
        """No further acknowledgement comes from that worker."""
        for sequence in [n for n, held in self.unacked.items() if held.link is link]:
            self.lost[sequence] = self.unacked.pop(sequence).tries + 1

    def take_lost(self) -> dict[int, int]:
        """What was lost, which is to be read from the store again.

        With it what had been read and not delivered: offsets must not go back and forth.
        """
        lost, self.lost = self.lost, {}
        again = [*lost, *(record.sequence for record in self.ready)]
        self.ready.clear()
        self.scan = min(again) if self.scan is None else min(self.scan, *again)
        return lost

    def owed_by(self, link: Link) -> bool:
        """Whether a worker has yet to acknowledge anything."""
        return any(held.link is link for held in self.unacked.values())
