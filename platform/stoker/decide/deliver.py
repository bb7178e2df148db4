"""Delivering a stream's records: what to do next, and what follows a try."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from stoker.nouns.errors import (
    FunctionNotFound,
    FunctionUnhealthy,
    NoCapacity,
    QueueFull,
    ShuttingDown,
    StokerError,
    StoreUnavailable,
)

LONGEST_RETRY_S = 60.0
"""Between two tries of one record, seconds."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
"""Between two looks at a function that takes nothing, seconds."""
PATIENCE_S = 3.0
"""A shard that another gateway should read, and that nobody has read for so long, is anyone's."""

_NOT_THE_RECORDS_FAULT = (
    FunctionNotFound,
    FunctionUnhealthy,
    NoCapacity,
    QueueFull,
    ShuttingDown,
    StoreUnavailable,
)


class Fate(Enum):
    """How a try of a record ended."""

    DONE = auto()
    FAILED = auto()
    """It counts as a try."""
    POSTPONED = auto()
    """No handler saw the record: the function takes nothing now."""


def judge_status(status: int) -> Fate:
    """What the status of a handler's answer says about its record.

    400 is a failure as well: it is how MLRun answers for a step that raised, and nobody but the
    stream hears it.
    """
    return Fate.DONE if status < 400 else Fate.FAILED


def judge_error(error: StokerError) -> Fate:
    """What a missing answer says about a record."""
    return Fate.POSTPONED if isinstance(error, _NOT_THE_RECORDS_FAULT) else Fate.FAILED


def retry_after(tries: int, *, limit: int, first_s: float) -> float | None:
    """Seconds until the next try of a record that failed ``tries`` times; None: give it up.

    >>> [retry_after(n, limit=4, first_s=1.0) for n in (1, 2, 3, 4)]
    [1.0, 2.0, 4.0, None]
    """
    if tries >= limit:
        return None
    return min(first_s * 2.0 ** min(tries - 1, 30), LONGEST_RETRY_S)


def pause_s(postponed: int, advised_s: float | None) -> float:
    """Seconds until a function that took nothing ``postponed`` times in a row is asked again."""
    grown = min(FIRST_PAUSE_S * 2.0 ** min(postponed - 1, 10), LONGEST_PAUSE_S)
    return min(max(grown, advised_s or 0.0), LONGEST_PAUSE_S)


class Step(Enum):
    """What a consumer of a shard does next."""

    RETRY = auto()
    """The record whose next try is due."""
    DELIVER = auto()
    """The next record in hand."""
    TAKE = auto()
    """Ask the store for more."""
    WAIT = auto()
    """For an acknowledgement, a bell, or the time that is given."""


@dataclass(frozen=True, slots=True)
class Hand:
    """What a consumer of a shard holds.

    Attributes:
        ready: records that were not given to a handler yet, or are to be given to it again.
        aside: records that failed and wait for their next try.
        due: when the first of those is due; None when there is none.
        unacked: records that a handler has seen and nobody has acknowledged.
        not_before: the function took nothing; it is not asked again before.
        look_at: the shard was empty; it is not looked at again before, unless its bell rings.
    """

    ready: int = 0
    aside: int = 0
    due: float | None = None
    unacked: int = 0
    not_before: float = 0.0
    look_at: float = 0.0


def next_step(hand: Hand, *, window: int, read_batch: int, now: float) -> tuple[Step, float | None]:
    """What comes next, and until when to wait when that is to wait (None: for an event).

    A record that failed lets those behind it pass, up to a batch of them: past that the fault is
    hardly the records', and going on would only fill the dead letters.
    """
    if now < hand.not_before:
        return Step.WAIT, hand.not_before
    if hand.unacked >= window:
        return Step.WAIT, None
    if hand.due is not None and hand.due <= now:
        return Step.RETRY, None
    if hand.aside >= read_batch:
        return Step.WAIT, hand.due
    if hand.ready:
        return Step.DELIVER, None
    if now < hand.look_at:
        return Step.WAIT, hand.look_at if hand.due is None else min(hand.look_at, hand.due)
    return Step.TAKE, None


def acknowledged(offset: int, unacked: Mapping[int, object], worker: object) -> list[int]:
    """The sequence numbers that ``worker`` acknowledges by naming an offset.

    Everything up to it, but only of what that very worker was given: it says nothing about records
    that another one still holds.
    """
    return [n for n, holder in unacked.items() if n <= offset and holder is worker]


def place_of(shard: int, workers: int) -> int:
    """Which of a function's workers gets a shard's records, where all must go to the same one."""
    return shard % workers


def reads(
    gateway: str, gateways: Iterable[str], lease: str, *, free_since: float, now: float
) -> bool:
    """Whether this gateway should try to become the reader of a shard.

    Each shard has one gateway that should read it (rendezvous hashing), so that they share the
    work without a word; another one steps in when that one does not.
    """
    return best_reader(gateway, gateways, lease) or now - free_since >= PATIENCE_S


def best_reader(gateway: str, gateways: Iterable[str], lease: str) -> bool:
    """Whether of all gateways this is the one that should read a shard."""
    known: Collection[str] = {gateway, *gateways}
    return max(known, key=lambda name: (_weight(name, lease), name)) == gateway


def _weight(gateway: str, lease: str) -> bytes:
    return hashlib.blake2b(f"{gateway}\0{lease}".encode(), digest_size=8).digest()
