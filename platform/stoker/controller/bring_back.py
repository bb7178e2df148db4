"""What the store has forgotten and the controller has not: a Redis that came back with less."""

from __future__ import annotations

from collections.abc import Mapping

from stoker.controller.effects import Change
from stoker.controller.view import Live
from stoker.controller.world import World
from stoker.nouns.record import FunctionRecord


def bring_back(
    world: World, seen: Mapping[str, FunctionRecord], unreadable: frozenset[str]
) -> None:
    """Asks for the writes by which the store knows again what is known here.

    Whatever else it holds is news: somebody has deployed since it came back.

    Args:
        world: what is known here.
        seen: what the store holds now.
        unreadable: functions that it holds and that cannot be read: they are not lost.
    """
    for name, live in world.functions.items():
        if live.deleted or name in unreadable:
            continue
        if name not in seen:
            world.effects.restore_function(live.record)
        elif _is_behind(seen[name], live.record, live.tried, live.settled):
            world.effects.change_function(name, _as_known(live))
        if live.in_progress and live.rollout is None:
            live.settled = 0  # How it ended was never written: it is tried again.


def _as_known(live: Live) -> Change:
    known, tried, settled = live.record, live.tried, live.settled

    def change(record: FunctionRecord) -> FunctionRecord:
        return known if _is_behind(record, known, tried, settled) else record

    return change


def _is_behind(record: FunctionRecord, known: FunctionRecord, tried: int, settled: int) -> bool:
    """Whether it is what was there before ``known``, of the same function.

    Args:
        record: as the store has it.
        known: as the store had it last.
        tried: number of the last canary that is over.
        settled: number of the last candidate whose deployment is.
    """
    if record.created_at != known.created_at:
        return False
    canary, candidate = record.canary, record.candidate
    over = canary is not None and canary.revision.number <= tried
    ended = candidate is not None and candidate.number <= settled and not record.state.is_settled
    return is_older(record, known) or over or (ended and known.state.is_settled)


def is_older(record: FunctionRecord, known: FunctionRecord) -> bool:
    """Two readers of the store may overtake each other; neither number ever goes back."""
    serving, known_serving = record.serving, known.serving
    behind = known_serving is not None and (
        serving is None or serving.number < known_serving.number
    )
    return behind or record.last_revision < known.last_revision
