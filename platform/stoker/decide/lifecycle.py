"""The life of a worker process: its phases, what can happen to it, and what follows.

This is the only place that says what a worker may do in which phase. The worker runs it to admit
or refuse requests and to end itself, the controller runs it to replace or forget the worker, and
``tests/unit/decide/test_lifecycle_exploration.py`` explores every interleaving that it can reach.

======== ================ ==================== ======================================
phase    signal           next                 effects
======== ================ ==================== ======================================
starting initialized      ready                announce_ready
starting init_failed      failed               kill
starting dispatch         starting             refuse
starting drain            draining             announce_draining, exit
starting readiness_exp.   failed               kill
starting exited           failed               replace
ready    dispatch         ready                admit, or refuse when its permits are out
ready    finish           ready                -
ready    sleep            asleep               offload, announce_asleep; - when it has work
ready    drain            draining             announce_draining, and exit when idle
ready    readiness_exp.   ready                - (a verdict that came too late)
ready    exited           failed               replace
asleep   wake             starting             announce_starting, load
asleep   dispatch         asleep               refuse
asleep   drain            draining             announce_draining, exit
asleep   exited           stopped              forget (nobody counts on it)
draining dispatch         draining             refuse
draining finish           draining             exit when it was the last
draining initialized, …   draining             - (and sleep, wake)
draining exited           stopped              forget
failed   dispatch         failed               refuse
failed   exited           failed               forget
======== ================ ==================== ======================================
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from stoker.nouns.record import Phase


class Signal(StrEnum):
    """What can happen to a worker."""

    __hash__ = str.__hash__  # see Phase

    INITIALIZED = "initialized"
    """``init_context`` returned."""
    INIT_FAILED = "init_failed"
    """The import or ``init_context`` raised."""
    DISPATCH = "dispatch"
    """A request arrived at the worker."""
    FINISH = "finish"
    """A request that it had admitted got its outcome."""
    SLEEP = "sleep"
    """Its weights are to leave the device, because nobody asks for it or others need the room."""
    WAKE = "wake"
    """Its weights are to come back."""
    DRAIN = "drain"
    """It was asked to go: its idle window passed, redeploy, scale-down, delete, shutdown."""
    READINESS_EXPIRED = "readiness_expired"
    """The time that it had to become ready is over."""
    EXITED = "exited"
    """Its process ended, for whatever reason."""


class Effect(StrEnum):
    """What must be done about it."""

    ANNOUNCE_READY = "announce_ready"
    ADMIT = "admit"
    REFUSE = "refuse"
    OFFLOAD = "offload"
    """Its weights leave the device. Before it is announced: then the room is free."""
    ANNOUNCE_ASLEEP = "announce_asleep"
    ANNOUNCE_STARTING = "announce_starting"
    LOAD = "load"
    """Its weights come back to the device; ends in ``initialized`` or ``init_failed``."""
    ANNOUNCE_DRAINING = "announce_draining"
    EXIT = "exit"
    """It has no work left and may not take more: its process ends by itself."""
    KILL = "kill"
    """Its process must be ended from outside."""
    REPLACE = "replace"
    """It went unasked: whoever wants its capacity must start another, after the back-off."""
    FORGET = "forget"
    """It went as asked, or its failure is known already: its record goes."""


class WorkerLife(NamedTuple):
    """A worker as the lifecycle sees it: phase, requests in its hands, and how many it may hold."""

    phase: Phase
    in_flight: int = 0
    permits: int = 1


class Move(NamedTuple):
    """The life after a signal, and the effects, in the order in which they must happen."""

    life: WorkerLife
    effects: tuple[Effect, ...] = ()


class LifecycleError(Exception):
    """A signal that cannot happen in this phase: a bug in whoever sent it, never a user's fault."""


_LATE = {
    Phase.STARTING: {Signal.SLEEP, Signal.WAKE},
    Phase.READY: {Signal.READINESS_EXPIRED, Signal.WAKE},
    Phase.ASLEEP: {Signal.READINESS_EXPIRED, Signal.SLEEP},
    Phase.DRAINING: {
        Signal.INITIALIZED,
        Signal.INIT_FAILED,
        Signal.DRAIN,
        Signal.READINESS_EXPIRED,
        Signal.SLEEP,
        Signal.WAKE,
    },
    Phase.FAILED: {Signal.DRAIN, Signal.READINESS_EXPIRED, Signal.SLEEP, Signal.WAKE},
}
"""Signals that were right when they were sent and mean nothing on arrival."""


@lru_cache(maxsize=16_384)
def move(life: WorkerLife, signal: Signal) -> Move:
    """The one transition function.

    Raises:
        LifecycleError: the signal cannot happen in this phase.
    """
    if signal in _LATE.get(life.phase, ()):
        return Move(life)
    match life.phase, signal:
        case Phase.STARTING, Signal.INITIALIZED:
            return Move(life._replace(phase=Phase.READY), (Effect.ANNOUNCE_READY,))
        case Phase.STARTING, Signal.INIT_FAILED | Signal.READINESS_EXPIRED:
            return Move(life._replace(phase=Phase.FAILED), (Effect.KILL,))
        case Phase.READY, Signal.DISPATCH if life.in_flight < life.permits:
            return Move(life._replace(in_flight=life.in_flight + 1), (Effect.ADMIT,))
        case (
            (Phase.STARTING | Phase.READY | Phase.ASLEEP | Phase.DRAINING | Phase.FAILED),
            Signal.DISPATCH,
        ):
            return Move(life, (Effect.REFUSE,))
        case Phase.READY, Signal.SLEEP:
            if life.in_flight:
                # Whoever asked did not know of its work; its state says that it goes on.
                return Move(life)
            return Move(life._replace(phase=Phase.ASLEEP), (Effect.OFFLOAD, Effect.ANNOUNCE_ASLEEP))
        case Phase.ASLEEP, Signal.WAKE:
            return Move(
                life._replace(phase=Phase.STARTING), (Effect.ANNOUNCE_STARTING, Effect.LOAD)
            )
        case ((Phase.READY | Phase.DRAINING), Signal.FINISH) if life.in_flight > 0:
            after = life._replace(in_flight=life.in_flight - 1)
            last = after.phase is Phase.DRAINING and after.in_flight == 0
            return Move(after, (Effect.EXIT,) if last else ())
        case ((Phase.STARTING | Phase.READY | Phase.ASLEEP), Signal.DRAIN):
            idle = (Effect.EXIT,) if life.in_flight == 0 else ()
            return Move(life._replace(phase=Phase.DRAINING), (Effect.ANNOUNCE_DRAINING, *idle))
        case ((Phase.STARTING | Phase.READY), Signal.EXITED):
            return Move(life._replace(phase=Phase.FAILED, in_flight=0), (Effect.REPLACE,))
        case ((Phase.DRAINING | Phase.ASLEEP), Signal.EXITED):
            return Move(life._replace(phase=Phase.STOPPED, in_flight=0), (Effect.FORGET,))
        case Phase.FAILED, Signal.EXITED:
            return Move(life, (Effect.FORGET,))
    raise LifecycleError(f"{signal} cannot happen to a worker that is {life.phase}: {life}")
