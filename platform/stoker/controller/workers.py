"""What happens to single workers: started, ready, failed, gone. The lifecycle decides."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial

from stoker.controller.happenings import (
    OverMemory,
    StartRefused,
    WorkerExited,
    WorkerGone,
    WorkerStarted,
    WorkerStated,
)
from stoker.controller.headline import headline
from stoker.controller.replicas import Replicas
from stoker.controller.sleep import Sleep
from stoker.controller.view import Live, Replica, Slot
from stoker.controller.world import World
from stoker.decide.learn import learned, with_shortage
from stoker.decide.lifecycle import Effect, Signal
from stoker.nouns.quantity import format_bytes
from stoker.nouns.record import FunctionRecord, ModelBytes, Phase, Revision

EXIT_WORD_S = 0.5
"""How long the zygote's word on the exit status is waited for after the connection ended."""

Crashed = Callable[[Replica, Slot, str], None]


class Workers:
    """Takes the happenings of single workers."""

    def __init__(self, world: World, replicas: Replicas, sleep: Sleep, crashed: Crashed) -> None:
        self._world = world
        self._replicas = replicas
        self._sleep = sleep
        self._crashed = crashed

    def started(self, event: WorkerStarted) -> None:
        """A zygote forked it. Nobody wants it any more: it ends."""
        found = self._world.slot(event.replica, event.index)
        if found is None or not found[1].running or found[1].answered:
            self._world.effects.kill_worker(event.replica, event.index, event.pid, signal.SIGKILL)
            return
        replica, slot = found
        slot.pid, slot.answered = event.pid, True
        self._world.effects.watch_worker(replica.id, slot.index, slot.socket)
        self._publish(replica)

    def refused(self, event: StartRefused) -> None:
        """Nothing was started, or nobody knows whether."""
        found = self._world.slot(event.replica, event.index)
        if found is None or not found[1].running:
            return
        replica, slot = found
        slot.running, slot.answered = False, True
        if event.zygote_lost:
            # It may have forked before it died. A new replica has sockets of its own, so that a
            # worker nobody knows of cannot sit on one of them; the orphan sweep ends that worker.
            self._replicas.drain(replica)
            return
        slot.move(Signal.EXITED)
        self._crashed(replica, slot, f"could not be started: {event.message}")

    def stated(self, event: WorkerStated) -> None:
        """The worker told its phase."""
        found = self._world.slot(event.replica, event.index)
        if found is None:
            return
        replica, slot = found
        found_running = slot.adopted
        slot.pid, slot.adopted = event.pid or slot.pid, False
        slot.sleeps = event.sleeps
        self._short(replica, slot, event, news=not found_running)
        if event.phase == Phase.ASLEEP:
            self._asleep(replica, slot)
        if event.phase == Phase.DRAINING and event.device_bytes:
            self._measured(replica, event.device_bytes)
        if event.phase == Phase.READY and slot.phase is Phase.READY:
            self._sleep.stayed_awake(replica)
        elif event.phase == Phase.READY and slot.phase is Phase.STARTING:
            self._ready(replica, slot, seen_to_load=not found_running)
        elif event.phase == Phase.FAILED and slot.phase is Phase.STARTING:
            self._replicas.doom(replica, slot, Signal.INIT_FAILED, event.error or "init failed")
        elif event.phase == Phase.DRAINING and not replica.draining:
            slot.move(Signal.DRAIN)
            self._publish(replica)

    def _asleep(self, replica: Replica, slot: Slot) -> None:
        if slot.phase is Phase.STARTING and slot.ready_at is None:
            slot.move(Signal.INITIALIZED)  # it had been put to sleep before this controller came
        slot.move(Signal.SLEEP)
        self._sleep.fell_asleep(replica)

    def _measured(self, replica: Replica, peak: int) -> None:
        """One that goes has told its peak: what its revision's next replica is placed by.

        Not before it goes, and not of a function that has answered nothing yet: a model that has
        only been loaded has not shown what it computes with.
        """
        live = self._world.functions.get(replica.function)
        if live is not None and live.answered:
            change = partial(_with_model, replica.revision, partial(_with_peak, peak))
            self._world.change(live.name, change, stamped=False)

    def _short(self, replica: Replica, slot: Slot, event: WorkerStated, *, news: bool) -> None:
        """Requests of its failed because its devices had no memory left: the next one gets more.

        What it told a former controller is no news.
        """
        times = event.short_times - slot.short_times
        slot.short_times = event.short_times
        revision = self._world.revision(replica)
        if times <= 0 or not news or revision is None:
            return
        learn = partial(with_shortage, times=times, needed=event.short_bytes)
        after = learn(revision.model)
        if after == revision.model:
            return
        change = partial(_with_model, replica.revision, learn)
        self._world.change(replica.function, change, stamped=False)
        if learned(after) > learned(revision.model):
            self._world.tell(
                replica.function,
                f"replica {replica.id} was out of device memory more than once: one worker needs "
                f"{format_bytes(learned(after))} for the largest request that it refused; the next "
                "replica gets that where it can be had",
                "warning",
            )

    def _ready(self, replica: Replica, slot: Slot, *, seen_to_load: bool) -> None:
        slot.move(Signal.INITIALIZED)
        now = self._world.now()
        slot.ready_at = now
        live = self._world.functions.get(replica.function)
        if live is not None:
            # Who waits here waits for what serves: a canary is no answer to a wake.
            if replica not in self._world.canary_replicas(live):
                self._measure_wake(live, replica)
                live.asked_at = None
            if slot.roused_at is not None:
                live.rouses.append(now - slot.roused_at)
            elif seen_to_load and replica.was_ready is False and not slot.crashes:
                live.loads.append(now - slot.begun_at)
        slot.roused_at = None
        replica.was_ready = True
        self._publish(replica)

    def _measure_wake(self, live: Live, replica: Replica) -> None:
        serving = live.record.serving
        # What a deployment takes, its build included, says nothing of the next wake.
        if serving is None or serving.number != replica.revision or replica.was_ready:
            return
        if live.asked_at is not None:
            took = self._world.now() - max(live.asked_at, live.barred_at)
            # Longer waits got 503: that is a failure, and no wake.
            if took <= serving.config.readiness_s:
                live.wakes.append(took)

    def gone(self, event: WorkerGone) -> None:
        """Its connection ended: it is dead, and the zygote may tell how."""
        found = self._world.slot(event.replica, event.index)
        if found is None or not found[1].running:
            return
        replica, slot = found
        slot.gone_at = self._world.now()
        if slot.exit_status is not None or replica.draining or slot.adopted:
            self._settle(replica, slot)

    def exited(self, event: WorkerExited) -> None:
        """The zygote reaped it."""
        found = self._world.slot(event.replica, event.index)
        if found is None or not found[1].running or found[1].pid != event.pid:
            return
        replica, slot = found
        slot.exit_status = event.status
        self._settle(replica, slot)

    def over_memory(self, event: OverMemory) -> None:
        """Ends the worker that holds the most of a replica over its limit."""
        found = self._world.slot(event.replica, event.index)
        if found is None or not found[1].running or found[1].doomed:
            return
        replica, slot = found
        slot.doomed = event.message
        self._world.effects.kill_worker(replica.id, slot.index, slot.pid, signal.SIGKILL)

    def look(self, replica: Replica, slot: Slot) -> None:
        """What time does to one worker: readiness, missing exit words, replacements."""
        now = self._world.now()
        if slot.running and slot.gone_at is not None and now >= slot.gone_at + EXIT_WORD_S:
            self._settle(replica, slot)
        elif slot.running and slot.phase is Phase.STARTING and now >= slot.deadline:
            self._too_slow(replica, slot)
        elif slot.restart_at is not None and now >= slot.restart_at:
            self._restart(replica, slot)

    def _too_slow(self, replica: Replica, slot: Slot) -> None:
        revision = self._world.revision(replica)
        allowed = f"{revision.config.readiness_s:g} s" if revision else "its readiness timeout"
        self._replicas.doom(
            replica, slot, Signal.READINESS_EXPIRED, f"was not ready within {allowed}"
        )
        if not slot.pid:
            self._settle(replica, slot)

    def _restart(self, replica: Replica, slot: Slot) -> None:
        slot.restart_at = None
        revision = self._world.revision(replica)
        if revision is not None:
            self._replicas.start_slot(replica, slot, revision)

    def _settle(self, replica: Replica, slot: Slot) -> None:
        """The process is over: its place is free, and somebody must care or nobody."""
        was = slot.phase
        slot.running = False
        effects = slot.move(Signal.EXITED)
        if slot.exit_status is None and slot.pid and not slot.adopted:
            # A closed connection without a reaped process: it hangs, or the zygote is gone too.
            self._world.effects.kill_worker(replica.id, slot.index, slot.pid, signal.SIGKILL)
        self._world.effects.forget_worker(replica.id, slot.index, slot.socket)
        if replica.draining:
            if replica.is_empty:
                self._replicas.remove(replica)
        elif was is Phase.ASLEEP:
            # Nobody waits for it, and its siblings alone are no replica.
            self._replicas.drain(replica)
        elif slot.adopted or was is Phase.DRAINING:
            self._left(replica, slot)
        elif Effect.REPLACE in effects or was is Phase.FAILED:
            why = slot.doomed or _reason(slot)
            self._world.effects.log_worker(
                replica.record(), slot.index, "error", f"the worker is gone: {headline(why)}"
            )
            self._crashed(replica, slot, why)

    def _left(self, replica: Replica, slot: Slot) -> None:
        """It went of itself, or was dead when this controller came: no crash to count."""
        if replica.is_empty:
            self._replicas.remove(replica)
        else:
            slot.restart_at = self._world.now()

    def _publish(self, replica: Replica) -> None:
        """Writes the record once every place has its answer: one write a start."""
        if all(slot.answered or not slot.running for slot in replica.slots):
            self._world.effects.put_replica(replica.record())


