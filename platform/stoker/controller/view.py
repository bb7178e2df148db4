"""The controller's live view: functions, replicas and their workers as they are right now.

Single writer of everything here: the reconciler, one happening at a time.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field

from stoker.controller.under_way import Rollout, Watch
from stoker.decide.canary import EXTENSION
from stoker.decide.evict import DEFAULT_RELOAD_S, DEFAULT_ROUSE_S
from stoker.decide.lifecycle import Effect, Signal, WorkerLife, move
from stoker.decide.rate import ArrivalRate
from stoker.decide.scale import ScaleMemory
from stoker.nouns.evidence import newest
from stoker.nouns.record import (
    Demand,
    FunctionRecord,
    FunctionState,
    Phase,
    ReplicaRecord,
    WorkerRecord,
)

REPORTERS = 256
"""Reporters of one function that are remembered while they are silent."""


@dataclass(slots=True)
class Slot:
    """One worker's place in a replica, and the process that fills it at present.

    Attributes:
        running: a process exists or was asked for.
        answered: the zygote said what became of the launch.
        begun_at: monotonic seconds at which its present process was asked for by this controller.
        deadline: monotonic seconds by which it must be ready.
        gone_at: its connection ended then; the zygote's word on the exit status may follow.
        restart_at: monotonic seconds at which it is replaced; None: it is not.
        doomed: why it is being killed, told before its exit.
        short_times: requests of its present process that had failed for want of device memory.
        roused_at: monotonic seconds at which it was told to come back from sleep.
        crashes: monotonic seconds of the crashes in this place since its worker last served.
    """

    index: int
    socket: str
    devices: tuple[str, ...] = ()
    life: WorkerLife = field(default_factory=lambda: WorkerLife(Phase.STARTING))
    pid: int = 0
    started_at: float = 0.0
    running: bool = True
    answered: bool = False
    adopted: bool = False
    sleeps: bool = False
    short_times: int = 0
    begun_at: float = 0.0
    deadline: float = 0.0
    ready_at: float | None = None
    roused_at: float | None = None
    gone_at: float | None = None
    exit_status: int | None = None
    restart_at: float | None = None
    doomed: str = ""
    crashes: list[float] = field(default_factory=list)

    @property
    def phase(self) -> Phase:
        """The worker's phase."""
        return self.life.phase

    def move(self, signal: Signal) -> tuple[Effect, ...]:
        """Takes the signal; the effects that follow are the caller's duty."""
        self.life, effects = move(self.life, signal)
        return effects

    def record(self) -> WorkerRecord:
        """What the store shows of it."""
        return WorkerRecord(
            index=self.index,
            socket=self.socket,
            pid=self.pid,
            started_at=self.started_at,
            phase=self.phase,
            devices=self.devices,
        )


@dataclass(slots=True)
class Replica:
    """A group of workers of one revision.

    Attributes:
        slept_at: monotonic seconds since when all its workers have been off their devices.
        making_room_since: monotonic seconds at which it was asked to sleep because another function
            needs its bytes; None: it was not.
        slept_early: that is why it fell asleep, and not because it had been idle for long enough.
        unhurried: it drains, and its workers may take as long as their requests do.
        stranded: a device of it is lost, and it was ended for that.
    """

    id: str
    function: str
    revision: int
    slots: list[Slot]
    devices: tuple[str, ...] = ()
    device_bytes: int = 0
    created_at: float = 0.0
    draining: bool = False
    drain_deadline: float = 0.0
    terminated: bool = False
    stranded: bool = False
    was_ready: bool = False
    slept_at: float | None = None
    making_room_since: float | None = None
    slept_early: bool = False
    unhurried: bool = False

    def record(self) -> ReplicaRecord:
        """What the store shows of it."""
        return ReplicaRecord(
            id=self.id,
            function=self.function,
            revision=self.revision,
            workers=tuple(slot.record() for slot in self.slots),
            devices=self.devices,
            device_bytes=self.device_bytes,
            draining=self.draining,
            unhurried=self.unhurried,
            created_at=self.created_at,
        )

    @property
    def phase(self) -> Phase:
        """The replica as a whole."""
        return self.record().phase

    @property
    def has_ready(self) -> bool:
        """A worker of it takes requests."""
        return not self.draining and any(slot.phase is Phase.READY for slot in self.slots)

    @property
    def all_ready(self) -> bool:
        """Every worker of it takes requests."""
        return not self.draining and all(slot.phase is Phase.READY for slot in self.slots)

    @property
    def asleep(self) -> bool:
        """Every worker of it has left its device, and none is about to be started on it."""
        running = [slot for slot in self.slots if slot.running]
        coming = any(slot.restart_at is not None for slot in self.slots)
        return bool(running) and not coming and all(s.phase is Phase.ASLEEP for s in running)

    @property
    def drowsy(self) -> bool:
        """Some workers of it sleep and others do not."""
        return not self.asleep and any(slot.phase is Phase.ASLEEP for slot in self.slots)

    @property
    def can_sleep(self) -> bool:
        """Every worker of it says that it has something to take off the device."""
        return all(slot.sleeps for slot in self.slots)

    @property
    def is_empty(self) -> bool:
        """No process is left, and none will be started."""
        return not any(slot.running or slot.restart_at is not None for slot in self.slots)


