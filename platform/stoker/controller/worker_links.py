"""Connections to workers: their phase, their end, and the request to drain."""

from __future__ import annotations

import asyncio
import errno
import json
import math
from collections.abc import Callable
from typing import cast

from stoker.controller.happenings import Happening, WorkerGone, WorkerStated
from stoker.nouns.wire import Drain, FrameReader, Kind, ProtocolError, State, frame

Report = Callable[[Happening], None]
Key = tuple[str, int]

_HELLO = frame(Kind.HELLO, 0, json.dumps({"role": "controller", "peer": "controller"}).encode())
_STATE = int(Kind.STATE)
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN})
"""What is wrong with this process or machine, and no sign of a worker's end: its process is not to
be killed for that, nor its socket removed, which is the only way to it."""
RETRY_S = 0.25


class _Connection(asyncio.Protocol):
    """One worker's socket, as the controller uses it."""

    def __init__(self, told: Callable[[State], None], ended: Callable[[], None]) -> None:
        self._told = told
        self._ended = ended
        self._frames = FrameReader()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(_HELLO)

    def write(self, data: bytes) -> None:
        """Writes a frame, if there is a connection yet."""
        if self.transport is not None:
            self.transport.write(data)

    def abort(self) -> None:
        """Drops the connection, if there is one."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._frames.feed(data)
            states = [json.loads(payload) for kind, _, payload in frames if kind == _STATE]
        except (ProtocolError, ValueError):
            self.abort()
            return
        for state in states:
            self._told(state)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._ended()


class WorkerLinks:
    """All connections to workers, by replica and index."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._connections: dict[Key, _Connection] = {}
        self._draining: dict[Key, bytes] = {}
        """The frame for each that is to drain."""
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, replica: str, index: int, socket: str) -> None:
        """Connects; its phases and its end are reported, a failure to connect as its end."""
        key = (replica, index)
        self.forget(replica, index)
        connection = _Connection(
            lambda state: self._told(key, connection, state), lambda: self._ended(key, connection)
        )
        # Before it connects: the first frames may come before the connecting task runs again.
        self._connections[key] = connection
        task = asyncio.get_running_loop().create_task(self._connect(key, connection, socket))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, key: Key, connection: _Connection, socket: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.create_unix_connection(lambda: connection, socket)
                break
            except OSError as exc:
                if exc.errno not in _OURS or self._connections.get(key) is not connection:
                    self._ended(key, connection)
                    return
            await asyncio.sleep(RETRY_S)
        if self._connections.get(key) is not connection:
            connection.abort()
        elif key in self._draining:
            connection.write(self._draining[key])

    def _told(self, key: Key, connection: _Connection, state: State) -> None:
        if self._connections.get(key) is connection:
            told = WorkerStated(
                *key,
                str(state["phase"]),
                int(state["pid"]),
                error=str(state.get("error", "")),
                sleeps=bool(state.get("sleeps")),
                device_bytes=int(state.get("device_bytes", 0)),
                short_times=int(state.get("short_times", 0)),
                short_bytes=int(state.get("short_bytes", 0)),
            )
            self._report(told)

    def _ended(self, key: Key, connection: _Connection) -> None:
        if self._connections.get(key) is connection:
            del self._connections[key]
            self._report(WorkerGone(*key))

    def send(self, replica: str, index: int, kind: Kind) -> None:
        """Sends a frame without a payload; nothing, while there is no connection."""
        connection = self._connections.get((replica, index))
        if connection is not None:
            connection.write(frame(kind, 0))

    def drain(self, replica: str, index: int, within_s: float) -> None:
        """Sends DRAIN, now or once connected."""
        key = (replica, index)
        drain: Drain = {"within_s": within_s if within_s < math.inf else None}
        self._draining[key] = frame(Kind.DRAIN, 0, json.dumps(drain).encode())
        connection = self._connections.get(key)
        if connection is not None:
            connection.write(self._draining[key])

    def forget(self, replica: str, index: int) -> None:
        """Closes the connection; nothing more is reported of it."""
        key = (replica, index)
        self._draining.pop(key, None)
        connection = self._connections.pop(key, None)
        if connection is not None:
            connection.abort()

    def close(self) -> None:
        """Closes all; the workers live on."""
        for task in self._tasks:
            task.cancel()
        for replica, index in list(self._connections):
            self.forget(replica, index)
