"""Runs the handler: one request at a time, or many coroutines at once. Batches: `batches`."""

from __future__ import annotations

import asyncio
import inspect
import time
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import nuclio_sdk
import orjson
from nuclio_sdk.event import TriggerInfo

from stoker.models.held import note_shortage
from stoker.models.lost import CardLost, end_if_lost
from stoker.nouns.errors import HandlerFailed
from stoker.nouns.launch import WorkerLaunch
from stoker.nouns.secrecy import mask_text, secret_values
from stoker.nouns.wire import Kind
from stoker.worker.answer import (
    Answer,
    Chunks,
    chunk_of,
    encode,
    from_exception,
    head_of,
    stream_of,
)
from stoker.worker.deadline import DEADLINE
from stoker.worker.desk import Desk
from stoker.worker.ends import ENDED_OK, error_end
from stoker.worker.event import make_event
from stoker.worker.handler import Handler
from stoker.worker.log import REQUEST_ID, WorkerLog
from stoker.worker.logger import CAPTURE, Capture
from stoker.worker.ticket import Ticket
from stoker.worker.watchdog import Guard, Watchdog

SYNC_GRACE_S = 0.25
"""Seconds past the function's timeout that a blocking handler gets: it may be about to return."""
ASYNC_GRACE_S = 1.0
"""Seconds that a cancelled handler gets to clean up after itself."""

_WHOLE = frozenset({str, dict, list, bytes, tuple, type(None)})
_EXHAUSTED = object()


class HandlerExit(Exception):
    """The handler ended the process (``sys.exit``). ``code`` is never 0: nobody asked for it."""

    def __init__(self, exc: BaseException) -> None:
        super().__init__(f"the handler raised {type(exc).__name__}: {exc}")
        code = getattr(exc, "code", None)
        self.code = code if isinstance(code, int) and 0 < code < 256 else 70


