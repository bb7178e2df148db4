"""The request that a step works at, as far as it matters to the step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol


class Running(Protocol):
    """A request in a worker's hands; `stoker.worker.ticket.Ticket` is one.

    Attributes:
        deadline: CLOCK_MONOTONIC seconds after which nobody wants its answer, or None.
        done: it has its answer. What the graph still does with its event has no deadline.
        task: what its handler runs in; cancelled at its end.
    """

    deadline: float | None
    done: bool
    task: asyncio.Task[None] | None

    @property
    def ended(self) -> bool:
        """Nobody waits any more: the client left, or the deadline passed."""

    @property
    def copied(self) -> bool:
        """It is a copy of another request: replayed, or mirrored."""

    @property
    def id(self) -> str:
        """The request's id."""

    def on_end(self, tell: Callable[[], object], /) -> None:
        """Has ``tell`` called once nobody waits."""

    def off_end(self, tell: Callable[[], object], /) -> None:
        """Takes that back."""


class Bounds(NamedTuple):
    """What a call takes from the request that it is made for.

    Attributes:
        request_id: shown in the log of the function that is called; empty: of none.
        deadline: CLOCK_MONOTONIC seconds, or None.
        step: the name of the step that calls.
        copied: it calls for a copy of a request, which is not to be recorded again.
    """

    request_id: str = ""
    deadline: float | None = None
    step: str = ""
    copied: bool = False


NONE = Bounds()
BOUNDS: ContextVar[Bounds] = ContextVar("stoker_bounds", default=NONE)
"""Of the step that runs in this context. A flow runs its steps in tasks of its own, which know
nothing of the task that the request came in by."""


def running(event: Any) -> Running | None:
    """The request that an event belongs to; None for one that a step has made up."""
    found: Running | None = getattr(event, "_request", None)
    return found


def bounds(request: Running | None, *, waited: bool, step: str) -> Bounds:
    """What calls for a request take from it; ``waited``: somebody waits for its answer still."""
    if request is None:
        return Bounds(step=step)
    return Bounds(request.id, request.deadline if waited else None, step, request.copied)
