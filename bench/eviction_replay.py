"""A trace replayed in virtual time: devices, replicas and rooms as the controller has them.

Everything but the policy is the same for all of them: requests wait by function, a load takes its
seconds and loads side by side, a model answers one request after the other, and nothing is evicted
under a request that runs.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.eviction_traces import Model, Trace
from stoker.decide.evict import MIN_RESIDENCY_S, Resident, Room, Wait, Want, make_room
from stoker.decide.place import place
from stoker.decide.rate import ArrivalRate

LIMIT_S = 120.0


@dataclass
class Replica:
    """A model on a device. ``ready_at`` is None while it loads."""

    model: Model
    device: str
    loaded_at: float
    ready_at: float | None = None
    used_at: float = 0.0
    busy: bool = False
    leaving: bool = False
    queue: deque[float] = field(default_factory=deque)


@dataclass
class Seat:
    """Who waits for a model, and what it was promised."""

    waiting: deque[float] = field(default_factory=deque)
    device: str | None = None
    look_at: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What a replay cost.

    Attributes:
        cold_s: seconds that all requests together waited for their model to be there.
        longest_s: the longest of those waits.
        swaps: replicas that were evicted.
        answered: requests that got their answer: all of them, or the replay is broken.
    """

    cold_s: float
    longest_s: float
    swaps: int
    answered: int


Choose = Callable[["Replay", Want, Sequence[Resident], dict[str, int]], Room | Wait]


class Replay:
    """One run of one policy over one trace."""

    def __init__(self, trace: Trace, choose: Choose) -> None:
        self.trace = trace
        self.now = 0.0
        self.replicas: dict[str, Replica] = {}
        self.rates: dict[str, ArrivalRate] = {}
        self.counts: dict[str, int] = dict.fromkeys(trace.models, 0)
        self._choose = choose
        self._rooms = {name: Seat() for name in trace.models}
        self._tie = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._waits: list[float] = []
        self._swaps = self._answered = 0

    def run(self) -> Outcome:
        """Plays it to its end."""
        for at, name in self.trace.arrivals:
            self._at(at, lambda name=name: self._arrive(name))
        while self._events:
            self.now, _, act = heapq.heappop(self._events)
            act()
            self._serve_waiting()
        return Outcome(sum(self._waits), max(self._waits, default=0.0), self._swaps, self._answered)

    def _at(self, at: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._tie), act))

    def _arrive(self, name: str) -> None:
        rate = self.rates.get(name) or ArrivalRate(since=self.now)
        self.rates[name] = rate.after(1, self.now)
        self.counts[name] += 1
        replica = self.replicas.get(name)
        if replica is None or replica.ready_at is None or replica.leaving:
            self._rooms[name].waiting.append(self.now)
            return
        self._waits.append(0.0)
        replica.used_at = self.now
        replica.queue.append(self.now)
        self._work(replica)

    def _work(self, replica: Replica) -> None:
        if replica.queue and not replica.busy:
            replica.busy = True
            replica.queue.popleft()
            self._at(self.now + replica.model.service_s, lambda: self._finish(replica))

    def _finish(self, replica: Replica) -> None:
        replica.busy = False
        self._answered += 1
        self._work(replica)
        if replica.leaving and not replica.busy:
            del self.replicas[replica.model.name]

    def _ready(self, replica: Replica) -> None:
        replica.ready_at = self.now
        room = self._rooms[replica.model.name]
        self._waits += [self.now - arrived for arrived in room.waiting]
        replica.queue.extend(room.waiting)
        room.waiting.clear()
        replica.used_at = self.now
        self._work(replica)

    def _serve_waiting(self) -> None:
        waiting = [(room.waiting[0], name) for name, room in self._rooms.items() if room.waiting]
        for _, name in sorted(waiting):
            if name not in self.replicas:
                self._seek(name)

    def _seek(self, name: str) -> None:
        room, model = self._rooms[name], self.trace.models[name]
        if room.device is None:
            decided = self._choose(self, self._want(name), self._residents(), self._free(name))
            if isinstance(decided, Wait):
                asked = self.now < room.look_at <= decided.until
                if not asked and decided.until < math.inf:
                    room.look_at = decided.until
                    self._at(decided.until, lambda: None)
                return
            room.device = decided.devices[0]
            for victim in decided.victims:
                self._evict(self.replicas[victim])
        if self._unheld()[room.device] >= model.size:
            replica = Replica(model, room.device, self.now)
            self.replicas[name], room.device = replica, None
            self._at(self.now + model.reload_s, lambda: self._ready(replica))

    def _evict(self, replica: Replica) -> None:
        self._swaps += 1
        replica.leaving = True
        if not replica.busy and not replica.queue:
            del self.replicas[replica.model.name]

    def _want(self, name: str) -> Want:
        room, model = self._rooms[name], self.trace.models[name]
        others = [len(q.waiting) for n, q in self._rooms.items() if n not in {name, *self.replicas}]
        return Want(
            function=name,
            gpus=1,
            each=model.size,
            reload_s=model.reload_s,
            rate=self.rates[name].per_second(self.now),
            waiting=len(room.waiting),
            waited_s=self.now - room.waiting[0],
            behind=sum(others),
            limit_s=LIMIT_S,
        )

    def _residents(self) -> list[Resident]:
        return [
            Resident(
                name,
                name,
                {replica.device: replica.model.size},
                replica.model.reload_s,
                self.rates[name].per_second(self.now),
                None if replica.leaving else replica.ready_at,
                busy=replica.busy or bool(replica.queue),
            )
            for name, replica in self.replicas.items()
        ]

    def _unheld(self) -> dict[str, int]:
        free = dict(self.trace.devices)
        for replica in self.replicas.values():
            free[replica.device] -= replica.model.size
        return free

    def _free(self, name: str) -> dict[str, int]:
        """For a newcomer: what leaves is as good as gone, what was promised is not there."""
        free = self._unheld()
        for replica in self.replicas.values():
            if replica.leaving:
                free[replica.device] += replica.model.size
        for other, room in self._rooms.items():
            if room.device is not None and other != name:
                free[room.device] -= self.trace.models[other].size
        return {device: max(0, left) for device, left in free.items()}


