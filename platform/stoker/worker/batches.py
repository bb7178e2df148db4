"""Runs the handler over batches: a list of events in, a list of answers out."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

import nuclio_sdk

from stoker.decide.batch import assemble, leave_by
from stoker.nouns.errors import HandlerFailed
from stoker.nouns.launch import WorkerLaunch
from stoker.nouns.record import Phase
from stoker.worker.answer import Answer, distinct, encode, match_batch, stream_of
from stoker.worker.deadline import DEADLINE
from stoker.worker.desk import Desk
from stoker.worker.handler import Handler
from stoker.worker.log import REQUEST_ID, WorkerLog
from stoker.worker.runner import ASYNC_GRACE_S, SYNC_GRACE_S, Runner
from stoker.worker.ticket import Ticket
from stoker.worker.watchdog import Watchdog


class BatchRunner(Runner):
    """Collects requests into batches; one batch at a time.

    The handler answers per event. An Exception in its list fails that event alone; an exception
    that it raises fails every event of the batch, for nothing says which of them is to blame, and
    running them again one by one could repeat what was done already. An answer that is a stream or
    a coroutine goes on beside those of its neighbours: each ends by itself, when its caller leaves
    as well, and the next batch starts after the last.
    """

    def __init__(
        self,
        desk: Desk,
        handler: Handler,
        launch: WorkerLaunch,
        log: WorkerLog,
        watchdog: Watchdog,
    ) -> None:
        super().__init__(desk, handler, launch, log, watchdog)
        self._size = launch.batch_size
        self._timeout_s = launch.batch_timeout_s
        self._alarm: asyncio.TimerHandle | None = None
        self._free_since = time.monotonic()
        self._going_on = 0

    def pump(self) -> None:
        """Start a batch if one is due, else see to it that this is asked again in time."""
        # Again when all of a slice were overdue: nothing else would ask for the rest.
        while self.desk.waiting and self._pump_slice():
            pass

    def _pump_slice(self) -> bool:
        """Start a batch if one is due; whether events were taken, none of which could be run."""
        waiting = self.desk.waiting
        now = time.monotonic()
        plan = assemble(
            len(waiting),
            self._soonest_leave(),
            size=self._size,
            busy=self.occupied,
            closing=self.desk.life.phase is Phase.DRAINING,
            now=now,
        )
        self._set_alarm(None if plan.wait_until is None else plan.wait_until - now)
        taken = [waiting.popleft() for _ in range(plan.take)]
        self.desk.tell_queued()
        batch = [ticket for ticket in taken if not ticket.done and not self.overdue(ticket)]
        if batch:
            self._start(batch)
        return bool(taken) and not batch

    def _soonest_leave(self) -> float:
        soonest = float("inf")
        for ticket in self.desk.waiting:
            if not ticket.leave_by:
                ticket.leave_by = leave_by(ticket.arrived, ticket.deadline, self._timeout_s)
            soonest = min(soonest, ticket.leave_by)
        return soonest

    def _set_alarm(self, delay_s: float | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if delay_s is not None:
            self._alarm = self.loop.call_later(max(0.0, delay_s), self.pump)

    def _start(self, batch: list[Ticket]) -> None:
        events = [self.event_of(ticket) for ticket in batch]
        events[-1].last_in_batch = True
        for event, id_ in zip(events, _event_ids(batch), strict=True):
            event.id = id_
        now = time.monotonic()
        for ticket in batch:
            ticket.runnable = max(ticket.arrived, self._free_since)
            ticket.started = now
            ticket.batch = len(batch)
            self.desk.tell_started(ticket)
        self.occupied = True
        if self.handler.is_async:
            self._spawn_batch(batch, lambda: self.handler.call(self.handler.context, events))
        else:
            self._run_batch(batch, events)

    def _run_batch(self, batch: list[Ticket], events: list[nuclio_sdk.Event]) -> None:
        deadline = _latest_deadline(batch)
        guard = self.guard(batch[-1].arrived, SYNC_GRACE_S)
        REQUEST_ID.set(_ids(batch))
        DEADLINE.set(deadline)
        try:
            output = self.handler.call(self.handler.context, events)
            if inspect.isawaitable(output):
                self._spawn_batch(batch, lambda: output)
                return
            outputs = match_batch(output, _event_ids(batch))
        except Exception as exc:
            outputs = [self.failed(exc)] * len(batch)
        except BaseException as exc:
            self.crash(exc)
            return
        finally:
            self.unguard(guard)
            self.leave_request()
        self._settle(batch, outputs)

    def _spawn_batch(self, batch: list[Ticket], begin: Callable[[], Any]) -> None:
        self.spawn(self._await_batch(batch, begin))

    def _cancel_at(self, deadline: float | None) -> asyncio.TimerHandle | None:
        # By the task itself: one that is cancelled before its first step never runs at all.
        task = asyncio.current_task()
        if deadline is None or task is None:
            return None
        return self.loop.call_later(max(0.0, deadline - time.monotonic()), task.cancel)

    async def _await_batch(self, batch: list[Ticket], begin: Callable[[], Any]) -> None:
        deadline = _latest_deadline(batch)
        guard = self.guard(batch[-1].arrived, ASYNC_GRACE_S)
        timer = self._cancel_at(deadline)
        self._cancel_when_all_left(batch)
        REQUEST_ID.set(_ids(batch))
        DEADLINE.set(deadline)
        try:
            outputs = match_batch(await begin(), _event_ids(batch))
        except asyncio.CancelledError as exc:
            self._interrupted_batch(batch, deadline, exc)
            return
        except Exception as exc:
            outputs = [self.failed(exc)] * len(batch)
        except BaseException as exc:
            self.crash(exc)
            return
        finally:
            if timer is not None:
                timer.cancel()
            self.unguard(guard)
        self._settle(batch, outputs)

    def _cancel_when_all_left(self, batch: list[Ticket]) -> None:
        task = asyncio.current_task()

        def look() -> None:
            if task is not None and all(ticket.ended for ticket in batch):
                task.cancel()

        for ticket in batch:
            ticket.on_end(look)

    def _interrupted_batch(
        self, batch: list[Ticket], deadline: float | None, exc: BaseException
    ) -> None:
        late = deadline is not None and time.monotonic() >= deadline - 0.01
        for ticket in batch:
            if ticket.cancelled:
                self.desk.end(ticket)
            elif late:
                self.desk.expire(ticket)
            else:
                self.desk.answer(ticket, self.failed(exc), ended=time.monotonic())
        self._freed()

    def _one(self, item: Any) -> Answer:
        if isinstance(item, Answer):
            return item
        if isinstance(item, Exception):
            return self.failed(item)
        try:
            return encode(item)
        except HandlerFailed as exc:
            return self.failed(exc)

    def _settle(self, batch: list[Ticket], outputs: list[Any]) -> None:
        ended = time.monotonic()
        for ticket, output in zip(batch, outputs, strict=True):
            if inspect.isawaitable(output) or stream_of(output) is not None:
                self._going_on += 1
                self.spawn(self._go_on(ticket, output))
            else:
                self.desk.answer(ticket, self._one(output), ended=ended)
        if not self._going_on:
            self._freed()

    async def _go_on(self, ticket: Ticket, output: Any) -> None:
        task = ticket.task = asyncio.current_task()
        if ticket.ended and task is not None:
            task.cancel()
        REQUEST_ID.set(ticket.id)
        DEADLINE.set(ticket.deadline)
        try:
            await self.see_through(ticket, lambda: output, None)
        finally:
            self._going_on -= 1
            if not self._going_on:
                self._freed()

    def _freed(self) -> None:
        self.occupied = False
        self._free_since = time.monotonic()
        # Not now: the loop turns first, so that the answers go out before the next batch blocks it
        # and what arrived meanwhile is part of that batch.
        self.loop.call_soon(self._pump_after_answers)

    def _pump_after_answers(self) -> None:
        self.loop.call_soon(self.pump)


def _latest_deadline(batch: list[Ticket]) -> float | None:
    deadlines = [ticket.deadline for ticket in batch]
    known = [deadline for deadline in deadlines if deadline is not None]
    return max(known) if len(known) == len(deadlines) else None


def _event_ids(batch: list[Ticket]) -> list[str]:
    return distinct([ticket.meta["id"] for ticket in batch])


def _ids(batch: list[Ticket]) -> str:
    return ",".join(ticket.meta["id"] for ticket in batch)
