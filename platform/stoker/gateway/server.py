"""A gateway: one process's data port and all that stands behind it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from stoker.gateway.connection import Connection
from stoker.gateway.front import Front
from stoker.gateway.invocations import Invocations
from stoker.gateway.meters import Meters
from stoker.gateway.newcomers import Newcomers
from stoker.gateway.pages import Pages
from stoker.gateway.settings import GatewaySettings
from stoker.gateway.streams import Streams
from stoker.gateway.view import View
from stoker.nouns.metrics import GatewaySnapshot
from stoker.sdk.routing import Router
from stoker.sdk.routing.follow import for_ever
from stoker.store import Store

log = logging.getLogger(__name__)

BACKLOG = 4096
"""Connections the kernel holds for us: a burst of clients must not be reset."""


class Gateway:
    """Serves the data port. Several share one port (SO_REUSEPORT) and the workers.

    Must be created and run inside one event loop; uvloop's is the one it was measured with.
    """

    def __init__(self, store: Store, settings: GatewaySettings) -> None:
        self._settings = settings
        self._meters = Meters()
        self._router = Router({"role": "gateway", "peer": settings.gateway}, self._wake)
        self._view = View(store, self._router, self._meters, settings, self.snapshot)
        self._invocations = Invocations(store, self._router, settings)
        self._streams = Streams(store, self._router, self._meters, settings.gateway)
        pages = Pages(
            self._router,
            ready=lambda: self._view.ready,
            snapshot=lambda: (settings.gateway, self.snapshot()),
            invocation=self._invocations.report,
        )
        self._front = Front(
            self._router,
            settings,
            self._meters,
            pages.answer,
            self._invocations.accept,
            ready=lambda: self._view.ready,
            newcomers=Newcomers(self._view.want),
        )
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """The port that it listens on, once started."""
        assert self._server is not None  # noqa: S101 - a question before start() is a mistake
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def router(self) -> Router:
        """The live view of functions and workers."""
        return self._router

    async def start(self) -> None:
        """Listens, and follows the store from now on.

        Raises:
            OSError: the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._front),
            self._settings.host,
            self._settings.port,
            backlog=BACKLOG,
            reuse_port=hasattr(socket, "SO_REUSEPORT"),
        )
        self._keep(self._view.follow)
        self._keep(self._view.refresh)
        self._keep(self._view.report_demand)
        self._keep(self._view.report_metrics)
        self._keep(self._streams.run)
        self._keep(self._streams.listen)
        self._keep(self._tick)
        for _ in range(self._settings.invocation_runners):
            self._keep(self._invocations.run)

    async def stop(self) -> None:
        """Accepts nothing more, finishes what is in flight (at most ``grace_s``), lets go."""
        self._front.stopping = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._front.connections):
            connection.stop()
        await asyncio.gather(self._drain(), self._streams.stop(self._settings.grace_s))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._router.close()

    def snapshot(self) -> GatewaySnapshot:
        """The counts so far."""
        self._streams.measure()
        return self._meters.snapshot(self._router.lanes, len(self._front.connections))

    async def _drain(self) -> None:
        front = self._front
        if not front.connections:
            return
        front.drained.clear()
        try:
            await asyncio.wait_for(front.drained.wait(), self._settings.grace_s)
        except TimeoutError:
            log.warning("%d requests were cut off at the stop", len(front.connections))
            for connection in list(front.connections):
                connection.abort()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._front.tick()

    def _wake(self, function: str) -> None:
        self._view.wake(function)

    def _keep(self, work: Callable[[], Awaitable[None]]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(for_ever(work)))