class Runner:
    """Takes requests from the desk and sees each to its outcome, without batching.

    A sync handler runs on the loop itself, one request a turn: nothing is faster, and nothing else
    is done meanwhile. An ``async def`` handler runs as one task a request.

    Attributes:
        occupied: a sync handler, or the stream or coroutine that it returned, is not finished.
    """

    def __init__(
        self,
        desk: Desk,
        handler: Handler,
        launch: WorkerLaunch,
        log: WorkerLog,
        watchdog: Watchdog,
    ) -> None:
        self.desk = desk
        self.handler = handler
        self.log = log
        self.watchdog = watchdog
        self.loop = asyncio.get_running_loop()
        self.crashed: asyncio.Future[HandlerExit] = self.loop.create_future()
        self.occupied = False
        self._limit_s = launch.event_timeout_s
        self._secrets = secrets_of(launch)
        http = launch.trigger_name if launch.trigger_kind == "http" else "default-http"
        self._default_trigger = TriggerInfo("http", http)
        self._tasks: set[asyncio.Task[None]] = set()

    def pump(self) -> None:
        """Start what may start now."""
        if self.handler.is_async:
            self._start_all()
        else:
            self._run_next()

    def _start_all(self) -> None:
        waiting = self.desk.waiting
        while waiting:
            ticket = waiting.popleft()
            self._tasks.add(self.loop.create_task(self._run_async(ticket)))

    def spawn(self, work: Any) -> asyncio.Task[None]:
        """A task that is kept until it ends."""
        task: asyncio.Task[None] = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _run_next(self) -> None:
        waiting = self.desk.waiting
        if not waiting:
            return
        if self.occupied:
            self.desk.tell_queued()
            return
        ticket = waiting.popleft()
        if waiting:
            self.desk.tell_queued()
            # A turn of the loop between two requests, so that CANCEL and DRAIN are seen.
            self.loop.call_soon(self.pump)
        self._run_sync(ticket)

    # One request

    def overdue(self, ticket: Ticket) -> bool:
        """Answer a request whose deadline passed while it waited; it is never begun."""
        if ticket.deadline is None or time.monotonic() < ticket.deadline:
            return False
        self.desk.expire(ticket)
        return True

    def event_of(self, ticket: Ticket) -> nuclio_sdk.Event:
        """The event of a request."""
        name = ticket.meta.get("trigger")
        trigger = self._trigger(ticket, name) if name else self._default_trigger
        return make_event(ticket.meta, ticket.body, trigger, ticket)

    def _trigger(self, ticket: Ticket, name: str) -> TriggerInfo:
        record = ticket.meta.get("record")
        if record is None:
            return TriggerInfo("cron", name)
        self.desk.acks.note(ticket)
        return TriggerInfo(record["kind"], name)

    def _enter(self, ticket: Ticket) -> Capture | None:
        """Make this the request that log lines and outgoing calls belong to."""
        REQUEST_ID.set(ticket.meta["id"])
        if DEADLINE.get() is not ticket.deadline:
            DEADLINE.set(ticket.deadline)
        level = ticket.meta["headers"].get("x-nuclio-log-level")
        capture = Capture(level) if level else None
        if capture is not None or CAPTURE.get() is not None:
            CAPTURE.set(capture)
        return capture

    def leave_request(self) -> None:
        """What is logged from here on belongs to no request."""
        REQUEST_ID.set("")
        if DEADLINE.get() is not None:
            DEADLINE.set(None)
        if CAPTURE.get() is not None:
            CAPTURE.set(None)

    def guard(self, arrived: float, grace_s: float) -> Guard | None:
        """Have the process killed if the work overstays the function's own timeout.

        Not the caller's: with short ones any caller could have a healthy worker killed at will.
        """
        limit = self._limit_s
        return None if limit is None else self.watchdog.guard(arrived + limit + grace_s)

    def unguard(self, guard: Guard | None) -> None:
        """The work ended."""
        if guard is not None:
            self.watchdog.release(guard)

    def _run_sync(self, ticket: Ticket) -> None:
        if self.overdue(ticket):
            return
        event = self.event_of(ticket)
        self.desk.tell_started(ticket)
        if ticket.done:
            # Its caller was found to be gone when it was told, or when the others were.
            return
        capture = self._enter(ticket)
        ticket.started = time.monotonic()
        guard = self.guard(ticket.arrived, SYNC_GRACE_S)
        try:
            output = self.handler.call(self.handler.context, event)
            if type(output) not in _WHOLE and (
                inspect.isawaitable(output) or stream_of(output) is not None
            ):
                self._continue(ticket, output, capture)
                return
            answer = encode(output)
        except Exception as exc:
            answer = self.failed(exc)
        except BaseException as exc:
            self.crash(exc)
            return
        finally:
            self.unguard(guard)
            self.leave_request()
        self._answer(ticket, answer, capture, now=True)

    def _continue(self, ticket: Ticket, output: Any, capture: Capture | None) -> None:
        """A sync handler returned a stream or a coroutine: the worker is occupied until its end."""
        self.occupied = True

        async def run() -> None:
            task = ticket.task = asyncio.current_task()
            if ticket.cancelled and task is not None:
                task.cancel()
            try:
                await self.see_through(ticket, lambda: output, capture)
            finally:
                self.occupied = False
                self.pump()

        self.spawn(run())

    async def _run_async(self, ticket: Ticket) -> None:
        task = ticket.task = asyncio.current_task()
        try:
            if ticket.done or self.overdue(ticket):
                return
            capture = self._enter(ticket)
            ticket.started = time.monotonic()
            event = self.event_of(ticket)
            await self.see_through(
                ticket, lambda: self.handler.call(self.handler.context, event), capture
            )
        finally:
            # Here rather than in a done-callback, which is one more call of the loop a request.
            if task is not None:
                self._tasks.discard(task)

    async def see_through(
        self, ticket: Ticket, begin: Callable[[], Any], capture: Capture | None
    ) -> None:
        """Await or stream what ``begin`` gives up to the deadline, and give the outcome."""
        guard = self.guard(ticket.arrived, ASYNC_GRACE_S)
        timer = self._expiry(ticket)
        try:
            output = begin()
            if inspect.isawaitable(output):
                output = await output
            stream = None if type(output) in _WHOLE else stream_of(output)
            if stream is not None:
                await self._stream(ticket, *stream)
                return
            self._answer(ticket, encode(output), capture)
        except asyncio.CancelledError as exc:
            self._interrupted(ticket, exc)
        except Exception as exc:
            self._answer(ticket, self.failed(exc), capture)
        except BaseException as exc:
            self.crash(exc)
        finally:
            if timer is not None:
                timer.cancel()
            self.unguard(guard)

    def _expiry(self, ticket: Ticket) -> asyncio.TimerHandle | None:
        if ticket.deadline is None:
            return None

        left_s = max(0.0, ticket.deadline - time.monotonic())
        return self.loop.call_later(left_s, ticket.expire)

    def _interrupted(self, ticket: Ticket, exc: BaseException) -> None:
        if ticket.expired and not ticket.cancelled:
            self.desk.expire(ticket)
        elif ticket.cancelled:
            self.desk.end(ticket)
        else:
            self.desk.answer(ticket, self.failed(exc), ended=time.monotonic())

    def _answer(
        self, ticket: Ticket, answer: Answer, capture: Capture | None, *, now: bool = False
    ) -> None:
        ended = time.monotonic()
        if answer.status >= 400 and ticket.deadline is not None and ended >= ticket.deadline:
            # A graph fails when the deadline ends one of its calls, and says so in other words.
            self.desk.expire(ticket)
            return
        if capture is not None:
            shown = mask_text(capture.header(), self._secrets)
            answer = answer._replace(headers={**answer.headers, "x-nuclio-logs": shown})
        self.desk.answer(ticket, answer, ended=ended, now=now)

    def failed(self, exc: BaseException) -> Answer:
        """Log what the handler raised; the answer to its request."""
        if isinstance(exc, HandlerFailed):
            self.log.write("error", exc.message)
        else:
            self.log.write("error", "".join(traceback.format_exception(exc)).rstrip())
        note_shortage(exc)
        try:
            end_if_lost(exc)
        except CardLost as lost:
            self.crash(lost)
        answer = from_exception(exc)
        # An exception may quote a secret of the environment, and the caller is not its owner.
        shown = mask_text(answer.body.decode("utf-8", "surrogateescape"), self._secrets)
        return answer._replace(body=shown.encode("utf-8", "surrogateescape"))

    def crash(self, exc: BaseException) -> None:
        """The handler wants the process to end: so it does, and its callers see it die."""
        self.log.write("error", "".join(traceback.format_exception(exc)).rstrip())
        if not self.crashed.done():
            self.crashed.set_result(HandlerExit(exc))

    # Streams

    async def _stream(
        self, ticket: Ticket, response: nuclio_sdk.Response | None, chunks: Chunks
    ) -> None:
        """Send a generator's items as they come; the loop turns after each."""
        begun = False
        try:
            async with aclosing(_items(chunks)) as items:
                async for item in items:
                    data = chunk_of(item)
                    if not begun:
                        self._head(ticket, response, item)
                        begun = True
                    if data:
                        ticket.connection.send_kind(Kind.CHUNK, ticket.stream, data)
                        if ticket.tape is not None:
                            ticket.tape.add(data)
                    await self._flow(ticket)
            if not begun:
                self._head(ticket, response, b"")
            self.desk.end(ticket, ENDED_OK)
        except Exception as exc:
            answer = self.failed(exc)
            if not begun:
                self.desk.answer(ticket, answer, ended=time.monotonic())
            else:
                self.desk.end(ticket, error_end(answer.body))
        except asyncio.CancelledError:
            if not begun or ticket.cancelled:
                raise
            self.desk.end(ticket, error_end(b"the deadline passed"))
        finally:
            await self._close(chunks)

    def _head(self, ticket: Ticket, response: nuclio_sdk.Response | None, first: Any) -> None:
        status, headers = head_of(response, first)
        meta = {
            "status": status,
            "headers": headers,
            **ticket.stages(time.monotonic()),
        }
        data = orjson.dumps(meta)
        ticket.streamed = True
        if self.desk.recorder is not None:
            ticket.tape = self.desk.recorder.tape(ticket, status, headers)
        ticket.connection.send_kind(Kind.HEAD, ticket.stream, data)

    async def _flow(self, ticket: Ticket) -> None:
        await asyncio.sleep(0)
        if ticket.flow is not None:
            await ticket.flow.wait()
        await ticket.connection.room()

    async def _close(self, chunks: Chunks) -> None:
        try:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()
            else:
                chunks.close()
        except Exception as exc:
            self.log.write("error", "".join(traceback.format_exception(exc)).rstrip())


def secrets_of(launch: WorkerLaunch) -> tuple[str, ...]:
    """What no log and no file may show: the secrets of the function's variables, our keys."""
    variables = [{"name": name, "value": value} for name, value in launch.env.items()]
    own = (launch.gateway_key,) if launch.gateway_key else ()
    return (*secret_values({"spec": {"env": variables}}).values(), *own)


async def _items(chunks: Chunks) -> AsyncGenerator[Any, None]:
    if isinstance(chunks, AsyncGenerator):
        async for item in chunks:
            yield item
        return
    while (item := next(chunks, _EXHAUSTED)) is not _EXHAUSTED:
        yield item
