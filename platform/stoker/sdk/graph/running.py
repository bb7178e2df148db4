"""The request that a step works at, as far as it matters to the step."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol


class Running(Protocol):
    """A request in a worker's hands; `stoker.worker.ticket.Ticket` is one.

    Attributes:
        deadline: CLOCK_MONOTONIC seconds after which nobody wants its answer, or None.
        ended: nobody waits any more: the client left, or the deadline passed.
    """

    deadline: float | None

    @property
    def ended(self) -> bool:
        """Nobody waits any more."""

    @property
    def id(self) -> str:
        """The request's id."""

    def on_end(self, tell: Callable[[], object], /) -> None:
        """Has ``tell`` called once nobody waits."""

    def off_end(self, tell: Callable[[], object], /) -> None:
        """Takes that back."""


RUNNING: ContextVar[Running | None] = ContextVar("stoker_running", default=None)
"""Of the step that runs in this context. A flow runs its steps in tasks of its own, which know
nothing of the task that the request came in by."""


def running(event: Any) -> Running | None:
    """The request that an event belongs to; None for one that a step has made up."""
    found: Running | None = getattr(event, "_request", None)
    return found
