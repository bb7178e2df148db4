"""Starting, draining and ending replicas."""

from __future__ import annotations

import math
import signal

from stoker.controller.launching import worker_launch
from stoker.controller.view import Live, Replica, Slot
from stoker.controller.world import World
from stoker.decide.fit import workers_on_each
from stoker.decide.lifecycle import Effect, Signal, WorkerLife
from stoker.decide.place import deal
from stoker.nouns.record import Phase, ReplicaRecord, Revision, WorkerRecord

DEFAULT_TERMINATION_S = 10.0
KILL_AFTER_S = 2.0
"""From SIGTERM to SIGKILL: enough to run ``atexit`` handlers, too short to be waited for."""


class Replicas:
    """The verbs over whole replicas."""

    def __init__(self, world: World) -> None:
        self._world = world

    def start(self, live: Live, revision: Revision) -> Replica | None:
        """Places one replica and asks for its workers; None when it does not fit now."""
        world = self._world
        config = revision.config
        fit = world.ledger.fit(revision, function=live.name)
        if fit is None:
            return None
        devices, each = fit
        identity = world.new_id(live.name, config.project)
        dealt = deal(devices, config.workers)
        replica = Replica(
            id=identity,
            function=live.name,
            revision=revision.number,
            slots=[
                Slot(index, str(world.home.worker_socket(identity, index)), dealt[index])
                for index in range(config.workers)
            ],
            devices=devices,
            device_bytes=each,
            created_at=world.clock.epoch(),
        )
        world.ledger.forget_promise(live.name)
        world.ledger.take(identity, devices, each)
        world.replicas[identity] = replica
        live.starts += 1
        for slot in replica.slots:
            self.start_slot(replica, slot, revision)
        return replica

    def start_slot(self, replica: Replica, slot: Slot, revision: Revision) -> None:
        """Asks for the process that fills a place, the first one or a replacement."""
        world = self._world
        config = revision.config
        slot.life = WorkerLife(Phase.STARTING, permits=config.permits)
        slot.pid, slot.running, slot.answered, slot.adopted = 0, True, False, False
        slot.ready_at = slot.gone_at = slot.exit_status = slot.restart_at = None
        slot.roused_at, slot.short_times = None, 0
        slot.doomed = ""
        slot.started_at, slot.begun_at = world.clock.epoch(), world.now()
        slot.deadline = slot.begun_at + config.readiness_s
        launch = worker_launch(
            config=config,
            revision=revision,
            replica=replica.id,
            index=slot.index,
            devices=slot.devices,
            home=world.home,
            settings=world.settings,
            bytes_each=replica.device_bytes // workers_on_each(config.workers, config.gpus),
        )
        world.effects.start_worker(launch)

    def adopt(self, record: ReplicaRecord) -> None:
        """Takes over a replica that another controller started: same processes, same pids."""
        world = self._world
        live = world.functions.get(record.function)
        replica = Replica(
            id=record.id,
            function=record.function,
            revision=record.revision,
            slots=[_adopted(worker) for worker in record.workers],
            devices=record.devices,
            device_bytes=record.device_bytes,
            created_at=record.created_at,
        )
        world.replicas[record.id] = replica
        world.ledger.take(record.id, record.devices, record.device_bytes)
        revision = world.revision(replica)
        patience = revision.config.readiness_s if revision else DEFAULT_TERMINATION_S
        for slot in replica.slots:
            slot.deadline = world.now() + patience
            world.effects.watch_worker(replica.id, slot.index, slot.socket)
        if live is not None:
            live.active_at = world.now()
        if record.draining:
            self.drain(replica, patience_s=math.inf if record.unhurried else None)

    def drain(self, replica: Replica, *, patience_s: float | None = None) -> None:
        """Ends the replica without losing what its workers have accepted.

        Args:
            replica: it takes nothing more from now on.
            patience_s: seconds its workers may take to finish; then SIGTERM, then SIGKILL.
                None: its function's termination timeout.
        """
        world = self._world
        if patience_s is None:
            patience_s = self.termination_s(replica)
        if replica.draining:
            # Evicted, it may finish in its own time; deleted or shut down, it may not.
            if world.now() + patience_s < replica.drain_deadline:
                replica.drain_deadline = world.now() + patience_s
                self._tell_to_drain(replica, patience_s)
            return
        replica.draining, replica.unhurried = True, patience_s == math.inf
        replica.drain_deadline = world.now() + patience_s
        for slot in replica.slots:
            slot.restart_at = None
            if slot.running:
                slot.move(Signal.DRAIN)
        self.withdraw_unanswered(replica)
        if replica.is_empty:
            self.remove(replica)
            return
        world.effects.put_replica(replica.record())
        self._tell_to_drain(replica, patience_s)

    def _tell_to_drain(self, replica: Replica, patience_s: float) -> None:
        for slot in replica.slots:
            if slot.running:
                self._world.effects.drain_worker(replica.id, slot.index, patience_s)

    def withdraw_unanswered(self, replica: Replica) -> None:
        """Takes back launches that no zygote has answered: there is nothing to wait for.

        If a zygote forks one all the same, its `started` finds no place and it is ended.
        """
        for slot in replica.slots:
            if slot.running and not slot.answered and not slot.adopted:
                self._world.effects.kill_worker(replica.id, slot.index, 0, signal.SIGTERM)
                slot.running = False

    def kill(self, replica: Replica) -> None:
        """Ends the replica now: it never served, or it failed."""
        self.drain(replica, patience_s=0.0)
        if replica.id in self._world.replicas:
            self._signal(replica, signal.SIGKILL)

    def remove(self, replica: Replica) -> None:
        """No process of it is left: forgets it, and its bytes are free again."""
        self._world.replicas.pop(replica.id, None)
        self._world.ledger.give_back(replica.id)
        self._world.effects.remove_replica(replica.id)
        self._world.freed = True

    def termination_s(self, replica: Replica) -> float:
        """Seconds that a draining worker of it may take."""
        revision = self._world.revision(replica)
        return revision.config.termination_s if revision else DEFAULT_TERMINATION_S

    def press(self, replica: Replica) -> None:
        """Past its deadline a draining replica is terminated, then killed."""
        if not replica.draining:
            return
        now = self._world.now()
        if now >= replica.drain_deadline + KILL_AFTER_S:
            self._signal(replica, signal.SIGKILL)
        elif now >= replica.drain_deadline and not replica.terminated:
            replica.terminated = True
            self._signal(replica, signal.SIGTERM)

    def _signal(self, replica: Replica, number: int) -> None:
        for slot in replica.slots:
            if slot.running:
                self._world.effects.kill_worker(replica.id, slot.index, slot.pid, number)

    def doom(self, replica: Replica, slot: Slot, sign: Signal, why: str) -> None:
        """Fails one worker for a known reason; its exit then is no news."""
        slot.doomed = why
        if Effect.KILL in slot.move(sign):
            self._world.effects.kill_worker(replica.id, slot.index, slot.pid, signal.SIGKILL)


def _adopted(worker: WorkerRecord) -> Slot:
    return Slot(
        index=worker.index,
        socket=worker.socket,
        devices=worker.devices,
        pid=worker.pid,
        started_at=worker.started_at,
        adopted=True,
        answered=True,
    )
