"""The worker's desk and runners on a real loop and real sockets, without a process of their own."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import nuclio_sdk
import pytest
from nuclio_sdk.event import TriggerInfo

from stoker.models.lost import EXIT_LOST_CARD, CardLost
from stoker.nouns.launch import WorkerLaunch
from stoker.nouns.wire import FrameReader, Kind, frame, frame_with_meta, split_meta
from stoker.sdk.sleep import Sleepers
from stoker.worker import desk as desk_module
from stoker.worker.batches import BatchRunner
from stoker.worker.connection import Connection
from stoker.worker.desk import Desk
from stoker.worker.handler import Handler
from stoker.worker.log import WorkerLog
from stoker.worker.runner import Runner
from stoker.worker.watchdog import Guard

BOUND_S = 10.0
HELLO = frame(Kind.HELLO, 0, b'{"role": "gateway", "peer": "test"}')


class KillTimes:
    """In the watchdog's place: keeps when it would have killed."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def guard(self, kill_at: float) -> Guard:
        self.asked.append(kill_at)
        return Guard(kill_at)

    def release(self, guard: Guard) -> None:
        guard.released = True


class Caller:
    """The other end of one connection."""

    def __init__(self, desk: Desk) -> None:
        self.sock, own = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.connection = Connection(own, asyncio.get_running_loop(), desk)
        self._frames = FrameReader()
        self.got: list[tuple[Kind, int, bytes]] = []
        self.sock.send(HELLO)

    def request(
        self, stream: int, body: bytes = b"", *, id_: str = "", deadline_s: float | None = None
    ) -> None:
        deadline = None if deadline_s is None else time.monotonic() + deadline_s
        meta = {
            "id": id_ or f"r{stream}",
            "method": "POST",
            "path": "/",
            "headers": {},
            "deadline": deadline,
        }
        data = frame_with_meta(Kind.REQUEST, stream, json.dumps(meta).encode(), body)
        self.sock.send(data)

    def read(self) -> list[tuple[Kind, int, bytes]]:
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            data = b""
        self.got += [
            (Kind(kind), stream, payload) for kind, stream, payload in self._frames.feed(data)
        ]
        return [entry for entry in self.got if entry[1]]

    async def until(self, kind: Kind, stream: int) -> bytes:
        async with asyncio.timeout(BOUND_S):
            while True:
                for entry in self.read():
                    if entry[:2] == (kind, stream):
                        return entry[2]
                await asyncio.sleep(0)

    def phases(self) -> list[str]:
        """The phases that this caller was told, in order."""
        self.read()
        return [json.loads(entry[2])["phase"] for entry in self.got if entry[0] is Kind.STATE]

    def kinds(self, stream: int) -> list[Kind]:
        return [entry[0] for entry in self.read() if entry[1] == stream]

    async def response(self, stream: int) -> tuple[dict[str, Any], bytes]:
        meta, body = split_meta(await self.until(Kind.RESPONSE, stream))
        return json.loads(meta), body


class Bench:
    """A desk with a runner for ``call``."""

    def __init__(self, log: WorkerLog, call: Callable[..., Any], **fields: Any) -> None:
        launch = WorkerLaunch(
            **{
                "function": "f",
                "revision": 1,
                "replica": "f-1",
                "index": 0,
                "socket": "",
                "log": "",
                "code_dir": "",
                "handler": "main:handler",
                "permits": 8,
            }
            | fields
        )
        self.kills = KillTimes()
        self.sleepers = Sleepers()
        self.desk = Desk(launch, log, asyncio.get_running_loop(), self.sleepers)
        context = nuclio_sdk.Context(
            logger=None, platform=None, worker_id=0, trigger=TriggerInfo("http", "h")
        )
        handler = Handler(call, context, asyncio.iscoroutinefunction(call))
        kind = BatchRunner if launch.batch_size else Runner
        self.runner = kind(self.desk, handler, launch, log, self.kills)
        self.desk.pump = self.runner.pump
        self.desk.ready()
        self.callers: list[Caller] = []

    def caller(self) -> Caller:
        made = Caller(self.desk)
        self.callers.append(made)
        return made


