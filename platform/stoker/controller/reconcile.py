"""The reconciler: one happening in, verbs out. No I/O, no clock of its own, no await.

Every happening changes the view; then the functions that it touches are brought forward:
rollout, scale, state. The same is done for all of them at every tick, so that a missed event costs
a tick and not a function.
"""

from __future__ import annotations

import logging

from stoker.controller.crashes import Crashes
from stoker.controller.happenings import (
    BuildFailed,
    Built,
    DemandSeen,
    FunctionSeen,
    Happening,
    OverMemory,
    Snapshot,
    StartRefused,
    Tick,
    WakeAsked,
    WorkerExited,
    WorkerGone,
    WorkerStarted,
    WorkerStated,
)
from stoker.controller.replicas import Replicas
from stoker.controller.rollout import Rollouts
from stoker.controller.scaler import Scaler
from stoker.controller.status import Status
from stoker.controller.view import Live, Replica, Slot
from stoker.controller.workers import Workers
from stoker.controller.world import World
from stoker.nouns.record import FunctionRecord, FunctionState, Phase

log = logging.getLogger(__name__)


class Reconciler:
    """Makes what runs equal to what the records ask for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.replicas = Replicas(world)
        self._stopping = False
        self.crashes = Crashes(world, self.replicas)
        self._rollouts = Rollouts(world, self.replicas, self.crashes)
        self._scaler = Scaler(world, self.replicas, self.crashes)
        self._status = Status(world, self.crashes)
        self._workers = Workers(world, self.replicas, self._crashed)

    def handle(self, event: Happening) -> None:
        """Takes one happening to its end."""
        for name in self._take(event):
            live = self.world.functions.get(name)
            if live is not None:
                self._advance(live)

    def _take(self, event: Happening) -> list[str]:
        """Changes the view; the names of the functions that may have to move."""
        match event:
            case Tick():
                return self._tick()
            case DemandSeen():
                return self._demand(event)
            case WakeAsked(name):
                return self._wake(name)
            case FunctionSeen(name, record):
                return self._function(name, record)
            case Snapshot():
                return self._snapshot(event)
            case Built():
                return self._built(event)
            case BuildFailed():
                return self._built(event)
            case _:
                return self._worker(event)

    def _worker(
        self,
        event: WorkerStarted | StartRefused | WorkerExited | WorkerStated | WorkerGone | OverMemory,
    ) -> list[str]:
        replica = self.world.replicas.get(event.replica)
        name = replica.function if replica else ""
        workers = self._workers
        match event:
            case WorkerStarted():
                workers.started(event)
            case StartRefused():
                workers.refused(event)
            case WorkerExited():
                workers.exited(event)
            case WorkerStated():
                workers.stated(event)
            case WorkerGone():
                workers.gone(event)
            case OverMemory():
                workers.over_memory(event)
        return [name]

    def _tick(self) -> list[str]:
        for replica, slot in self.world.slots():
            self._workers.look(replica, slot)
        for replica in list(self.world.replicas.values()):
            self.replicas.press(replica)
        return list(self.world.functions)

    def _demand(self, event: DemandSeen) -> list[str]:
        for name, live in self.world.functions.items():
            live.demand = {
                gateway: functions[name]
                for gateway, functions in event.demand.items()
                if name in functions
            }
            for gateway, demand in live.demand.items():
                live.answered[gateway] = max(demand.answered, live.answered.get(gateway, 0))
            if live.asked_at is None and any(d.waiting for d in live.demand.values()):
                self._wake(name)
        return list(self.world.functions)

    def _wake(self, name: str) -> list[str]:
        """Level triggered: however many ask, the wake begins once."""
        live = self.world.functions.get(name)
        if live is None or not self.crashes.wake(live):
            return []
        warm = any(replica.has_ready for replica in self.world.replicas_of(name))
        if live.asked_at is None and not warm:
            live.asked_at = self.world.now()
        if live.record.desired_zero:
            self.world.change(
                name, lambda record: record.model_copy(update={"desired_zero": False})
            )
        return [name]

    def _function(self, name: str, record: FunctionRecord | None) -> list[str]:
        live = self.world.functions.get(name)
        if record is None:
            if live is not None and not live.deleted:
                live.deleted = True
                live.rollout, live.settled = None, 0
                self.world.effects.stop_build(name)
        elif live is None:
            self.world.functions[name] = Live(record, active_at=self.world.now())
        elif live.deleted or not _is_older(record, live.record):
            revived = live.record.desired_zero and not record.desired_zero
            live.record, live.deleted = record, False
            if revived:
                self._wake(name)
        return [name]

    def _snapshot(self, event: Snapshot) -> list[str]:
        known = list(self.world.functions)
        if event.after_loss and not event.functions and not event.replicas:
            # Redis came back empty: what runs here is all that is left of the truth.
            for live in self.world.functions.values():
                self.world.effects.restore_function(live.record)
        else:
            for name in {*known, *event.functions}:
                self._function(name, event.functions.get(name))
        for live in self.world.functions.values():
            live.requested = None
        for identity, record in event.replicas.items():
            if identity not in self.world.replicas:
                self.replicas.adopt(record)
        for identity, replica in self.world.replicas.items():
            if identity not in event.replicas and any(slot.answered for slot in replica.slots):
                self.world.effects.put_replica(replica.record())
        return list(self.world.functions)

    def _built(self, event: Built | BuildFailed) -> list[str]:
        live = self.world.functions.get(event.function)
        if live is None or live.deleted:
            return []
        if isinstance(event, Built):
            self._rollouts.built(live, event)
        else:
            self._rollouts.build_failed(live, event)
        return [event.function]

    def _crashed(self, replica: Replica, slot: Slot, why: str) -> None:
        """A worker died unasked; whose business it is depends on its revision."""
        live = self.world.functions.get(replica.function)
        serving = live.record.serving if live else None
        if live is None or live.deleted:
            self.replicas.drain(replica)
        elif live.rollout is not None and live.rollout.number == replica.revision:
            self._rollouts.crashed(live, replica, slot.index, why)
        elif serving is not None and serving.number == replica.revision:
            self.crashes.of_serving(live, replica, slot, why)
            self._workers.look(replica, slot)
        else:
            self.replicas.drain(replica)

    def _advance(self, live: Live) -> None:
        if self._stopping:
            return
        try:
            self._bring_forward(live)
        except Exception as exc:
            # One function that cannot be handled must not take the others down with it.
            self._condemn(live, exc)

    def _condemn(self, live: Live, exc: Exception) -> None:
        """States the function's error, once for each message, so that it is no busy loop."""
        message = f"the controller cannot handle this function: {type(exc).__name__}: {exc}"
        if live.condemned == message:
            return
        live.condemned = message
        log.error("function %s: %s", live.name, message, exc_info=exc)
        condemned = self.world.logged(message, "error", state=FunctionState.ERROR, message=message)
        self.world.change(live.name, condemned)

    def _bring_forward(self, live: Live) -> None:
        if live.deleted:
            self._delete(live)
            return
        self._rollouts.advance(live)
        self._scaler.advance(live)
        self._status.publish(live)
        if live.prune_due and live.rollout is None:
            self._prune(live)

    def _delete(self, live: Live) -> None:
        for replica in self.world.replicas_of(live.name):
            if replica.phase is Phase.STARTING:
                self.replicas.kill(replica)
            else:
                self.replicas.drain(replica)
        if not self.world.replicas_of(live.name):
            del self.world.functions[live.name]
            self.world.effects.remove_code(live.name, frozenset())

    def _prune(self, live: Live) -> None:
        """The code of a former revision goes with its last worker, which may import it lazily."""
        keep = {r.number for r in (live.record.serving, live.record.candidate) if r is not None}
        if all(replica.revision in keep for replica in self.world.replicas_of(live.name)):
            live.prune_due = False
            self.world.effects.remove_code(live.name, frozenset(keep))

    def stop_all(self, *, drain: bool) -> float:
        """Ends every replica and starts none any more; seconds that this may take at most."""
        self._stopping = True
        for name in self.world.functions:
            self.world.effects.stop_build(name)
        patience = [0.0]
        for replica in list(self.world.replicas.values()):
            if drain and replica.phase is not Phase.STARTING:
                patience.append(self.replicas.termination_s(replica))
                self.replicas.drain(replica)
            else:
                self.replicas.kill(replica)
        return max(patience)


def _is_older(record: FunctionRecord, known: FunctionRecord) -> bool:
    """Two readers of the store may overtake each other; neither number ever goes back."""
    serving, known_serving = record.serving, known.serving
    behind = known_serving is not None and (
        serving is None or serving.number < known_serving.number
    )
    return behind or record.last_revision < known.last_revision
