"""Every interleaving that the lifecycle can reach, for two replicas and up to three requests."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest
from lifecycle_events import explore
from lifecycle_world import Rules, Violation

from stoker.decide import lifecycle
from stoker.decide.lifecycle import (
    Effect,
    LifecycleError,
    Move,
    Signal,
    WorkerLife,
    move,
)
from stoker.nouns.record import Phase


@pytest.mark.parametrize("capacity", [1, 2])
@pytest.mark.parametrize("requests", [1, 2, 3])
def test_every_accepted_request_gets_exactly_one_outcome(requests: int, capacity: int) -> None:
    assert explore(Rules(capacity=capacity), requests) > 1_000


def test_a_ttl_unload_that_ignores_work_is_found() -> None:
    """llama-swap#946, ollama#17408: an idle unload racing a request hangs that request for ever."""

    def unloads_regardless(life: WorkerLife, signal: Signal) -> Move:
        if life.phase is Phase.READY and signal is Signal.DRAIN:
            gone = life._replace(phase=Phase.DRAINING)
            return Move(gone, (Effect.ANNOUNCE_DRAINING, Effect.EXIT))
        return move(life, signal)

    with pytest.raises(Violation, match=r"stopping|stopped|lost"):
        explore(Rules(move=unloads_regardless), requests=2)


def test_a_draining_worker_that_admits_is_found() -> None:
    """The other half of that race: the request arrives after the unload was decided."""

    def admits_while_draining(life: WorkerLife, signal: Signal) -> Move:
        if life.phase is Phase.DRAINING and signal is Signal.DISPATCH:
            return Move(life._replace(in_flight=life.in_flight + 1), (Effect.ADMIT,))
        return move(life, signal)

    with pytest.raises(Violation, match=r"stopping|stopped|lost"):
        explore(Rules(move=admits_while_draining), requests=2)


def test_a_stale_readiness_verdict_on_a_ready_worker_is_found() -> None:
    def applies_late_verdicts(life: WorkerLife, signal: Signal) -> Move:
        if life.phase is Phase.READY and signal is Signal.READINESS_EXPIRED:
            return Move(life._replace(phase=Phase.FAILED), (Effect.KILL,))
        return move(life, signal)

    with pytest.raises((Violation, LifecycleError)):
        explore(Rules(move=applies_late_verdicts), requests=2)


def test_a_remembered_readiness_verdict_is_found() -> None:
    """Nuclio's scale-from-zero proxy replays one failed readiness check to all for 60 s."""
    with pytest.raises(Violation, match=r"refused although nothing is wrong"):
        explore(Rules(remembers_verdicts=True), requests=2)


def test_a_worker_that_sleeps_on_its_work_is_found() -> None:
    def sleeps_regardless(life: WorkerLife, signal: Signal) -> Move:
        if life.phase is Phase.READY and signal is Signal.SLEEP:
            gone = life._replace(phase=Phase.ASLEEP, in_flight=0)
            return Move(gone, (Effect.OFFLOAD, Effect.ANNOUNCE_ASLEEP))
        return move(life, signal)

    with pytest.raises((Violation, LifecycleError)):
        explore(Rules(move=sleeps_regardless), requests=2)


def test_a_sleeper_that_admits_is_found() -> None:
    def admits_asleep(life: WorkerLife, signal: Signal) -> Move:
        if life.phase is Phase.ASLEEP and signal is Signal.DISPATCH:
            return Move(life._replace(in_flight=life.in_flight + 1), (Effect.ADMIT,))
        return move(life, signal)

    with pytest.raises((Violation, LifecycleError)):
        explore(Rules(move=admits_asleep), requests=2)


def test_no_transition_is_dead_code() -> None:
    visited: set[tuple[Phase, Signal, tuple[Effect, ...]]] = set()
    explore(Rules(eager=True, believed_permits=2, visited=visited), requests=2, accidents=1)
    explore(Rules(permits=2, believed_permits=2, visited=visited), requests=2, accidents=1)
    explore(Rules(visited=visited), requests=1, accidents=3, sleeps=2)
    assert answered() - visited == set()


def test_every_signal_is_sent_by_the_platform_itself() -> None:
    """What only the exploration sends is dead code too."""
    rooms = Path(lifecycle.__file__).parents[1]
    sources = [
        path.read_text()
        for room in ("worker", "controller")
        for path in (rooms / room).glob("*.py")
    ]
    unsent = {s.name for s in Signal if not any(f"Signal.{s.name}" in text for text in sources)}
    assert unsent == set()


def answered() -> set[tuple[Phase, Signal, tuple[Effect, ...]]]:
    """Every (phase, signal, effects) that the transition function can give."""
    found = set()
    for phase, signal, in_flight in itertools.product(Phase, Signal, [0, 1, 2]):
        if in_flight and phase not in (Phase.READY, Phase.DRAINING):
            continue
        with contextlib.suppress(LifecycleError):
            moved = move(WorkerLife(phase, in_flight), signal)
            found.add((phase, signal, moved.effects))
    return found