Make = Callable[..., Bench]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    log = WorkerLog(str(tmp_path / "w.log"), function="f", replica="f-1", worker=0)
    benches: list[Bench] = []

    def make(call: Callable[..., Any], **fields: Any) -> Bench:
        benches.append(Bench(log, call, **fields))
        return benches[-1]

    yield make
    for bench in benches:
        for caller in bench.callers:
            caller.connection.close()
            caller.sock.close()
    os.close(log.descriptor)


def echo(_context: Any, event: Any) -> Any:
    return event.body


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def broken_headers(_context: Any, event: Any) -> Any:
    if event.body == b"surrogate":
        return nuclio_sdk.Response(body="x", headers={"X-Name": "\ud800"})
    if event.body == b"bytes":
        return nuclio_sdk.Response(body="x", content_type=b"text/plain")
    return b"fine"


@pytest.mark.parametrize("body", [b"surrogate", b"bytes"])
async def test_headers_that_cannot_be_sent_are_a_500_and_give_the_permit_back(
    make: Make, body: bytes
) -> None:
    bench = make(broken_headers, permits=1)
    caller = bench.caller()
    caller.request(1, body)
    meta, text = await caller.response(1)
    assert (meta["status"], meta["code"]) == (500, "handler_failed")
    assert b"headers" in text
    assert bench.desk.life.in_flight == 0
    caller.request(2)
    assert (await caller.response(2))[1] == b"fine"


async def test_an_answer_over_the_largest_frame_is_a_500_rather_than_a_lost_connection(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "_LARGEST_ANSWER", 1000)
    bench = make(echo)
    caller = bench.caller()
    caller.request(1, bytes(1000))
    meta, text = await caller.response(1)
    assert (meta["status"], meta["code"]) == (500, "handler_failed")
    assert b"1000 bytes" in text


async def test_a_callers_short_deadline_kills_nobody_and_the_functions_timeout_does(
    make: Make,
) -> None:
    async def handler(_context: Any, event: Any) -> Any:
        return event.body

    for call in (echo, handler):
        free = make(call)
        caller = free.caller()
        caller.request(1, b"x", deadline_s=5)
        await caller.response(1)
        assert free.kills.asked == []
        bound = make(call, event_timeout_s=100)
        caller = bound.caller()
        caller.request(1, b"x", deadline_s=5)
        await caller.response(1)
        assert bound.kills.asked[0] > time.monotonic() + 90


async def test_a_batch_is_not_killed_for_its_callers_short_deadlines(make: Make) -> None:
    bench = make(lambda _c, events: [e.body for e in events], batch_size=2, batch_timeout_s=5)
    caller = bench.caller()
    for stream in (1, 2):
        caller.request(stream, b"x", deadline_s=5)
    await caller.response(2)
    assert bench.kills.asked == []


async def test_a_caller_that_is_gone_takes_no_other_callers_requests_along(make: Make) -> None:
    bench = make(echo)
    gone, healthy = bench.caller(), bench.caller()
    bench.runner.occupied = True
    bench.desk.pump = lambda: None
    gone.request(1)
    gone.request(2)
    healthy.request(1, b"mine")
    await turns()
    assert len(bench.desk.waiting) == 3
    gone.sock.close()
    bench.desk.tell_queued()
    assert gone.connection.closed
    assert healthy.kinds(1) == [Kind.QUEUED]
    bench.runner.occupied = False
    bench.runner.pump()
    assert (await healthy.response(1))[1] == b"mine"
    assert bench.desk.life.in_flight == 0


async def test_what_is_told_to_a_caller_that_is_gone_counts_once(make: Make) -> None:
    bench = make(echo)
    caller = bench.caller()
    bench.desk.pump = lambda: None
    for stream in range(1, 7):
        caller.request(stream, deadline_s=0.0)
    await turns()
    assert bench.desk.life.in_flight == 6
    caller.sock.close()
    bench.desk._give_up()
    assert bench.desk.life.in_flight == 0


async def test_frames_behind_the_one_that_lost_the_caller_are_not_taken(make: Make) -> None:
    bench = make(echo, permits=1)
    bench.desk.pump = lambda: None
    caller = bench.caller()
    await turns()
    refused = bench.desk._refuse

    def refuse(connection: Connection, stream: int) -> None:
        refused(connection, stream)
        connection.close()

    bench.desk._refuse = refuse  # type: ignore[method-assign]
    for stream in (1, 2, 3):
        caller.request(stream)
    await turns()
    # 1 was admitted, 2 refused; the loss ended 1, and 3 must not take its permit for nobody.
    assert bench.desk.life.in_flight == 0
    assert not bench.desk.waiting


