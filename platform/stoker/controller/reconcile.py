"""The reconciler: one happening in, verbs out. No I/O, no clock of its own, no await.

Every happening changes the view; then the functions that it touches are brought forward:
rollout, scale, state. The same is done for all of them at every tick, so that a missed event costs
a tick and not a function.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

from stoker.controller.bring_back import bring_back, is_older
from stoker.controller.canary import Canaries
from stoker.controller.cards import Cards
from stoker.controller.crashes import Crashes
from stoker.controller.evictions import Evictions
from stoker.controller.happenings import (
    BuildFailed,
    Built,
    DemandSeen,
    DemandUnknown,
    DevicesSeen,
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
from stoker.controller.sleep import Sleep
from stoker.controller.status import Status
from stoker.controller.under_way import Stage
from stoker.controller.view import Live, Replica, Slot
from stoker.controller.workers import Workers
from stoker.controller.world import World
from stoker.decide.rate import ArrivalRate
from stoker.nouns.record import FunctionRecord, FunctionState, Phase

log = logging.getLogger(__name__)


class Reconciler:
    """Makes what runs equal to what the records ask for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.replicas = Replicas(world)
        sleep = Sleep(world)
        self._stopping = False
        self._ownerless: set[str] = set()
        """Functions without a record of whom code or workers were found."""
        self.crashes = Crashes(world, self.replicas)
        evictions = Evictions(world, self.replicas, sleep)
        self._canaries = Canaries(world, self.replicas, evictions)
        self._rollouts = Rollouts(world, self.replicas, self.crashes, evictions, self._canaries)
        self._scaler = Scaler(world, self.replicas, self.crashes, evictions, sleep)
        self._status = Status(world, self.crashes)
        self._workers = Workers(world, self.replicas, sleep, self._crashed)
        self._cards = Cards(world, self.replicas, sleep)

    def handle(self, event: Happening) -> None:
        """Takes one happening to its end. No event can end the controller."""
        for live in self._in_turn(self._taken(event)):
            self._advance(live)
        while self.world.freed:
            # Bytes came back: whoever waits for some goes on now, and not at the next tick.
            self.world.freed = False
            for live in self._in_turn(list(self.world.functions)):
                placing = live.rollout is None or live.rollout.stage is Stage.PLACING
                if live.no_room or (placing and self.world.awaits_room(live)):
                    self._advance(live)

    def _in_turn(self, names: list[str]) -> list[Live]:
        """These functions; of those that want bytes, the one that waits longest first."""
        found = [self.world.functions[name] for name in names if name in self.world.functions]
        now = self.world.now()
        return sorted(found, key=lambda live: -live.waited_s(now) if live.no_room else 0.0)

    def _taken(self, event: Happening) -> list[str]:
        try:
            return self._take(event)
        except Exception as exc:
            # The next tick looks at everything again; a loop that has ended looks at nothing.
            names = self._about(event)
            log.error("%s of %s cannot be handled", type(event).__name__, names, exc_info=exc)
            for name in names:
                if name in self.world.functions:
                    self._complain(self.world.functions[name], exc)
            return names or list(self.world.functions)

    def _about(self, event: Happening) -> list[str]:
        """The function that a happening is about; none when it is about all of them."""
        match event:
            case FunctionSeen(name) | WakeAsked(name) | Built(name) | BuildFailed(name):
                return [name]
            case Tick() | DemandSeen() | DemandUnknown() | Snapshot() | DevicesSeen():
                return []
            case _:
                replica = self.world.replicas.get(event.replica)
                return [replica.function] if replica else []

    def _alone(self, name: str, act: Callable[[], object]) -> None:
        """One function's part of what concerns all: its failure must not keep the others."""
        try:
            act()
        except Exception as exc:
            live = self.world.functions.get(name)
            if live is None:
                log.error("%s cannot be handled", name, exc_info=exc)
            else:
                self._complain(live, exc)

    def _take(self, event: Happening) -> list[str]:
        """Changes the view; the names of the functions that may have to move."""
        match event:
            case Tick():
                return self._tick()
            case DemandSeen():
                return self._demand(event)
            case DemandUnknown():
                self.world.blind = True
                return []
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
            case DevicesSeen():
                return self._cards.seen(event)
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
            self._alone(replica.function, partial(self._workers.look, replica, slot))
        for replica in list(self.world.replicas.values()):
            self._alone(replica.function, partial(self.replicas.press, replica))
        self._end_ownerless()
        return list(self.world.functions)

    def _demand(self, event: DemandSeen) -> list[str]:
        blind, self.world.blind = self.world.blind, False
        for name, live in self.world.functions.items():
            if blind:
                # The reports have expired meanwhile; the gateways' next ones are on their way.
                live.rest_from(self.world.now())
            reports = event.demand.items()
            seen_now = {gateway: seen[name] for gateway, seen in reports if name in seen}
            live.see(seen_now, self.world.now(), self.world.clock.epoch())
            if live.asked_at is None and any(d.waiting for d in live.demand.values()):
                self._wake(name)
        return list(self.world.functions)

    def _wake(self, name: str) -> list[str]:
        """Level triggered: however many ask, the wake begins once."""
        live = self.world.functions.get(name)
        if live is None or not self.crashes.wake(live):
            return []
        warm = any(replica.has_ready for replica in self.world.beside_canary(live))
        if live.asked_at is None and not warm:
            live.asked_at = self.world.now()
        if live.record.desired_zero:
            self.world.change(
                name,
                lambda record: record.model_copy(update={"desired_zero": False}),
                stamped=False,
            )
        return [name]

    def _function(self, name: str, record: FunctionRecord | None) -> list[str]:
        live = self.world.functions.get(name)
        if record is None:
            if live is None:
                self._ownerless.add(name)
            elif not live.deleted:
                live.deleted = True
                live.rollout, live.settled = None, 0
                live.watch, live.tried = None, 0
                self.world.effects.stop_build(name)
        elif live is None:
            self._ownerless.discard(name)
            self.world.functions[name] = self._live(record)
        elif record.created_at > live.record.created_at or (
            # Clocks may be set back, but after a deletion only a namesake can follow.
            live.deleted and record.created_at != live.record.created_at
        ):
            self._succeed(live, record)
        elif record.created_at == live.record.created_at and (
            live.deleted or not is_older(record, live.record)
        ):
            revived = live.record.desired_zero and not record.desired_zero
            live.record, live.deleted = record, False
            if revived:
                self._wake(name)
        return [name]

    def _succeed(self, live: Live, record: FunctionRecord) -> None:
        """Its deletion was missed: another function has its name, and nothing of it but that."""
        self.world.effects.stop_build(live.name)
        self.world.ledger.forget_promise(live.name)
        self._end_all(live.name)
        self.world.effects.remove_traces(live.name)
        self.world.functions[live.name] = self._live(record)

    def _live(self, record: FunctionRecord) -> Live:
        now = self.world.now()
        served = record.serving is not None
        return Live(record, active_at=now, rate=ArrivalRate(since=now), uncounted=served)

    def _snapshot(self, event: Snapshot) -> list[str]:
        empty = not (event.functions or event.replicas or event.unreadable)
        known: Iterable[str] = self.world.functions
        if event.rewound or (event.after_loss and empty):
            # What it lacks was lost and not deleted: what is known here is the truth that is left.
            bring_back(self.world, event.functions, event.unreadable)
            known = ()
        # One that cannot be read is as it was last seen: it is not gone.
        for name in {*known, *event.functions} - event.unreadable:
            self._alone(name, partial(self._function, name, event.functions.get(name)))
        for live in self.world.functions.values():
            live.requested = live.requested_p90 = None
            if event.after_loss:
                live.rest_from(self.world.now())
        for identity, record in event.replicas.items():
            if identity not in self.world.replicas:
                self._alone(record.function, partial(self.replicas.adopt, record))
        self._find_ownerless(event)
        self._repair_replicas(event)
        return list(self.world.functions)

    def _find_ownerless(self, event: Snapshot) -> None:
        """What is left of functions that were deleted while no controller ran."""
        found = {replica.function for replica in self.world.replicas.values()}
        if event.functions and not event.rewound:
            # With no record at all Redis was rather lost, and the code is its users' only copy.
            found |= event.code
        self._ownerless = found - event.unreadable - set(self.world.functions)
        self._end_ownerless()

    def _end_ownerless(self) -> None:
        for name in list(self._ownerless):
            self._alone(name, partial(self._end_all, name))
            if not self.world.replicas_of(name):
                self._ownerless.discard(name)
                self.world.effects.remove_code(name, frozenset())

    def _repair_replicas(self, event: Snapshot) -> None:
        for identity, replica in self.world.replicas.items():
            if identity not in event.replicas and any(slot.answered for slot in replica.slots):
                self.world.effects.put_replica(replica.record())

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
        elif replica in self.world.canary_replicas(live):
            self._canaries.crashed(live, replica, slot, why)
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

    def _complain(self, live: Live, exc: Exception) -> None:
        """Tells in the function's log what of it was passed over, once for each message.

        Its state stays: what runs of it runs, and the next tick derives the state anew.
        """
        message = f"the controller passed over an event: {type(exc).__name__}: {exc}"
        if live.complaint == message:
            return
        live.complaint = message
        log.error("function %s: %s", live.name, message, exc_info=exc)
        self.world.tell(live.name, message, level="error")

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
        self._canaries.advance(live)
        self._rollouts.advance(live)
        self._scaler.advance(live)
        self._status.publish(live)
        if live.prune_due and live.rollout is None:
            self._prune(live)

    def _end_all(self, name: str) -> None:
        for replica in self.world.replicas_of(name):
            if replica.phase is Phase.STARTING:
                self.replicas.kill(replica)
            else:
                self.replicas.drain(replica)

    def _delete(self, live: Live) -> None:
        self._end_all(live.name)
        self.world.ledger.forget_promise(live.name)
        if not self.world.replicas_of(live.name):
            del self.world.functions[live.name]
            self.world.effects.remove_code(live.name, frozenset())

    def _prune(self, live: Live) -> None:
        """The code of a former revision goes with its last worker, which may import it lazily."""
        keep = {revision.number for revision in live.record.revisions}
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
