"""``context.platform.neighbours``: the other functions of this home, without HTTP between."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from stoker.nouns.errors import StokerError, StoreUnavailable
from stoker.nouns.launch import WorkerLaunch
from stoker.nouns.record import FunctionRecord
from stoker.worker.deadline import DEADLINE

if TYPE_CHECKING:
    from stoker.sdk.routing.reply import Reply
    from stoker.worker.switchboard import Switchboard

log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Neighbours:
    """Reaches other functions from a worker: from its event loop, or from a thread that may block.

    Nothing is connected before it is needed, unless `prepare` is awaited. Every event loop gets a
    `Switchboard` of its own; blocking calls share one on a thread in the background.

    Attributes:
        gateway_url: where the same functions answer by HTTP.
        gateway_key: the key of that port; empty when it asks for none.
    """

    def __init__(
        self,
        redis_url: str,
        reporter: str,
        *,
        function: str = "",
        gateway_url: str = "",
        gateway_key: str = "",
    ) -> None:
        self.gateway_url = gateway_url
        self.gateway_key = gateway_key
        self._redis_url = redis_url
        self._reporter = reporter
        self._function = function
        self._boards: dict[asyncio.AbstractEventLoop, asyncio.Task[Switchboard]] = {}
        self._backstage: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._names = 0
        os.register_at_fork(after_in_child=self._begin_anew)

    @classmethod
    def of(cls, launch: WorkerLaunch) -> Neighbours:
        """Those of a worker."""
        return cls(
            launch.redis_url,
            f"graph-{launch.replica}.{launch.index}",
            function=launch.function,
            gateway_url=launch.gateway_url,
            gateway_key=launch.gateway_key,
        )

    async def prepare(self, names: Iterable[str]) -> None:
        """Connects now, and to the functions ``names``, so that the first request need not wait.

        A store that is away, or slow, is tried again by the first call.
        """
        try:
            await self._board(names)
        except StokerError as error:
            log.warning("the functions that this graph calls cannot be looked up yet: %s", error)

    def find(self, function: str) -> FunctionRecord | None:
        """The record of a function that this loop's switchboard follows; None: it does not."""
        for opened in tuple(self._boards.values()):
            if _is_open(opened):
                record = opened.result().find(function)
                if record is not None:
                    return record
        return None

    def call(
        self,
        function: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes = b"",
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        watched: bool = False,
        request_id: str = "",
    ) -> Coroutine[Any, Any, Reply]:
        """Calls a function; see `Switchboard.call`.

        Args:
            function: its name, as Nuclio has it.
            method: HTTP's.
            path: what the function sees, with the query string.
            headers: lower-case names.
            body: as it is.
            request_id: shown in the function's log; made up when empty.
            timeout: seconds.
            deadline: CLOCK_MONOTONIC seconds; that of the request being handled unless given.
            watched: whoever calls cancels this at ``deadline``.

        Raises:
            StokerError: as the gateway would answer it.
        """
        if deadline is None:
            deadline = DEADLINE.get()
        if timeout is not None:
            latest = time.monotonic() + timeout
            if deadline is None or latest < deadline:
                deadline, watched = latest, False
        call = (function, method, path, headers, body)
        opened = self._boards.get(asyncio.get_running_loop())
        if _is_open(opened):
            board = opened.result()
            return board.call(*call, deadline=deadline, watched=watched, request_id=request_id)
        return self._call_once_open(
            *call, deadline=deadline, watched=watched, request_id=request_id
        )

    def call_blocking(
        self,
        function: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes = b"",
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        request_id: str = "",
    ) -> tuple[int, dict[str, str], bytes]:
        """`call` for code that may not await: status, headers and the whole body.

        Raises:
            StokerError: as the gateway would answer it.
        """
        if deadline is None:
            deadline = DEADLINE.get()

        async def ask() -> tuple[int, dict[str, str], bytes]:
            reply = await self.call(
                function,
                method,
                path,
                headers,
                body,
                timeout=timeout,
                deadline=deadline,
                request_id=request_id,
            )
            return reply.status, reply.headers, await reply.read()

        return self._in_background(ask())

    async def close(self) -> None:
        """Ends what this loop has opened; the rest ends with the process."""
        opened = self._boards.pop(asyncio.get_running_loop(), None)
        if opened is None:
            return
        opened.cancel()
        for board in await asyncio.gather(opened, return_exceptions=True):
            if not isinstance(board, BaseException):
                await board.close()

    # -- inside

    async def _call_once_open(self, *call: Any, **options: Any) -> Reply:
        return await (await self._board()).call(*call, **options)

    async def _board(self, names: Iterable[str] = ()) -> Switchboard:
        """This loop's switchboard; opened once, however many ask for it at the same time.

        Raises:
            StoreUnavailable: Redis cannot be reached, or is not known.
        """
        loop = asyncio.get_running_loop()
        opened = self._boards.get(loop)
        if opened is None:
            opened = self._boards[loop] = loop.create_task(self._open(names))
            opened.add_done_callback(lambda done: self._forget_failed(loop, done))
        # Shielded: who gives up waiting must not take it from the others.
        return await asyncio.shield(opened)

    def _forget_failed(
        self, loop: asyncio.AbstractEventLoop, opened: asyncio.Task[Switchboard]
    ) -> None:
        """The next call tries anew, whether anybody was left to hear of this failure or not."""
        if not _is_open(opened) and self._boards.get(loop) is opened:
            del self._boards[loop]

    async def _open(self, names: Iterable[str]) -> Switchboard:
        # Here: a worker that calls nobody must not pay for the import of Redis's client.
        from stoker.worker.switchboard import Switchboard

        if not self._redis_url:
            raise StoreUnavailable("this worker was not told where the store is")
        self._names += 1
        reporter = self._reporter if self._names == 1 else f"{self._reporter}~{self._names}"
        return await Switchboard.open(self._redis_url, reporter, names, function=self._function)

    def _in_background(self, work: Coroutine[Any, Any, _T]) -> _T:
        with self._lock:
            if self._backstage is None:
                self._backstage = _loop_in_a_thread()
        return asyncio.run_coroutine_threadsafe(work, self._backstage).result()

    def _begin_anew(self) -> None:
        """In a process that user code forked: nothing of the parent's works here."""
        for opened in self._boards.values():
            if _is_open(opened):
                opened.result().abandon()
        self._boards = {}
        self._backstage = None
        self._lock = threading.Lock()
        self._names = 0
        self._reporter = f"{self._reporter}~{os.getpid()}"


def _is_open(opened: asyncio.Task[Switchboard] | None) -> TypeGuard[asyncio.Task[Switchboard]]:
    return (
        opened is not None
        and opened.done()
        and not opened.cancelled()
        and opened.exception() is None
    )


def _loop_in_a_thread() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    threading.Thread(target=loop.run_forever, name="neighbours", daemon=True).start()
    return loop