@dataclass(slots=True)
class Live:
    """A function and all that is remembered about it between two happenings.

    Attributes:
        record: as the store has it, never ahead of it.
        requested: state and message last asked of the store, until it shows them.
        requested_p90: the wakes' percentile last asked of the store, until it shows it.
        asked_at: monotonic seconds of the first unanswered wake.
        barred_at: monotonic seconds at which it last had no replica awake and no room for one:
            until then a wake waits for others to leave the devices, which is no part of it.
        active_at: monotonic seconds of the last activity that is no request: a replica became
            ready, the controller adopted it. A replica is not idle before it ever served.
        last_active: monotonic seconds of the last request that any gateway ever reported: reports
            expire with their gateways, what they told does not. By the clock that nobody sets: one
            that is set back by an hour would keep every replica for an hour.
        crashes: monotonic seconds of the crashes of all its workers since one of them served.
        blocked_until: a crash loop: nothing is started before.
        reported: requests answered, by reporter, as each last reported it; a restarted gateway
            begins at nought again. ``answered``: all of them together, which never falls;
            ``answered_at_crash``: that at the last crash.
        arrived: requests accepted, by reporter, as each last reported it; ``rate``: how often they
            come. ``uncounted``: its gateways have counted since before this controller came, so
            that what they report first is no news.
        loads: seconds from start to ready of its last replicas; ``rouses``: of those that came
            back from sleep, from the word to ready.
        no_room: it wants a replica that does not fit now.
        scaled: what its replicas amounted to last; beside a failed candidate the record's state
            does not tell.
        watch: the canary that is watched; ``tried``: number of the last one that is over.
        settled: number of the candidate whose deployment ended last, well or not; what the store
            shows of it may be older.
        condemned: the message of the last exception that this function caused in the controller;
            ``complaint``: that of the last event that was passed over.
        prune_due: code of former revisions lies about, to go with their last worker.
    """

    record: FunctionRecord
    deleted: bool = False
    requested: tuple[FunctionState, str] | None = None
    requested_p90: float | None = None
    demand: dict[str, Demand] = field(default_factory=dict)
    condemned: str = ""
    complaint: str = ""
    scale: ScaleMemory = field(default_factory=ScaleMemory)
    asked_at: float | None = None
    barred_at: float = 0.0
    active_at: float = 0.0
    last_active: float = 0.0
    crashes: list[float] = field(default_factory=list)
    reported: dict[str, int] = field(default_factory=dict)
    arrived: dict[str, int] = field(default_factory=dict)
    uncounted: bool = False
    rate: ArrivalRate = field(default_factory=lambda: ArrivalRate(since=0.0))
    loads: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    rouses: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    answered: int = 0
    answered_at_crash: int = 0
    blocked_until: float | None = None
    blocked_at: float = 0.0
    blocked_why: str = ""
    give_ups: int = 0
    no_room: bool = False
    rollout: Rollout | None = None
    watch: Watch | None = None
    tried: int = 0
    settled: int = 0
    prune_due: bool = False
    wakes: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    starts: int = 0
    scaled: FunctionState | None = None

    def see(self, demand: dict[str, Demand], now: float, epoch: float) -> None:
        """Takes what the gateways and the workers of graphs, by their names, report of it now.

        Args:
            demand: by reporter.
            now: monotonic seconds.
            epoch: the same moment in epoch seconds, which the reports are in.
        """
        self.demand = demand
        self._count_arrivals(demand, now)
        if self.watch is not None:
            told = [seen.tally for seen in demand.values() if seen.tally is not None]
            self.watch.tallies = newest(self.watch.tallies, told, self.watch.number)
        for gateway, seen in demand.items():
            before = self.reported.get(gateway, 0)
            restarted = seen.answered < before
            self.answered += seen.answered if restarted else seen.answered - before
            self.reported[gateway] = seen.answered
            if seen.last_active:
                ago = max(0.0, epoch - seen.last_active)
                self.last_active = max(self.last_active, now - ago)
        if len(self.reported) > REPORTERS:
            # Workers of graphs come and go, each under a name of its own.
            self.reported = {name: self.reported[name] for name in demand}

    def _count_arrivals(self, demand: dict[str, Demand], now: float) -> None:
        news = 0
        for reporter, seen in demand.items():
            before = self.arrived.get(reporter, 0)
            news += seen.arrivals if seen.arrivals < before else seen.arrivals - before
        self.arrived = {**self.arrived, **{name: seen.arrivals for name, seen in demand.items()}}
        if len(self.arrived) > REPORTERS:
            self.arrived = {name: self.arrived[name] for name in demand}
        if demand and self.uncounted:
            self.uncounted = False
            return
        self.rate = self.rate.after(news, now)

    @property
    def reload_s(self) -> float:
        """What it takes to load, seconds: the median of what was measured, or else of the record.

        The record's is the second best: it is of the slow ones.
        """
        if self.loads:
            return statistics.median(self.loads)
        return self.record.wake_p90_s or DEFAULT_RELOAD_S

    @property
    def rouse_s(self) -> float:
        """What it takes to come back from sleep, seconds: the median of what was measured."""
        usual = statistics.median(self.rouses) if self.rouses else DEFAULT_ROUSE_S
        return min(usual, self.reload_s)

    def in_flight_by_replica(self) -> dict[str, int]:
        """Requests in flight by replica, over all gateways."""
        busy: dict[str, int] = {}
        for demand in self.demand.values():
            for replica, count in demand.by_replica.items():
                busy[replica] = busy.get(replica, 0) + count
        return busy

    @property
    def waiting(self) -> int:
        """Requests that wait, over all gateways."""
        return sum(demand.waiting for demand in self.demand.values())

    def waited_s(self, now: float) -> float:
        """How long the oldest of them has waited, seconds."""
        oldest = max((demand.oldest_wait_s for demand in self.demand.values()), default=0.0)
        return max(oldest, now - self.asked_at if self.asked_at is not None else 0.0)

    def rest_from(self, now: float) -> None:
        """Whether it was idle until ``now`` (monotonic seconds) nobody knows: its window begins."""
        self.active_at, self.scale = now, ScaleMemory()

    @property
    def name(self) -> str:
        """The function's name."""
        return self.record.name

    @property
    def is_trying(self) -> bool:
        """A canary is on time. One that waits long for its requests keeps no device from others."""
        canary, watch = self.record.canary, self.watch
        if canary is None or watch is None:
            return False
        return watch.ran_s <= EXTENSION * canary.spec.length_s

    @property
    def in_progress(self) -> bool:
        """A candidate is on its way; one whose deployment failed is kept but is not."""
        return self.record.candidate is not None and self.record.state in _IN_PROGRESS


_IN_PROGRESS = frozenset(
    {FunctionState.WAITING_FOR_BUILD, FunctionState.BUILDING, FunctionState.CONFIGURING}
)
