"""The connection to one zygote: launches out, outcomes back. JSON lines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from stoker.controller.happenings import Happening, StartRefused, WorkerExited, WorkerStarted
from stoker.nouns.launch import WorkerLaunch, ZygoteKind, ZygoteReply

log = logging.getLogger(__name__)

FIRST_RETRY_S = 0.05
LONGEST_RETRY_S = 1.0
LINE_LIMIT = 16 * 1024 * 1024

Report = Callable[[Happening], None]
Key = tuple[str, int]


class ZygoteClient:
    """Keeps one zygote's socket connected and sends launches as soon as it is.

    Attributes:
        modules: what the zygote has imported, as it told in its hello.
    """

    def __init__(self, kind: ZygoteKind, socket: Path, report: Report) -> None:
        self.kind = kind
        self.modules = ""
        self._socket = socket
        self._report = report
        self._waiting: dict[Key, WorkerLaunch] = {}
        self._sent: set[Key] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        """The zygote is there."""
        return self._connected.is_set()

    def launch(self, launch: WorkerLaunch) -> None:
        """Sends it, or keeps it until the zygote is back."""
        self._waiting[(launch.replica, launch.index)] = launch
        self._flush()

    def withdraw(self, replica: str, index: int) -> None:
        """Forgets a launch that has not been sent."""
        self._waiting.pop((replica, index), None)

    async def run(self) -> None:
        """Connects, again and again, until cancelled."""
        wait_s = FIRST_RETRY_S
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._socket, limit=LINE_LIMIT)
            except OSError:
                await asyncio.sleep(wait_s)
                wait_s = min(LONGEST_RETRY_S, wait_s * 2)
                continue
            wait_s = FIRST_RETRY_S
            try:
                await self._serve(reader, writer)
            finally:
                self._lost()
                writer.close()
            await asyncio.sleep(wait_s)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._connected.set()
        self._flush()
        while True:
            try:
                line = await reader.readline()
            except (OSError, ValueError) as exc:
                log.warning("zygote %s: connection lost: %s", self.kind, exc)
                return
            if not line:
                return
            self._take(line)

    def _flush(self) -> None:
        if self._writer is None or self._writer.is_closing():
            return
        for key, launch in list(self._waiting.items()):
            self._writer.write(launch.model_dump_json().encode() + b"\n")
            self._sent.add(key)
            del self._waiting[key]

    def _take(self, line: bytes) -> None:
        try:
            reply = ZygoteReply.model_validate_json(line)
        except ValidationError as exc:
            log.error("zygote %s sent what is no reply: %s", self.kind, exc)
            return
        key = (reply.replica, reply.index)
        match reply.kind:
            case "hello":
                self.modules = reply.message
            case "started":
                self._sent.discard(key)
                self._report(WorkerStarted(reply.replica, reply.index, reply.pid))
            case "refused":
                self._sent.discard(key)
                self._report(StartRefused(reply.replica, reply.index, reply.message))
            case "exited":
                self._report(WorkerExited(reply.replica, reply.index, reply.pid, reply.status))
            case other:
                log.error("zygote %s sent an unknown kind of reply: %s", self.kind, other)

    def _lost(self) -> None:
        self._writer = None
        self._connected.clear()
        unanswered, self._sent = self._sent, set()
        for replica, index in unanswered:
            message = f"the {self.kind} zygote died before it answered"
            self._report(StartRefused(replica, index, message, zygote_lost=True))