async def test_the_rest_is_served_after_a_whole_batch_came_too_late(make: Make) -> None:
    bench = make(lambda _c, events: [e.body for e in events], batch_size=2, batch_timeout_s=0.01)
    caller = bench.caller()
    bench.desk.pump = lambda: None
    caller.request(1, deadline_s=0.0)
    caller.request(2, deadline_s=0.0)
    caller.request(3, b"in time")
    await turns()
    bench.runner.pump()
    assert (await caller.response(3))[1] == b"in time"
    assert (await caller.response(1))[0]["status"] == 408


async def test_equal_request_ids_in_one_batch_get_their_own_answers(make: Make) -> None:
    def handler(_context: Any, events: Any) -> Any:
        return [nuclio_sdk.Response(body=e.body, event_id=e.id) for e in reversed(events)]

    bench = make(handler, batch_size=3, batch_timeout_s=5)
    callers = [bench.caller() for _ in range(3)]
    for caller, body in zip(callers, (b"one", b"two", b"three"), strict=True):
        caller.request(1, body, id_="same")
    answers = [await caller.response(1) for caller in callers]
    assert [body for _, body in answers] == [b"one", b"two", b"three"]


async def test_a_request_cancelled_before_its_first_step_gives_its_permit_back(make: Make) -> None:
    ran: list[str] = []

    async def handler(_context: Any, event: Any) -> Any:
        ran.append(event.id)

    bench = make(handler, permits=1)
    caller = bench.caller()
    bench.desk.pump = lambda: None
    caller.request(1)
    await turns()
    bench.runner.pump()
    bench.desk._cancel(caller.connection.tickets[1])
    await turns()
    assert bench.desk.life.in_flight == 0
    assert caller.kinds(1) == [Kind.END]
    assert ran == []
    assert not bench.runner._tasks


async def test_a_coroutine_cancelled_before_its_first_step_frees_the_worker(make: Make) -> None:
    async def later() -> str:
        await asyncio.sleep(60)
        return "never"

    bench = make(lambda _c, event: later() if event.body else "free")
    caller = bench.caller()
    bench.desk.pump = lambda: None
    caller.request(1, b"x")
    await turns()
    bench.runner.pump()
    assert bench.runner.occupied
    bench.desk._cancel(caller.connection.tickets[1])
    assert json.loads(await caller.until(Kind.END, 1)) == {"outcome": "cancelled"}
    assert not bench.runner.occupied
    assert bench.desk.life.in_flight == 0


async def test_no_whole_answer_lands_inside_a_streamed_one(make: Make) -> None:
    def failing() -> Any:
        yield "begun"
        raise nuclio_sdk.exceptions.ExceptionWithResponse(status_code=500, body=b"\xff\xfe")

    async def endless() -> Any:
        yield "begun"
        await asyncio.sleep(60)

    bench = make(lambda _c, event: failing() if event.body else endless())
    caller = bench.caller()
    caller.request(1, b"x")
    assert json.loads(await caller.until(Kind.END, 1))["outcome"] == "error"
    assert caller.kinds(1) == [Kind.HEAD, Kind.CHUNK, Kind.END]
    caller.request(2)
    await caller.until(Kind.CHUNK, 2)
    bench.desk._give_up()
    assert "had to stop" in json.loads(await caller.until(Kind.END, 2))["message"]
    assert caller.kinds(2) == [Kind.HEAD, Kind.CHUNK, Kind.END]


async def test_a_handler_that_broke_its_card_is_answered_and_the_worker_ends(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every later request would fail as well, and at once: the worker would draw the traffic."""

    def lost(exc: BaseException) -> None:
        raise CardLost("CUDA error: device-side assert triggered") from exc

    def fails(_context: Any, _event: Any) -> Any:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr("stoker.worker.runner.end_if_lost", lost)
    bench = make(fails)
    caller = bench.caller()
    caller.request(1)
    meta, text = await caller.response(1)
    assert (meta["status"], meta["code"]) == (500, "handler_failed")
    assert b"device-side assert" in text
    assert bench.runner.crashed.result().code == EXIT_LOST_CARD
