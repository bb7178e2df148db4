"""One accepted request in a worker's hands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from stoker.nouns.recording import UNRECORDED
from stoker.nouns.wire import RequestMeta

if TYPE_CHECKING:
    from stoker.worker.connection import Connection
    from stoker.worker.recorder import Tape


class Ticket:
    """A request from its admission to its one outcome. Single writer: the worker's event loop.

    Times are CLOCK_MONOTONIC seconds.

    Attributes:
        deadline: when it must be answered; None is never.
        batch: how many run together with it, itself counted; 0: it runs by itself.
        told_queued: the caller knows that the handler has not seen it.
        runnable: when it could first have run, were it not for the batch's filling.
        task: what runs it, when that is not the loop itself. Set by its first step: a task that is
            cancelled before never runs, and nothing would end the request.
        tape: what of a streamed answer is to be recorded; None: nothing.
        streamed: the head of a streamed answer went out, so no whole answer may follow.
        done: it got its one outcome; later ones are dropped.
        cancelled: the caller no longer wants it.
        expired: its deadline passed while it ran.
        paused: the caller takes no more chunks until `flow` is set.
    """

    __slots__ = (
        "_on_end",
        "arrived",
        "batch",
        "body",
        "cancelled",
        "connection",
        "deadline",
        "done",
        "expired",
        "flow",
        "leave_by",
        "meta",
        "runnable",
        "started",
        "stream",
        "streamed",
        "tape",
        "task",
        "told_queued",
    )

    def __init__(
        self,
        connection: Connection,
        stream: int,
        meta: RequestMeta,
        body: bytes,
        arrived: float,
        deadline: float | None,
    ) -> None:
        self.connection = connection
        self.stream = stream
        self.meta = meta
        self.body = body
        self.arrived = arrived
        self.deadline = deadline
        self.started = 0.0
        self.runnable = 0.0
        self.leave_by = 0.0
        self.batch = 0
        self.told_queued = False
        self.streamed = False
        self.tape: Tape | None = None
        self.cancelled = False
        self.expired = False
        self.done = False
        self.task: asyncio.Task[None] | None = None
        self.flow: asyncio.Event | None = None
        self._on_end: list[Callable[[], object]] | None = None

    def pause(self) -> None:
        """Hold the chunks back."""
        if self.flow is None:
            self.flow = asyncio.Event()
        self.flow.clear()

    def resume(self) -> None:
        """Let the chunks go."""
        if self.flow is not None:
            self.flow.set()

    def cancel(self) -> None:
        """The caller does not want it any more; what cannot be cancelled runs to its end."""
        self.cancelled = True
        self._end()

    def expire(self) -> None:
        """Its deadline passed while it ran."""
        self.expired = True
        self._end()

    def _end(self) -> None:
        if self.task is not None:
            self.task.cancel()
        for tell in self._on_end or ():
            tell()

    @property
    def id(self) -> str:
        """The request's id."""
        return self.meta["id"]

    def stages(self, ended: float) -> dict[str, float]:
        """Where its time in this worker went, for the meta of its answer."""
        held = self.started - self.runnable if self.batch else 0.0
        spent = {
            "queue_s": self.started - self.arrived - held,
            "handler_s": ended - self.started,
        }
        return spent | {"batch": self.batch, "batch_s": held} if self.batch else spent

    @property
    def copied(self) -> bool:
        """It is a copy of another request, replayed or mirrored, or a call made for one."""
        return "copied" in self.meta or not UNRECORDED.isdisjoint(self.meta["headers"])

    @property
    def ended(self) -> bool:
        """Nobody wants the answer any more."""
        return self.cancelled or self.expired

    def on_end(self, tell: Callable[[], object]) -> None:
        """Has ``tell`` called when nobody wants the answer any more; at once, if that is so.

        For what works at it in other tasks than its own: the steps of a graph.
        """
        if self.ended:
            tell()
        elif self._on_end is None:
            self._on_end = [tell]
        else:
            self._on_end.append(tell)

    def off_end(self, tell: Callable[[], object]) -> None:
        """Takes that back."""
        if self._on_end is not None:
            with contextlib.suppress(ValueError):
                self._on_end.remove(tell)