def _with_model(
    number: int, learn: Callable[[ModelBytes | None], ModelBytes], record: FunctionRecord
) -> FunctionRecord:
    """The record in which more is known of that revision's bytes; itself where it is no news."""
    updates: dict[str, object] = {}
    for field in ("serving", "candidate"):
        revision: Revision | None = getattr(record, field)
        known = _knows(number, learn, revision)
        if known is not revision:
            updates[field] = known
    canary = record.canary
    if canary is not None:
        tried = _knows(number, learn, canary.revision)
        if tried is not canary.revision:
            updates["canary"] = canary.model_copy(update={"revision": tried})
    return record.model_copy(update=updates) if updates else record


def _knows(
    number: int, learn: Callable[[ModelBytes | None], ModelBytes], revision: Revision | None
) -> Revision | None:
    """The revision with what was learned; itself where it is another one, or knew that."""
    if revision is None or revision.number != number:
        return revision
    model = learn(revision.model)
    return revision if model == revision.model else revision.model_copy(update={"model": model})


def _with_peak(peak: int, model: ModelBytes | None) -> ModelBytes:
    known = model or ModelBytes(key="", weights=0)
    return known if peak <= known.measured else known.model_copy(update={"measured": peak})


def _reason(slot: Slot) -> str:
    """How its process ended, for people."""
    status = slot.exit_status
    if status is None:
        return "died (exit status unknown)"
    if status >= 0:
        return f"ended with exit code {status}"
    if -status == signal.SIGALRM:
        return "handler ran past eventTimeout"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"killed by {name}" + (" (out of memory?)" if -status == signal.SIGKILL else "")
