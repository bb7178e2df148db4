from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from fake_store import function, replica
from stoker.nouns.errors import StokerError
from stoker.nouns.record import FunctionRecord
from stoker.nouns.wire import FrameReader, Kind, frame, frame_with_meta, split_meta
from stoker.sdk.routing import Call, Link, Router


class ManualTimer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock:
    def __init__(self) -> None:
        self.time = 1000.0
        self.timers: list[ManualTimer] = []

    def now(self) -> float:
        return self.time

    def call_at(self, when: float, callback: Callable[[], None]) -> ManualTimer:
        timer = ManualTimer(when, callback)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while True:
            due = [t for t in self.timers if not t.cancelled and t.when <= end]
            if not due:
                break
            timer = min(due, key=lambda t: t.when)
            self.timers.remove(timer)
            self.time = max(self.time, timer.when)
            timer.callback()
        self.time = end


class Asker:
    """A caller that notes what it hears; hearing two outcomes is a failure by itself."""

    def __init__(self) -> None:
        self.response: tuple[dict[str, Any], bytes] | None = None
        self.head: Any = None
        self.chunks: list[bytes] = []
        self.ended = False
        self.error: StokerError | None = None

    def _once(self) -> None:
        assert self.response is None
        assert self.error is None
        assert not self.ended

    def on_response(self, call: Call, meta: Any, body: bytes) -> None:
        self._once()
        self.response = (meta, body)

    def on_head(self, call: Call, meta: Any) -> None:
        self._once()
        self.head = meta

    def on_chunk(self, call: Call, data: bytes) -> None:
        self._once()
        self.chunks.append(data)

    def on_end(self, call: Call) -> None:
        self._once()
        self.ended = True

    def on_error(self, call: Call, error: StokerError) -> None:
        self._once()
        self.error = error


class Wire(asyncio.Transport):
    """The worker's end of a link, without a socket."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self.link = link
        self.reader = FrameReader()
        self.frames: list[tuple[int, int, bytes]] = []
        self.closed = False
        link.connection_made(self)

    def write(self, data: Any) -> None:
        self.frames += self.reader.feed(bytes(data))

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def state(self, phase: str = "ready", permits: int = 1) -> None:
        state = {"phase": phase, "permits": permits, "pid": 1, "replica": "r", "index": 0}
        self.say(Kind.STATE, 0, state)

    def say(self, kind: Kind, stream: int, document: Any = None, raw: bytes = b"") -> None:
        payload = raw if document is None else orjson.dumps(document)
        self.link.data_received(frame(kind, stream, payload))

    def respond(self, stream: int, body: bytes = b"ok") -> None:
        meta = orjson.dumps({"status": 200, "headers": {}})
        self.link.data_received(frame_with_meta(Kind.RESPONSE, stream, meta, body))

    def end(self) -> None:
        self.link.connection_lost(None)

    @property
    def requests(self) -> list[tuple[int, str]]:
        """(stream, request id), in the order they came."""
        return [
            (stream, orjson.loads(split_meta(payload)[0])["id"])
            for kind, stream, payload in self.frames
            if kind == Kind.REQUEST
        ]

    @property
    def ids(self) -> list[str]:
        return [request for _, request in self.requests]

    @property
    def cancelled(self) -> list[int]:
        return [stream for kind, stream, _ in self.frames if kind == Kind.CANCEL]


class Floor:
    """A router with workers made by hand."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.wakes: list[str] = []
        self.wires: dict[str, Wire] = {}
        self.listening = True
        self.router = Router(
            {"role": "gateway", "peer": "test"}, self.wakes.append, clock=self.clock, dial=self.dial
        )
        self.count = 0

    async def dial(self, link: Link) -> None:
        if not self.listening:
            raise FileNotFoundError(link.socket)
        self.wires[link.socket] = Wire(link)

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def worker(
        self, name: str, permits: int = 1, phase: str = "ready", **replica_fields: Any
    ) -> Wire:
        self.router.put_replica(replica(name, name, **replica_fields))
        await self.settle()
        wire = self.wires[name]
        wire.state(phase, permits)
        return wire

    def put(self, record: FunctionRecord | None = None) -> None:
        self.router.put_function(record or function())

    def ask(
        self,
        name: str = "",
        *,
        method: str = "GET",
        deadline_s: float | None = None,
        idempotent: bool = False,
        of: str = "echo",
    ) -> tuple[Call, Asker]:
        call, asker = self.make(name, method=method, deadline_s=deadline_s, idempotent=idempotent)
        self.router.submit(of, call)
        return call, asker

    def make(
        self,
        name: str = "",
        *,
        method: str = "GET",
        deadline_s: float | None = None,
        idempotent: bool = False,
        body: bytes = b"",
    ) -> tuple[Call, Asker]:
        self.count += 1
        asker = Asker()
        deadline = None if deadline_s is None else self.clock.time + deadline_s
        call = Call(
            asker,
            name or f"q{self.count}",
            method,
            "/",
            {},
            body,
            deadline=deadline,
            idempotent=idempotent,
        )
        return call, asker


@pytest.fixture
async def floor() -> Floor:
    return Floor()
