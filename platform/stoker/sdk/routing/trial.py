"""A canary as one router sees it: who is dealt to it, and what came of that on both sides."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from stoker.decide.latency import bucket_of
from stoker.decide.route import choose
from stoker.decide.split import by_key, by_turn
from stoker.nouns.errors import StokerError, WorkerLost
from stoker.nouns.evidence import Side, Tally
from stoker.nouns.record import Canary, FunctionRecord
from stoker.nouns.wire import ResponseMeta
from stoker.sdk.routing.call import Call, Caller
from stoker.sdk.routing.clock import Clock
from stoker.sdk.routing.link import Link
from stoker.sdk.routing.mirror import Mirror


class Trial:
    """The canary's workers, the deal, and the counts. Single writer: the lane.

    Attributes:
        number: the canary's revision.
        links: its workers that are ready.
        mirror: sends it copies of the serving revision's requests; None unless that is declared.
    """

    __slots__ = (
        "_canary",
        "_clock",
        "_given_up",
        "_id",
        "_share",
        "_stable",
        "_started_at",
        "_sticky",
        "_turn",
        "links",
        "mirror",
        "number",
    )

    def __init__(self, canary: Canary, clock: Clock) -> None:
        self.number = canary.revision.number
        self.links: list[Link] = []
        spec = canary.spec
        self.mirror = Mirror(spec, lambda: self.links, clock.now) if spec.mirror else None
        self._clock = clock
        self._started_at = canary.started_at
        self._share = canary.share
        self._sticky = canary.spec.sticky.lower()
        self._id = uuid.uuid4().hex[:12]
        # Many routers with few calls each would otherwise all begin with the canary.
        self._turn = int(self._id, 16) % (1 << 20)
        self._stable = Counts()
        self._canary = Counts()
        self._given_up: dict[tuple[Link, int], float] = {}

    @classmethod
    def of(cls, record: FunctionRecord, before: Trial | None, clock: Clock) -> Trial | None:
        """The trial that a record asks for; the one before, if it is still the same canary."""
        canary = record.canary
        if canary is None or record.serving is None:
            return None
        if before is None or not before._is_of(canary):
            return cls(canary, clock)
        before._share = canary.share
        return before

    def _is_of(self, canary: Canary) -> bool:
        return (self.number, self._started_at) == (canary.revision.number, canary.started_at)

    def elect(self, links: Iterable[Link]) -> None:
        """Who of these takes the canary's calls."""
        self.links = [link for link in links if link.ready and link.revision == self.number]

    def deal(self, call: Call) -> Link | None:
        """The canary's worker that shall run a call; None: it is one for the serving revision.

        A canary costs nobody a wait: what it cannot take at once is the serving revision's. Nor
        does it get records of streams, which have an order to keep.
        """
        if call.record is not None:
            return None
        call.caller = Watched(call.caller, self)
        if not self._is_dealt(call):
            return None
        links = self.links
        index = choose([len(link.streams) for link in links], [link.permits for link in links], 0)
        return None if index is None else links[index]

    def _is_dealt(self, call: Call) -> bool:
        key = call.headers.get(self._sticky, "") if self._sticky else ""
        if key:
            return by_key(self._share, key, self.number)
        self._turn += 1
        return by_turn(self._share, self._turn)

    # -- what came of it

    def counts_of(self, revision: int) -> Counts:
        """Of the canary, or of what serves beside it."""
        return self._canary if revision == self.number else self._stable

    def count(self, call: Call, *, failed: bool) -> None:
        """An outcome. Of a call that no worker was given it says nothing of any revision."""
        if call.revision:
            taken = self._clock.now() - call.sent
            self.counts_of(call.revision).add(bucket_of(taken), failed=failed)

    def failed(self, call: Call) -> None:
        """It ended without an answer, or without the rest of one whose head was counted."""
        if call.streaming:
            self.counts_of(call.revision).errors += 1
        else:
            self.count(call, failed=True)

    def lost(self, link: Link, calls: Iterable[Call]) -> None:
        """A worker died with these calls in its hands, whether they can be run again or not."""
        counts = self.counts_of(link.revision)
        for call in calls:
            if call.shadow:
                continue  # No request of any client: its mirror counts it.
            # What streams was counted with its head; what no handler saw is still to come.
            counts.requests += call.started and not call.streaming
            counts.errors += call.started

    def left(self, call: Call) -> None:
        """The client went away: no failure, but at least so long it took."""
        if call.link is not None and isinstance(call.caller, Watched) and not call.streaming:
            self.count(call, failed=False)
            if call.revision == self.number:
                self._given_up[call.link, call.stream] = call.sent

    def tally(self) -> Tally:
        """All of it so far."""
        return Tally(
            id=self._id,
            revision=self.number,
            stable=self._stable.side(),
            canary=self._canary.side(),
            oldest_s=max(0.0, self._clock.now() - self._oldest()),
            **self._mirrored(),
        )

    def _mirrored(self) -> dict[str, int]:
        if self.mirror is None:
            return {}
        return {
            "mirrored": self.mirror.mirrored,
            "differing": self.mirror.differing,
            "mirror_failed": self.mirror.failed,
            "mirror_dropped": self.mirror.dropped,
        }

    def _oldest(self) -> float:
        """When the canary was given the oldest call that it still has (CLOCK_MONOTONIC)."""
        self._given_up = {
            (link, stream): sent
            for (link, stream), sent in self._given_up.items()
            if link.streams.get(stream, self) is None
        }
        held = [
            call.sent
            for link in self.links
            for call in link.streams.values()
            if call is not None and not call.streaming
        ]
        return min([*held, *self._given_up.values()], default=self._clock.now())


class Counts:
    """One revision's outcomes. Single writer: its trial."""

    __slots__ = ("errors", "latency", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.latency: dict[int, int] = {}

    def add(self, bucket: int, *, failed: bool) -> None:
        """One outcome more."""
        self.requests += 1
        self.errors += failed
        self.latency[bucket] = self.latency.get(bucket, 0) + 1

    def side(self) -> Side:
        """As it is reported."""
        return Side(requests=self.requests, errors=self.errors, latency=dict(self.latency))


class Watched:
    """Passes an outcome on to the caller (see `Caller`) and counts it."""

    __slots__ = ("_caller", "_trial")

    def __init__(self, caller: Caller, trial: Trial) -> None:
        self._caller = caller
        self._trial = trial

    def on_response(self, call: Call, meta: ResponseMeta, body: bytes) -> None:
        """See `Caller`."""
        failed = "code" in meta or not 200 <= meta["status"] < 500
        trial = self._trial
        trial.count(call, failed=failed)
        self._caller.on_response(call, meta, body)
        if trial.mirror is not None and call.revision != trial.number:
            trial.mirror.copy(call, meta, body)

    def on_head(self, call: Call, meta: ResponseMeta) -> None:
        """See `Caller`. A stream is as fast as its beginning: its length is the asker's choice."""
        self._trial.count(call, failed=not 200 <= meta["status"] < 500)
        self._caller.on_head(call, meta)

    def on_chunk(self, call: Call, data: bytes) -> None:
        """See `Caller`."""
        self._caller.on_chunk(call, data)

    def on_end(self, call: Call) -> None:
        """See `Caller`."""
        self._caller.on_end(call)

    def on_error(self, call: Call, error: StokerError) -> None:
        """See `Caller`. One that was lost with its worker has been counted with that."""
        if not isinstance(error, WorkerLost):
            self._trial.failed(call)
        self._caller.on_error(call, error)
