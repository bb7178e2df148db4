"""How an event goes through a remote step: one task carries it through all of them.

storey's own way is a task for the call, a queue, and a worker that takes the calls off the queue in
order. That is several turns of the event loop for each step, which take longer than a call that
stays on the machine; and one slow call holds up all that came after it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from storey.dtypes import StreamCompletion, _termination_obj

from stoker.nouns.errors import DeadlineExceeded
from stoker.sdk.graph.running import BOUNDS, bounds, running
from stoker.sdk.routing.reply import Reply

IN_FLIGHT = 8
"""Calls of one step at once unless ``max_in_flight`` says otherwise: storey's default."""
LONGEST_BACKOFF_S = 120
"""storey's."""
_CARRIER: ContextVar[asyncio.Task[Any] | None] = ContextVar("stoker_carrier", default=None)
"""The task that carries an event. Its identity is compared: a context is inherited by tasks that
work for all events, and these must not wait for one."""


@contextmanager
def carrying() -> Iterator[None]:
    """Inside, the current task takes an event through all remote steps."""
    token = _CARRIER.set(asyncio.current_task())
    try:
        yield
    finally:
        _CARRIER.reset(token)


class Carried:
    """Before a storey step with jobs that run at once, in the order of inheritance.

    Events that somebody waits for pass each other; those of a source that nobody waits for, and the
    chunks of a stream, leave in the order in which they came. Single writer: the flow's event loop.
    """

    name: str
    logger: Any
    max_in_flight: int | None
    retries: int | None
    backoff_factor: float | None
    _lazy_init_complete: bool
    _next: Carried | None = None
    """The only step behind this one, when an event can be handed to it without asking anybody."""

    def is_local(self) -> bool:
        """Whether functions of this home can be reached from here at all."""
        return False

    def _init(self) -> None:
        super()._init()  # type: ignore[misc]
        self._local = self.is_local()
        self._free = self.max_in_flight or IN_FLIGHT
        self._queue: deque[asyncio.Future[None]] = deque()
        self._carriers: set[asyncio.Task[None]] = set()
        self._last: asyncio.Future[None] | None = None

    async def _do(self, event: Any) -> Any:
        if not self._local:
            return await super()._do(event)  # type: ignore[misc]
        if not self._lazy_init_complete:
            await self._lazy_init()  # type: ignore[attr-defined]
            self._lazy_init_complete = True
        if event is _termination_obj:
            return await self._finish()
        if isinstance(event, StreamCompletion):
            await self._all_before()
            return await self._do_downstream(event)  # type: ignore[attr-defined]
        turn = self._turn(event)
        if self._free > 0:
            self._free -= 1
        else:
            await self._wait_for_place(turn)
        carrier = _CARRIER.get()
        if turn is None and carrier is not None and carrier is asyncio.current_task():
            await self._through(event, None)
        else:
            task = asyncio.get_running_loop().create_task(self._carry(event, turn))
            self._carriers.add(task)
            task.add_done_callback(self._carriers.discard)
        return None

    async def pass_on(self, event: Any) -> None:
        """Gives the event to what follows, as `_do_downstream` does."""
        following = self._next
        if following is None:
            await self._do_downstream(event)  # type: ignore[attr-defined]
            return
        try:
            await following._do(event)
        except Exception as exc:
            await following._recover(event, exc)

    def lead_to(self, following: Carried) -> None:
        """There is no other way on from here, and the event was not here before."""
        self._next = following

    async def _carry(self, event: Any, turn: _Turn | None) -> None:
        try:
            with carrying():
                await self._through(event, turn)
        except Exception as exc:
            await self._recover(event, exc)
        finally:
            if turn is not None:
                turn.over()

    async def _through(self, event: Any, turn: _Turn | None) -> None:
        """The call, and what follows. A place is held for as long as the function works at it."""
        request = running(event)
        waited = request is not None and not request.done and _awaitable(event) is not None
        BOUNDS.set(bounds(request, waited=waited, step=self.name))
        task = asyncio.current_task()
        # In the request's own task there is nobody else to tell: the task itself is cancelled.
        leave = None
        if waited and request is not None and task is not None and request.task is not task:
            leave = task.cancel
            request.on_end(leave)
        streams = False
        try:
            try:
                response = await self._process_event(event)  # type: ignore[attr-defined]
            except Exception as exc:
                response = await self._try_again(event, exc)
            if type(response) is Reply and response.whole is None:
                streams = self._streams(response)
                if not streams:
                    await response.read()
        except asyncio.CancelledError:
            if leave is None or request is None or task is None or not request.ended:
                raise
            # Not a cancelled task: what the graph does about errors, it does here too.
            task.uncancel()
            raise DeadlineExceeded("nobody waits for the answer any more") from None
        finally:
            if request is not None and leave is not None:
                request.off_end(leave)
            if not streams:
                self._give_place()
        try:
            if turn is not None:
                await turn.come()
            await self._handle_completed(event, response)  # type: ignore[attr-defined]
        finally:
            if streams:
                self._give_place()

    def _streams(self, reply: Reply) -> bool:
        """Whether the chunks of an answer are passed on as they come."""
        del reply
        return False

    async def _try_again(self, event: Any, exc: Exception) -> Any:
        """What storey does when a call failed: as often, and as long after, as the step says.

        Raises:
            Exception: that of the last try.
        """
        tried, tries = 1, (self.retries or 0) + 1
        try:
            while True:
                self._tell_failure(exc, tries - tried)
                if tried >= tries:
                    raise exc
                backoff_s = (self.backoff_factor or 1) * 2 ** (tried - 1)
                await asyncio.sleep(min(LONGEST_BACKOFF_S, backoff_s))
                try:
                    return await self._process_event(event)  # type: ignore[attr-defined]
                except Exception as again:
                    exc = again
                    tried += 1
        finally:
            del exc  # its traceback holds this frame: a cycle, and with it the event

    def _tell_failure(self, exc: Exception, left: int) -> None:
        if self.logger:
            self.logger.warn(f"{self.name} failed to process event ({left} retries left): {exc}")

    async def _recover(self, event: Any, exc: Exception) -> None:
        """What storey does when a step fails: its error handler, else the request's answer."""
        failed: Any = exc
        if getattr(failed, "_raised_by_storey_step", None) is None:
            failed._raised_by_storey_step = self
            step = self._get_recovery_step(exc)  # type: ignore[attr-defined]
            if step is not None:
                event.origin_state, event.error = self.name, exc
                try:
                    await step._do(event)
                except Exception as again:
                    failed = again
                else:
                    return
        await self._handle_unrecovered_error(event, failed)  # type: ignore[attr-defined]

    async def _finish(self) -> Any:
        while self._carriers:
            await asyncio.wait(tuple(self._carriers))
        await self._cleanup()  # type: ignore[attr-defined]
        return await self._do_downstream(_termination_obj)  # type: ignore[attr-defined]

    # -- places and turns

    async def _wait_for_place(self, turn: _Turn | None) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._give_place()
            if turn is not None:
                turn.over()
            raise

    def _give_place(self) -> None:
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1

    def _turn(self, event: Any) -> _Turn | None:
        """The event's place in the order of arrival; None for one that may pass others."""
        if _awaitable(event) is not None and not getattr(event, "streaming_step", None):
            return None
        turn = _Turn(self._last)
        self._last = turn.done
        return turn

    async def _all_before(self) -> None:
        if self._last is not None:
            await asyncio.shield(self._last)


def _awaitable(event: Any) -> Any:
    """Where the flow's answer to an event goes; None when nobody waits for one."""
    return getattr(event, "_awaitable_result", None)


class _Turn:
    """One after the other."""

    __slots__ = ("_before", "done")

    def __init__(self, before: asyncio.Future[None] | None) -> None:
        self._before = before
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def come(self) -> None:
        """Waits until all who came before have left."""
        if self._before is not None:
            await asyncio.shield(self._before)
            self._before = None

    def over(self) -> None:
        """This one has left."""
        if not self.done.done():
            self.done.set_result(None)
