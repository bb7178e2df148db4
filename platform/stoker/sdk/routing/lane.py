"""One function's traffic: its workers, its waiting room, what bounds them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from stoker.decide.admit import Verdict, admit
from stoker.decide.route import choose, eligible_revision
from stoker.nouns.errors import FunctionNotFound, StokerError
from stoker.nouns.record import Demand, FunctionRecord, FunctionState, Phase
from stoker.sdk.routing import kept, refusals
from stoker.sdk.routing.call import Call
from stoker.sdk.routing.clock import Clock, Timer
from stoker.sdk.routing.limits import Limits
from stoker.sdk.routing.link import Link
from stoker.sdk.routing.load import demand_of
from stoker.sdk.routing.room import Room
from stoker.sdk.routing.trial import Trial


class Lane:
    """Spreads the calls of one function over its workers' links.

    Single writer of everything here: the event loop's thread, through the methods below. While
    anyone waits in the room there is no free permit: every method that could free one ends by
    dealing it out.

    Attributes:
        serving: number of the serving revision; 0 before there is one.
        active: links that get traffic; ``outstanding`` and ``_permits`` run parallel to it.
        answered: streams that a worker ended since the start.
        arrivals: calls submitted since the start.
        last_active: CLOCK_MONOTONIC seconds of the last arrival or finish.
        cold_starts: times that a worker became ready for somebody who waited.
        trial: the canary beside the serving revision, while there is one. Its workers have no
            slots: who waits here waits for the serving revision's.
    """

    __slots__ = (
        "_asked", "_clock", "_closed", "_limits_of", "_mode_since", "_on_wake", "_outstanding",
        "_permits", "_starting", "_state", "_sweep", "_turn", "active", "answered", "arrivals",
        "cold_starts", "last_active", "limits", "links", "name", "record", "room", "serving",
        "trial",
    )  # fmt: skip

    def __init__(
        self, record: FunctionRecord, clock: Clock, on_wake: Callable[[str], None]
    ) -> None:
        self.name = record.name
        self.record = record
        self.limits = Limits()
        self.serving = 0
        self.trial: Trial | None = None
        self.links: dict[tuple[str, int], Link] = {}
        self.active: list[Link] = []
        self.room = Room()
        self.answered = 0
        self.arrivals = 0
        self.last_active = 0.0
        self.cold_starts = 0
        self._clock = clock
        self._closed: StokerError | None = None
        self._on_wake = on_wake
        self._outstanding: list[int] = []
        self._permits: list[int] = []
        self._starting = 0
        self._state = FunctionState.READY
        self._turn = 0
        self._asked = False
        self._mode_since = clock.now()
        self._sweep: Timer | None = None
        self._limits_of = -1
        self.describe(record)

    # -- what the store says

    def describe(self, record: FunctionRecord) -> None:
        """Takes over a new description of the function."""
        revision = record.serving or record.candidate
        if revision is not None and revision.number != self._limits_of:
            self.limits = Limits.of(revision.config)
            self._limits_of = revision.number
        self.record = record
        self.serving = record.serving.number if record.serving else 0
        self.trial = Trial.of(record, self.trial, self._clock)
        # While a candidate stands in the record, the state is the candidate's: the verdict on a
        # failed redeploy must not close the function that the previous revision still serves.
        judged = record.serving is None or record.candidate is None
        self._state = record.state if judged else FunctionState.READY
        self._reconsider()

    def attach(self, link: Link) -> None:
        """Adds a worker."""
        self.links[link.replica, link.index] = link
        self._reconsider()

    def detach(self, key: tuple[str, int]) -> None:
        """Gives a worker nothing more; what it runs ends as it would have."""
        link = self.links.get(key)
        if link is not None:
            link.retire()
            if not link.connected:
                del self.links[key]
            self._reconsider()

    def expect(self, link: Link, *, coming: bool) -> None:
        """Says whether a worker may yet answer at a link that has no connection."""
        if link.expected != coming:
            link.expected = coming
            self._reconsider()

    def close(self, error: StokerError | None = None) -> None:
        """The function is gone: nobody waits in vain, running calls finish."""
        # Who comes back from a worker, or with an old view, hears it too: no permit is dealt again.
        self._closed = error or FunctionNotFound(f"function {self.name} was deleted")
        for link in list(self.links.values()):
            link.retire()
        self._elect()
        self._fail_all(self._closed)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    # -- what callers ask

    def submit(self, call: Call) -> None:
        """Takes a call; its caller hears the one outcome."""
        now = self._clock.now()
        self.arrivals = call.seq = self.arrivals + 1
        self.last_active = call.arrived = now
        call.lane = self
        if call.deadline is not None:
            if call.deadline <= now:
                return self._fail(call, refusals.late())
            if not call.watched:
                call.timer = self._clock.call_at(call.deadline, partial(self._expire, call))
        if call.pin is not None and call.pin.slot >= 0:
            return kept.wait(self, call, call.pin)
        if self.trial is not None and (link := self.trial.deal(call)) is not None:
            call.sent = now
            return link.send(call)
        if not self.room:
            index = choose(self._outstanding, self._permits, self._turn)
            if index is not None:
                self._dispatch(call, index, now)
                return None
        return self._receive(call)

    def abandon(self, call: Call) -> None:
        """The caller has gone: a waiting call is dropped, a running one is cancelled."""
        if self.trial is not None:
            self.trial.left(call)
        self._drop(call)

    def _drop(self, call: Call) -> None:
        call.settle()
        if call.link is not None:
            call.link.cancel(call.stream)
        elif not self.room.discard(call):
            kept.drop(call)

    def demand(self, epoch_offset: float) -> Demand:
        """What the autoscaler needs to know. ``epoch_offset`` turns monotonic into epoch time."""
        return demand_of(self, self._clock.now(), epoch_offset)

    @property
    def in_flight(self) -> int:
        """Requests held by workers, abandoned ones included until their worker lets go."""
        return sum(len(link.streams) for link in self.links.values())

    @property
    def warm(self) -> int:
        """Workers that get traffic."""
        return len(self.active)

    def free(self, link: Link) -> bool:
        """Whether a worker takes one more."""
        return link.slot >= 0 and self._outstanding[link.slot] < self._permits[link.slot]

    def give(self, call: Call, link: Link) -> None:
        """Dispatches a call to a worker that is `free`."""
        self._dispatch(call, link.slot, self._clock.now())

    # -- what links tell

    def link_changed(self, link: Link) -> None:
        """See `LinkOwner`."""
        if link.slot >= 0 and link.ready:
            self._permits[link.slot] = link.permits
            kept.serve(self, link)
            self._drain()
            kept.serve(self, link)
        else:
            self._reconsider()

    def link_freed(self, link: Link) -> None:
        """See `LinkOwner`."""
        self.answered += 1
        if link.slot >= 0:
            self._outstanding[link.slot] -= 1
            if link.kept:
                kept.serve(self, link)
            if self.room:
                self._drain()
                kept.serve(self, link)
            else:
                self.last_active = self._clock.now()

    def link_refused(self, link: Link, call: Call) -> None:
        """See `LinkOwner`."""
        if link.slot >= 0:
            self._outstanding[link.slot] -= 1
        self._again(call)

    def link_lost(self, link: Link, calls: list[Call]) -> None:
        """See `LinkOwner`."""
        key = (link.replica, link.index)
        if link.retired and self.links.get(key) is link:
            del self.links[key]
        self._reconsider()
        if self.trial is not None:
            self.trial.lost(link, calls)
        for call in calls:
            call.losses += call.started
            if call.may_run_again:
                self._again(call)
            else:
                self._fail(call, refusals.lost(self.name))

    # -- inside

    def _dispatch(self, call: Call, index: int, now: float) -> None:
        self._turn = index + 1
        self._outstanding[index] += 1
        call.sent = now
        self.active[index].send(call)

    def _receive(self, call: Call) -> None:
        """No permit is free: wait, or be told why not."""
        shut = self._shut()
        if shut is not None:
            return self._fail(call, shut)
        verdict = self._verdict(len(self.room), self.limits.queue_limit)
        if verdict is Verdict.FULL:
            return self._fail(call, refusals.queue_full(self))
        if verdict is Verdict.UNHEALTHY:
            return self._fail(call, refusals.unhealthy(self.record))
        if not self.room.fits(call):
            return self._fail(call, refusals.room_full(self))
        call.cold = not self.active
        self.room.append(call)
        if self._sweep is None:
            self._arm()
        if verdict is Verdict.WAKE:
            self._wake()
        return None

    def _again(self, call: Call) -> None:
        """A call that was dispatched in vain goes elsewhere, ahead of all who came later."""
        shut = refusals.no_capacity(self) if call.shadow else self._shut()
        if shut is not None:
            return self._fail(call, shut)
        if call.pin is not None and call.pin.slot >= 0:
            return kept.wait(self, call, call.pin, first=True)
        self.room.restore(call)
        return self._reconsider()

    def _shut(self) -> StokerError | None:
        """Why nobody may wait here, whatever its workers do; None when one may."""
        if self._closed is not None:
            return self._closed
        return refusals.disabled(self.record) if self.limits.disabled else None

    def _verdict(self, waiting: int, queue_limit: int) -> Verdict:
        return admit(
            free_permits=0,
            waiting=waiting,
            queue_limit=queue_limit,
            warm=len(self.active),
            starting=self._starting,
            state=self._state,
        )

    def _wake(self) -> None:
        if not self._asked:
            self._asked = True
            self._on_wake(self.name)

    def _reconsider(self) -> None:
        """Something changed about workers or function: who is active, who goes, who waits."""
        was_warm, was_starting = bool(self.active), self._starting
        self._elect()
        warm = bool(self.active)
        if warm != was_warm:
            self._turn_mode(warm)
        if warm or (was_starting and not self._starting):
            self._asked = False
        self._drain()
        if self.room:
            self._answer_waiting()

    def _elect(self) -> None:
        """Rebuilds the tables of active links."""
        serving = 0 if self.limits.disabled else self.serving
        usable = [link for link in self.links.values() if link.revision <= serving]
        ready = [link for link in usable if link.ready]
        revision = eligible_revision(self.serving, {link.revision for link in ready})
        for link in self.links.values():
            link.slot = -1
        self.active = [link for link in ready if link.revision == revision]
        for slot, link in enumerate(self.active):
            link.slot = slot
        if self.trial is not None:
            self.trial.elect(() if self.limits.disabled else self.links.values())
        for call in kept.stranded(self.links.values()):
            self.room.restore(call)
        self._outstanding = [len(link.streams) for link in self.active]
        self._permits = [link.permits for link in self.active]
        self._starting = sum(
            1 for link in usable if link.phase in _ON_THE_WAY and not link.retired and link.expected
        )

    def _turn_mode(self, warm: bool) -> None:
        now = self._mode_since = self._clock.now()
        if warm and self.room:
            self.cold_starts += 1
            for call in self.room:
                if call.cold and not call.warm_at:
                    call.warm_at = now
        if self.room:
            self._arm()

    def _answer_waiting(self) -> None:
        """Those who wait are judged like a newcomer would be, less the room's bounds."""
        shut = self._shut()
        if shut is not None:
            return self._fail_all(shut)
        verdict = self._verdict(0, 1)
        if verdict is Verdict.UNHEALTHY:
            self._fail_all(refusals.unhealthy(self.record))
        elif verdict is Verdict.WAKE:
            self._wake()
        if self.room and self._sweep is None:
            self._arm()
        return None

    def _drain(self) -> None:
        """Deals free permits to those who wait, in order of arrival."""
        room = self.room
        while room:
            index = choose(self._outstanding, self._permits, self._turn)
            if index is None:
                return
            self._dispatch(room.popleft(), index, self._clock.now())

    def _fail(self, call: Call, error: StokerError) -> None:
        call.settle()
        call.caller.on_error(call, error)

    def _fail_all(self, error: StokerError) -> None:
        waiting = list(self.room)
        self.room.clear()
        for call in waiting:
            self._fail(call, error)

    def _expire(self, call: Call) -> None:
        """The deadline has come."""
        if not call.done:
            self._drop(call)
            call.caller.on_error(call, refusals.late())

    def _expiry(self, call: Call) -> float:
        """When a waiting call gives up. Bounded from its arrival, however often workers flap."""
        limits = self.limits
        patience = limits.worker_wait_s if self.active else limits.readiness_s
        latest = call.arrived + limits.readiness_s + limits.worker_wait_s
        return min(max(call.arrived, self._mode_since) + patience, latest)

    def _arm(self) -> None:
        """One timer for the whole room: the head is always the first to give up."""
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep = self._clock.call_at(self._expiry(self.room[0]), self._sweep_room)

    def _sweep_room(self) -> None:
        self._sweep = None
        now = self._clock.now()
        while self.room and self._expiry(self.room[0]) <= now:
            self._asked = False  # a failed wake says nothing about the next one
            self._fail(self.room.popleft(), refusals.no_capacity(self))
        if self.room:
            self._arm()


_ON_THE_WAY = (None, Phase.STARTING)
