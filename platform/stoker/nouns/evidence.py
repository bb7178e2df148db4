"""What is counted of a canary and of the revision beside it, while it lasts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict, Field


class _Counted(BaseModel):
    model_config = ConfigDict(frozen=True)


class Side(_Counted):
    """One revision's share of the traffic since the canary began.

    Attributes:
        requests: that a worker of it was given and that have an outcome.
        errors: of these, answered with 5xx, lost with their worker, or not in time.
        latency: requests by bucket of their latency (`stoker.decide.latency`), from the worker's
            having them to its answer; to the first bytes of one that is streamed.
    """

    requests: int = Field(default=0, ge=0)
    errors: int = Field(default=0, ge=0)
    latency: dict[int, int] = Field(default_factory=dict)

    def plus(self, other: Side) -> Side:
        """Both together."""
        latency = dict(self.latency)
        for bucket, count in other.latency.items():
            latency[bucket] = latency.get(bucket, 0) + count
        return Side(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            latency=latency,
        )


class Tally(_Counted):
    """What one reporter has counted since it first saw the canary; it only ever grows.

    Attributes:
        id: new with every process and every canary, so that one that was killed and started again
            is added to what it had told before, and one that reports twice is not.
        revision: the canary's number.
        oldest_s: seconds that the oldest request in the canary's hands has been there, those
            left out whose answer is being streamed; 0 when there is none. The one that may fall.
        mirrored: copies of the serving revision's requests that the canary has answered.
        differing: of these, answered otherwise.
        mirror_failed: copies that were sent and not answered.
        mirror_dropped: copies that were due and not made: the canary had no worker free for them.
    """

    id: str
    revision: int
    stable: Side = Side()
    canary: Side = Side()
    oldest_s: float = Field(default=0.0, ge=0)
    mirrored: int = Field(default=0, ge=0)
    differing: int = Field(default=0, ge=0)
    mirror_failed: int = Field(default=0, ge=0)
    mirror_dropped: int = Field(default=0, ge=0)


class Evidence(_Counted):
    """All tallies together."""

    stable: Side = Side()
    canary: Side = Side()
    oldest_s: float = 0.0
    mirrored: int = 0
    differing: int = 0
    mirror_failed: int = 0
    mirror_dropped: int = 0

    @classmethod
    def of(cls, tallies: Iterable[Tally]) -> Evidence:
        """Their sum."""
        whole = cls()
        for tally in tallies:
            whole = cls(
                stable=whole.stable.plus(tally.stable),
                canary=whole.canary.plus(tally.canary),
                oldest_s=max(whole.oldest_s, tally.oldest_s),
                mirrored=whole.mirrored + tally.mirrored,
                differing=whole.differing + tally.differing,
                mirror_failed=whole.mirror_failed + tally.mirror_failed,
                mirror_dropped=whole.mirror_dropped + tally.mirror_dropped,
            )
        return whole


TALLIES = 256
"""Tallies of one canary that are kept; a 257th reporter's requests are not counted, which is better
than counting some twice."""


def newest(known: Mapping[str, Tally], told: Iterable[Tally], revision: int) -> dict[str, Tally]:
    """The known tallies by id, with what was told since in their place.

    What nobody tells any more stays, but for the age of its requests: nobody knows of these.

    >>> old = {"a": Tally(id="a", revision=2, canary=Side(requests=3), oldest_s=9.0)}
    >>> seen = newest(old, [Tally(id="b", revision=2, canary=Side(requests=4))], 2)
    >>> Evidence.of(seen.values()).canary.requests, seen["a"].oldest_s
    (7, 0.0)
    """
    found = {
        key: tally if not tally.oldest_s else tally.model_copy(update={"oldest_s": 0.0})
        for key, tally in known.items()
    }
    for tally in told:
        if tally.revision != revision:
            continue
        before = known.get(tally.id)
        if before is None and len(found) >= TALLIES:
            continue
        # Two readings of the store may overtake each other; the counts never fall.
        if before is None or _total(tally) >= _total(before):
            found[tally.id] = tally
    return found


def _total(tally: Tally) -> int:
    return tally.stable.requests + tally.canary.requests + tally.mirrored