def stoker(
    replay: Replay, want: Want, residents: Sequence[Resident], free: dict[str, int]
) -> Room | Wait:
    """The shipped decision."""
    return make_room(want, residents, free, replay.now)


def in_order_of(key: Callable[[Replay, Replica], float]) -> Choose:
    """A cache's policy: of what is idle and settled the one with the least key goes, at once."""

    def choose(
        replay: Replay, want: Want, residents: Sequence[Resident], free: dict[str, int]
    ) -> Room | Wait:
        fitting = place(free, gpus=1, bytes_per_gpu=want.each)
        if fitting is not None:
            return Room(fitting)
        ready = [r for r in residents if r.since is not None and not r.busy]
        grown = [(r.since or 0.0) + MIN_RESIDENCY_S for r in ready]
        idle = [r for r, at in zip(ready, grown, strict=True) if replay.now >= at]
        found: list[tuple[float, Room]] = []
        for device, room in free.items():
            there = [(key(replay, replay.replicas[r.id]), r.id) for r in idle if device in r.held]
            gone: list[str] = []
            for worst, victim in sorted(there):
                gone.append(victim)
                room += replay.replicas[victim].model.size
                if room >= want.each:
                    found.append((worst, Room((device,), tuple(gone))))
                    break
        if not found:
            return Wait(min((at for at in grown if at > replay.now), default=math.inf), "at work")
        return min(found, key=lambda pair: (pair[0], pair[1].devices))[1]

    return choose


POLICIES: dict[str, Choose] = {
    "Stoker": stoker,
    "LRU": in_order_of(lambda _, replica: replica.used_at),
    "FIFO": in_order_of(lambda _, replica: replica.loaded_at),
    "LFU": in_order_of(lambda replay, replica: replay.counts[replica.model.name]),
}


def replay(trace: Trace, policy: str) -> Outcome:
    """What a policy makes of a trace."""
    return Replay(trace, POLICIES[policy]).run()
