"""What all connections of one gateway share."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Protocol

from stoker.gateway.keys import Keys
from stoker.gateway.meters import Meters
from stoker.gateway.newcomers import Newcomers
from stoker.gateway.settings import GatewaySettings
from stoker.sdk.routing import Router

if TYPE_CHECKING:
    from stoker.gateway.connection import Connection

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body of an answer that the gateway gives itself."""


class LocalRequest(Protocol):
    """What a page needs to know of a request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    request_id: str
    function: str


Page = Callable[[LocalRequest], Awaitable[Answer]]


class Front:
    """Shared by the connections: the router, the counters, the limits, the clock on the wall.

    Attributes:
        connections: open ones; each adds and removes itself.
        stopping: no request after the one in flight.
        page: answers requests for routes of our own.
        accept: takes a request that the client does not want to wait for.
        ready: whether the functions have been read; before, an unknown name proves nothing.
        newcomers: asks for names that are not in the view.
        date: the Date line, renewed by `tick`.
    """

    def __init__(
        self,
        router: Router,
        settings: GatewaySettings,
        meters: Meters,
        page: Page,
        accept: Page,
        ready: Callable[[], bool],
        newcomers: Newcomers,
    ) -> None:
        self.router = router
        self.settings = settings
        self.meters = meters
        self.page = page
        self.accept = accept
        self.ready = ready
        self.newcomers = newcomers
        self.keys = Keys(settings.api_keys)
        self.connections: set[Connection] = set()
        self.stopping = False
        self.date = ""
        self.drained = asyncio.Event()
        self._prefix = os.urandom(6).hex()
        self._count = 0
        self.renew_date()

    def new_id(self) -> str:
        """A request id: unique without asking the kernel for randomness each time."""
        self._count += 1
        return f"{self._prefix}-{self._count:x}"

    def renew_date(self) -> None:
        """Once a second is what the header's resolution asks for."""
        self.date = f"Date: {formatdate(usegmt=True)}\r\n"

    def tick(self) -> None:
        """Closes connections that let us wait too long. About once a second."""
        self.renew_date()
        now = time.monotonic()
        for connection in list(self.connections):
            connection.check(now)

    def left(self, connection: Connection) -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        if not self.connections:
            self.drained.set()
