"""A world without a world: fake verbs and a clock that stands until it is told to go on."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from stoker.controller.effects import Change
from stoker.controller.happenings import (
    Built,
    DemandSeen,
    FunctionSeen,
    Happening,
    Snapshot,
    Tick,
    WakeAsked,
    WorkerExited,
    WorkerGone,
    WorkerStarted,
    WorkerStated,
)
from stoker.controller.ledger import Ledger
from stoker.controller.reconcile import Reconciler
from stoker.controller.settings import ControllerSettings
from stoker.controller.view import Replica
from stoker.controller.world import World
from stoker.nouns.home import Home
from stoker.nouns.launch import WorkerLaunch
from stoker.nouns.record import Demand, FunctionRecord, FunctionState, ReplicaRecord, Revision
from stoker.nouns.rollout import RolloutEvent

EPOCH = 1_700_000_000.0


class StandingClock:
    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        return self.time

    def epoch(self) -> float:
        return EPOCH + self.time


class FakeEffects:
    """Notes every verb; what the store would answer is queued as a happening."""

    def __init__(self) -> None:
        self.launches: list[WorkerLaunch] = []
        self.watched: list[tuple[str, int]] = []
        self.drained: list[tuple[str, int]] = []
        self.drained_within: dict[str, float] = {}
        self.told_sleep: list[tuple[str, int]] = []
        self.told_wake: list[tuple[str, int]] = []
        self.killed: list[tuple[str, int, int, int]] = []
        self.forgotten: list[tuple[str, int]] = []
        self.functions: dict[str, FunctionRecord] = {}
        self.replicas: dict[str, ReplicaRecord] = {}
        self.puts: list[ReplicaRecord] = []
        self.writes: list[str] = []
        self.worker_logs: list[str] = []
        self.builds: list[int] = []
        self.built_for: list[str] = []
        self.stopped_builds: list[str] = []
        self.removed_traces: list[str] = []
        self.removed_code: list[tuple[str, frozenset[int]]] = []
        self.events: list[Happening] = []
        self.rollouts: list[RolloutEvent] = []
        self.store_is_away = False

    def start_worker(self, launch: WorkerLaunch) -> None:
        self.launches.append(launch)

    def watch_worker(self, replica: str, index: int, socket: str) -> None:
        self.watched.append((replica, index))

    def drain_worker(self, replica: str, index: int, within_s: float) -> None:
        self.drained.append((replica, index))
        self.drained_within[replica] = within_s

    def sleep_worker(self, replica: str, index: int) -> None:
        self.told_sleep.append((replica, index))

    def wake_worker(self, replica: str, index: int) -> None:
        self.told_wake.append((replica, index))

    def kill_worker(self, replica: str, index: int, pid: int, signal: int) -> None:
        self.killed.append((replica, index, pid, int(signal)))

    def forget_worker(self, replica: str, index: int, socket: str) -> None:
        self.forgotten.append((replica, index))

    def log_worker(self, replica: ReplicaRecord, index: int, level: str, message: str) -> None:
        self.worker_logs.append(message)

    def put_replica(self, record: ReplicaRecord) -> None:
        self.puts.append(record)
        self.replicas[record.id] = record

    def remove_replica(self, replica: str) -> None:
        self.replicas.pop(replica, None)

    def change_function(self, name: str, change: Change) -> None:
        self.writes.append(name)
        if self.store_is_away:
            return
        if name in self.functions:
            self.functions[name] = change(self.functions[name])
            self.events.append(FunctionSeen(name, self.functions[name]))

    def restore_function(self, record: FunctionRecord) -> None:
        self.functions[record.name] = record

    def note_rollout(self, function: str, event: RolloutEvent) -> None:
        self.rollouts.append(event)

    def build(self, record: FunctionRecord, device: str) -> None:
        self.built_for.append(device)
        assert record.candidate is not None
        self.builds.append(record.candidate.number)

    def stop_build(self, function: str) -> None:
        self.stopped_builds.append(function)

    def remove_traces(self, function: str) -> None:
        self.removed_traces.append(function)

    def remove_code(self, function: str, keep: frozenset[int]) -> None:
        self.removed_code.append((function, keep))


class Stage:
    """The reconciler on a stage: what happens to it is told in verbs of the story."""

    def __init__(self, capacity: dict[str, int]) -> None:
        self.clock = StandingClock()
        self.effects = FakeEffects()
        ids = (f"r{number}" for number in itertools.count(1))
        self.world = World(
            self.effects,
            self.clock,
            ControllerSettings(cores=4, devices="cpu"),
            Home(Path("/h")),
            Ledger(capacity),
            new_id=lambda *_: next(ids),
        )
        self.reconciler = Reconciler(self.world)
        self._pids = itertools.count(100)

    def happen(self, *events: Happening) -> None:
        for event in events:
            self.reconciler.handle(event)
            while self.effects.events:
                self.reconciler.handle(self.effects.events.pop(0))

    def deploy(
        self,
        name: str = "fn",
        *,
        annotations: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
        **spec: Any,
    ) -> int:
        """The API writes a candidate."""
        metadata = {"name": name, "annotations": annotations or {}, "labels": labels or {}}
        document = {"metadata": metadata, "spec": spec}
        record = self.effects.functions.get(name) or FunctionRecord(name=name)
        number = record.last_revision + 1
        record = record.model_copy(
            update={
                "candidate": Revision(number=number, document=document),
                "last_revision": number,
                "state": FunctionState.WAITING_FOR_BUILD,
            }
        )
        self.effects.functions[name] = record
        self.happen(FunctionSeen(name, record))
        return number

    def built(self, number: int, name: str = "fn") -> None:
        self.happen(Built(name, number, f"/code/{name}/{number}", None))

    def serve(self, name: str = "fn", **spec: Any) -> Replica:
        """A deployment from end to end: the replica of the revision that serves now."""
        number = self.deploy(name, **spec)
        self.built(number, name)
        (replica,) = self.world.replicas_of(name, number)
        self.started(replica)
        self.ready(replica)
        return replica

    def started(self, replica: Replica) -> None:
        for slot in replica.slots:
            if slot.running and not slot.answered:
                self.happen(WorkerStarted(replica.id, slot.index, next(self._pids)))

    def state(
        self, replica: Replica, index: int, phase: str, error: str = "", *, sleeps: bool = False
    ) -> None:
        pid = replica.slots[index].pid
        self.happen(WorkerStated(replica.id, index, phase, pid, error=error, sleeps=sleeps))

    def ready(self, replica: Replica, *, sleeps: bool = False) -> None:
        for slot in replica.slots:
            self.state(replica, slot.index, "ready", sleeps=sleeps)

    def fall_asleep(self, replica: Replica) -> None:
        """Its workers do what they were asked to."""
        for identity, index in self.effects.told_sleep:
            if identity == replica.id:
                self.state(replica, index, "asleep", sleeps=True)
        self.effects.told_sleep.clear()

    def dies(self, replica: Replica, index: int = 0, status: int = -11) -> None:
        pid = replica.slots[index].pid
        self.happen(WorkerGone(replica.id, index), WorkerExited(replica.id, index, pid, status))

    def wake(self, name: str = "fn") -> None:
        self.happen(WakeAsked(name))

    def demand(self, name: str = "fn", **facts: Any) -> None:
        facts.setdefault("last_active", self.clock.epoch())
        self.happen(DemandSeen({"gateway-1": {name: Demand(**facts)}}))

    def quiet(self) -> None:
        self.happen(DemandSeen({}))

    def after(self, seconds: float) -> None:
        """Time passes, with the ticks that belong to it."""
        end = self.clock.time + seconds
        while self.clock.time < end:
            self.clock.time = min(end, self.clock.time + 0.25)
            self.happen(Tick())

    def restart_controller(self, *first: Happening) -> Stage:
        """Another controller comes, with nothing but the store and the running workers.

        ``first``: what it sees of the devices, if that is not what the first one knew.
        """
        other = Stage({} if first else dict(self.world.ledger.capacity))
        other.happen(*first)
        other.clock = self.clock
        other.world.clock = self.clock
        other.effects.functions = dict(self.effects.functions)
        other.effects.replicas = dict(self.effects.replicas)
        other.happen(Snapshot(dict(self.effects.functions), dict(self.effects.replicas)))
        return other

    def record(self, name: str = "fn") -> FunctionRecord:
        return self.effects.functions[name]

    def replica(self, name: str = "fn") -> Replica:
        """The only replica."""
        (replica,) = self.world.replicas_of(name)
        return replica

    def log(self, name: str = "fn") -> str:
        return "\n".join(entry.message for entry in self.record(name).logs)


@pytest.fixture
def stage() -> Stage:
    return Stage({})


@pytest.fixture
def gpus() -> Stage:
    return Stage({"SIM-0": 16 * 1024**2, "SIM-1": 16 * 1024**2})
