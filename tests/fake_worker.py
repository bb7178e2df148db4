"""A worker that speaks the wire and does as it is told, for tests of its callers.

As a coroutine: ``worker = await FakeWorker.start(path)``; requests are answered by `answer`, which
tests replace or steer by the request's path:

========== =====================================================================================
/echo      the body back
/meta      the request as JSON
/hold      nothing, until `release` (or a CANCEL)
/stream/N  a streamed answer of N chunks
/endless   chunks until cancelled, obeying PAUSE
/broken    one chunk, then END error
/fail      the worker's own error
/die       the process's end, as its caller sees it: every connection is cut
========== =====================================================================================

As a process: ``python tests/fake_worker.py SOCKET [PERMITS]``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any, cast

import orjson

from stoker.nouns.wire import FrameReader, Kind, frame, frame_with_meta, split_meta

PLAIN = {"content-type": "text/plain"}


class FakeWorker:
    """One worker; ``permits`` bounds it over all of its callers."""

    def __init__(self, path: str, permits: int = 1, phase: str = "ready") -> None:
        self.path = path
        self.permits = permits
        self.phase = phase
        self.connections: list[Connection] = []
        self.requests: list[dict[str, Any]] = []
        self.cancelled: list[int] = []
        self.held: dict[tuple[Connection, int], bytes] = {}
        self.running = 0
        self.peak = 0
        self.told_busy: set[Connection] = set()
        self.answer: Callable[[Connection, int, dict[str, Any], bytes], None] = self.by_path
        self.changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    @classmethod
    async def start(cls, path: str, permits: int = 1, phase: str = "ready") -> FakeWorker:
        worker = cls(path, permits, phase)
        loop = asyncio.get_running_loop()
        worker._server = await loop.create_unix_server(lambda: Connection(worker), path)
        return worker

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def become(self, phase: str) -> None:
        self.phase = phase
        for connection in self.connections:
            connection.tell_state()

    def release(self) -> None:
        for (connection, stream), body in list(self.held.items()):
            connection.respond(stream, body)
        self.held.clear()

    def die(self) -> None:
        if self._server is not None:
            self._server.close()
        if os.path.exists(self.path):
            os.unlink(self.path)
        for connection in list(self.connections):
            connection.transport.abort()

    async def stop(self) -> None:
        self.die()
        if self._server is not None:
            await self._server.wait_closed()

    def freed(self) -> None:
        self.running -= 1
        for connection in self.told_busy:
            connection.write(frame(Kind.IDLE, 0))
        self.told_busy.clear()
        self.changed.set()

    def by_path(self, to: Connection, stream: int, meta: dict[str, Any], body: bytes) -> None:
        match meta["path"].partition("?")[0].strip("/").split("/"):
            case ["hold"]:
                self.held[to, stream] = body
            case ["meta"]:
                to.respond(stream, orjson.dumps(meta), {"content-type": "application/json"})
            case ["stream", count]:
                chunks = [f"chunk {number}\n".encode() for number in range(int(count))]
                to.stream(stream, chunks)
            case ["endless"]:
                to.stream_forever(stream)
            case ["broken"]:
                to.head(stream)
                to.write(frame(Kind.CHUNK, stream, b"one"))
                to.end(stream, "error", "the generator raised")
            case ["fail"]:
                to.respond(stream, b"it raised", status=500, code="handler_failed")
            case ["die"]:
                self.die()
            case _:
                to.respond(stream, body)


class Connection(asyncio.Protocol):
    """One caller of a fake worker."""

    def __init__(self, worker: FakeWorker) -> None:
        self.worker = worker
        self.reader = FrameReader()
        self.paused: set[int] = set()
        self.streaming: dict[int, asyncio.Task[None]] = {}
        self.live: set[int] = set()
        self.out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.loop = asyncio.get_running_loop()
        self.worker.connections.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.connections.remove(self)
        for task in self.streaming.values():
            task.cancel()
        self.worker.running -= len(self.live)
        self.worker.told_busy.discard(self)
        self.worker.changed.set()

    def data_received(self, data: bytes) -> None:
        worker = self.worker
        for kind, stream, payload in self.reader.feed(data):
            if kind == Kind.REQUEST:
                self.on_request(stream, payload)
            elif kind == Kind.HELLO:
                self.tell_state()
            elif kind == Kind.PING:
                self.write(frame(Kind.PONG, 0))
            elif kind == Kind.CANCEL:
                worker.cancelled.append(stream)
                worker.held.pop((self, stream), None)
                if stream in self.live and stream not in self.streaming:
                    self.end(stream, "cancelled")
                elif stream in self.streaming:
                    self.streaming.pop(stream).cancel()
                    self.end(stream, "cancelled")
            elif kind == Kind.PAUSE:
                self.paused.add(stream)
            elif kind == Kind.RESUME:
                self.paused.discard(stream)
        worker.changed.set()

    def on_request(self, stream: int, payload: bytes) -> None:
        worker = self.worker
        if worker.phase != "ready" or worker.running >= worker.permits:
            reason = "full" if worker.phase == "ready" else worker.phase
            worker.told_busy.add(self)
            self.write(frame(Kind.BUSY, stream, orjson.dumps({"reason": reason})))
            return
        worker.running += 1
        worker.peak = max(worker.peak, worker.running)
        head, body = split_meta(payload)
        meta = orjson.loads(head)
        worker.requests.append(meta)
        self.live.add(stream)
        worker.answer(self, stream, meta, body)

    def write(self, data: bytes) -> None:
        if not self.out:
            self.loop.call_soon(self.flush)
        self.out.append(data)

    def flush(self) -> None:
        self.transport.write(b"".join(self.out))
        self.out.clear()

    def tell_state(self) -> None:
        worker = self.worker
        state = {"phase": worker.phase, "permits": worker.permits, "pid": 1, "replica": "r"}
        self.write(frame(Kind.STATE, 0, orjson.dumps({**state, "index": 0})))

    def over(self, stream: int) -> None:
        self.live.discard(stream)
        self.worker.freed()

    def respond(
        self,
        stream: int,
        body: bytes,
        headers: dict[str, str] = PLAIN,
        status: int = 200,
        code: str = "",
    ) -> None:
        meta: dict[str, Any] = {"status": status, "headers": headers, "handler_s": 0.00001}
        if code:
            meta["code"] = code
        self.write(frame_with_meta(Kind.RESPONSE, stream, orjson.dumps(meta), body))
        self.over(stream)

    def head(self, stream: int, headers: dict[str, str] = PLAIN) -> None:
        self.write(frame(Kind.HEAD, stream, orjson.dumps({"status": 200, "headers": headers})))

    def end(self, stream: int, outcome: str, message: str = "") -> None:
        end = {"outcome": outcome, "message": message}
        self.write(frame(Kind.END, stream, orjson.dumps(end)))
        self.over(stream)

    def stream(self, stream: int, chunks: list[bytes]) -> None:
        self.head(stream)
        for chunk in chunks:
            self.write(frame(Kind.CHUNK, stream, chunk))
        self.end(stream, "ok")

    def stream_forever(self, stream: int) -> None:
        self.head(stream)
        self.streaming[stream] = self.loop.create_task(self._forever(stream))

    async def _forever(self, stream: int) -> None:
        while True:
            if stream not in self.paused:
                self.write(frame(Kind.CHUNK, stream, b"x" * 65536))
                self.worker.changed.set()
            await asyncio.sleep(0.001)


async def serve(path: str, permits: int) -> None:
    await FakeWorker.start(path, permits)
    await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1))
