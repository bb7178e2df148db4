"""One event loop's connections to the workers of other functions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterable

from stoker.nouns.errors import BodyTooLarge, FunctionNotFound, StoreUnavailable
from stoker.nouns.near import near_names
from stoker.nouns.record import FunctionRecord
from stoker.sdk.graph.running import BOUNDS
from stoker.sdk.routing import Call, Lane, Router
from stoker.sdk.routing import timeout as timeouts
from stoker.sdk.routing.follow import Follower, Pace, for_ever
from stoker.sdk.routing.reply import Awaited, Reply
from stoker.store import Store

PACE = Pace(rests=True)
"""A graph's worker that calls nobody says nothing: there are many, and each would wake Redis."""


OPEN_S = 3.0
"""Seconds until what is wanted has been read: a graph must not wait for a store that hangs."""


class Switchboard:
    """Calls functions of this home as the gateway does, for whoever runs on its event loop.

    It follows only the functions that were called or announced: a worker that kept connections to
    all workers of a home would cost each of them a descriptor.
    """

    def __init__(self, store: Store, reporter: str, names: Iterable[str], function: str) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._router = Router({"role": "graph", "peer": reporter, "function": function}, self._wake)
        self._follower = Follower(store, self._router, reporter, PACE, set(names))
        self._prefix = os.urandom(6).hex()
        self._count = 0
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls, redis_url: str, reporter: str, names: Iterable[str] = (), *, function: str = ""
    ) -> Switchboard:
        """Connects, and knows the functions ``names`` when it returns; ``function`` calls them.

        Raises:
            StoreUnavailable: Redis cannot be reached, or does not answer for long.
        """
        board = cls(await Store.connect(redis_url), reporter, names, function)
        follower = board._follower
        for work in (follower.follow, follower.refresh, follower.report_demand):
            board._keep(work)
        try:
            async with asyncio.timeout(OPEN_S):
                await follower.until_ready()
        except BaseException as exc:
            await board.close()
            if isinstance(exc, TimeoutError):
                raise StoreUnavailable(f"the store did not answer within {OPEN_S:g} s") from exc
            raise
        return board

    def find(self, function: str) -> FunctionRecord | None:
        """The record of a function that is followed."""
        lane = self._router.lanes.get(function)
        return lane.record if lane is not None else None

    async def call(
        self,
        function: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        *,
        deadline: float | None,
        watched: bool = False,
        request_id: str = "",
    ) -> Reply:
        """Calls a function; returns when its answer, or the head of a streamed one, is there.

        Cancelling this coroutine cancels the call at the function's worker.

        Args:
            function: its name, as Nuclio has it.
            method: HTTP's.
            path: what the function sees, with the query string.
            headers: lower-case names.
            body: as it is.
            deadline: CLOCK_MONOTONIC seconds; the function's own timeout may be earlier.
            watched: whoever calls cancels this at ``deadline``.
            request_id: shown in the function's log; made up when empty.

        Raises:
            StokerError: as the gateway would answer it.
        """
        lane = self._router.lanes.get(function) or await self._enter(function)
        limits = lane.limits
        if len(body) > limits.max_body_bytes:
            limit = limits.max_body_bytes
            raise BodyTooLarge(f"the body must be at most {limit} bytes", limit=limit)
        awaited, bounds = Awaited(self._loop), BOUNDS.get()
        earliest = _earliest(deadline, limits.event_timeout_s, headers)
        call = Call(
            awaited,
            request_id or self._new_id(),
            method,
            path,
            headers,
            body,
            deadline=earliest,
            idempotent="idempotency-key" in headers,
            watched=watched and earliest == deadline,
            step=bounds.step,
            copied=bounds.copied,
        )
        self._follower.stir()
        lane.submit(call)
        outcome = awaited.outcome
        try:
            return await outcome
        except asyncio.CancelledError:
            call.cancel()
            if outcome.done() and not outcome.cancelled():
                outcome.exception()  # looked at, or asyncio would complain that nobody did
            raise

    async def close(self) -> None:
        """Ends everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._router.close()
        await self._store.close()

    def abandon(self) -> None:
        """In a process that user code forked: the connections stay with the worker alone.

        Else a called worker that ends would wait in vain for this process to hang up.
        """
        null = os.open(os.devnull, os.O_RDWR)
        for lane in self._router.lanes.values():
            for link in lane.links.values():
                descriptor = link.descriptor
                if descriptor is not None:
                    # Not closed: the loop's copy here would close the number a second time.
                    with contextlib.suppress(OSError):
                        os.dup2(null, descriptor)
        os.close(null)

    async def _enter(self, function: str) -> Lane:
        await self._follower.want(function)
        lane = self._router.lanes.get(function)
        if lane is not None:
            return lane
        near = near_names(function, list(await self._store.list_functions()))
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise FunctionNotFound(f"no function {function!r}{hint}", near=near)

    def _wake(self, function: str) -> None:
        self._follower.wake(function)

    def _new_id(self) -> str:
        self._count += 1
        return f"{self._prefix}-{self._count:x}"

    def _keep(self, work: Callable[[], Awaitable[None]]) -> None:
        self._tasks.append(self._loop.create_task(for_ever(work)))


def _earliest(
    deadline: float | None, event_timeout_s: float | None, headers: dict[str, str]
) -> float | None:
    """When nobody wants the answer any more: of all who have a say, the first."""
    if timeouts.HEADER in headers:
        asked_s = timeouts.seconds_of(headers[timeouts.HEADER])
        event_timeout_s = asked_s if event_timeout_s is None else min(asked_s, event_timeout_s)
    if event_timeout_s is None:
        return deadline
    own = time.monotonic() + event_timeout_s
    return own if deadline is None else min(own, deadline)
