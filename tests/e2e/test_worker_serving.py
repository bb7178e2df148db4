"""Real zygote, real forked workers, spoken to by their sockets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from live_platform import home_of_its_own
from stoker.nouns.launch import WorkerLaunch
from stoker.nouns.wire import Kind, frame
from worker_client import BOUND_S, WorkerClient, ZygoteUnderTest, write_function

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def zygote() -> Iterator[ZygoteUnderTest]:
    with home_of_its_own() as home:
        zygote = ZygoteUnderTest(home)
        try:
            yield zygote
        finally:
            zygote.stop()


class Worker:
    """One started worker and a client of it."""

    def __init__(self, launch: WorkerLaunch, pid: int, client: WorkerClient) -> None:
        self.launch = launch
        self.pid = pid
        self.client = client

    @property
    def lines(self) -> list[dict[str, Any]]:
        lines = Path(self.launch.log).read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


Start = Callable[..., Awaitable[Worker]]
_count = 0


@pytest.fixture
async def start(zygote: ZygoteUnderTest) -> AsyncIterator[Start]:
    clients: list[WorkerClient] = []

    async def start(
        source: str,
        *,
        file: str = "main.py",
        role: str = "gateway",
        ready: bool = True,
        **fields: Any,
    ) -> Worker:
        global _count
        _count += 1
        code = write_function(zygote.home.root / "code" / str(_count), source, file)
        launch = WorkerLaunch(
            **{
                "function": "f",
                "revision": 1,
                "replica": f"f-{_count}",
                "index": 0,
                "socket": str(zygote.home.worker_socket(f"f-{_count}", 0)),
                "log": str(zygote.home.function_logs("f") / f"f-{_count}.0.log"),
                "code_dir": str(code),
                "handler": "main:handler",
            }
            | fields
        )
        reply = zygote.start(launch)
        assert reply["kind"] == "started", reply
        client = await WorkerClient.connect(launch.socket, role)
        clients.append(client)
        if ready:
            await client.phase("ready")
        return Worker(launch, reply["pid"], client)

    yield start
    for client in clients:
        await client.close()


ECHO = "def handler(context, event):\n    return event.body\n"


async def test_every_kind_of_answer_has_its_status_type_and_body(start: Start) -> None:
    worker = await start(
        """
def init_context(context):
    context.user_data.word = "kept"

def handler(context, event):
    return {
        "text": "grüß",
        "bytes": b"\\x00\\xff",
        "dict": {"a": [1, 2.5, None]},
        "list": [1, {"b": 2}],
        "none": None,
        "number": 7,
        "pair": (201, {"made": True}),
        "response": context.Response(body="teapot", status_code=418, content_type="text/x",
                                     headers={"X-Tea": "green"}),
        "response_dict": context.Response(body={"a": 1}),
        "user_data": context.user_data.word,
        "worker": str(context.worker_id) + context.trigger.kind,
        "big": {"n": 2**70},
    }[event.path[1:]]
"""
    )

    async def get(path: str) -> tuple[int, str, bytes]:
        reply = await worker.client.call(path=f"/{path}")
        return reply.status, reply.meta["headers"]["content-type"], reply.body

    assert await get("text") == (200, "text/plain", "grüß".encode())
    assert await get("bytes") == (200, "text/plain", b"\x00\xff")
    assert await get("dict") == (200, "application/json", b'{"a":[1,2.5,null]}')
    assert await get("list") == (200, "application/json", b'[1,{"b":2}]')
    assert await get("none") == (200, "text/plain", b"")
    assert await get("number") == (200, "text/plain", b"7")
    assert await get("pair") == (201, "application/json", b'{"made":true}')
    assert await get("response") == (418, "text/x", b"teapot")
    assert await get("response_dict") == (200, "application/json", b'{"a":1}')
    assert await get("user_data") == (200, "text/plain", b"kept")
    assert await get("worker") == (200, "text/plain", b"0http")
    assert await get("big") == (200, "application/json", b'{"n": 1180591620717411303424}')
    reply = await worker.client.call(path="/response")
    assert reply.meta["headers"]["x-tea"] == "green"


async def test_the_event_carries_what_was_sent(start: Start) -> None:
    worker = await start(
        """
def handler(context, event):
    return {"body": event.body if not isinstance(event.body, bytes) else event.body.decode(),
            "parsed": not isinstance(event.body, bytes), "type": event.content_type,
            "header": event.headers["X-Thing"], "get": event.headers.get("x-thing"),
            "method": event.method, "path": event.path, "fields": event.fields, "id": event.id,
            "size": event.size, "url": event.url}
"""
    )
    reply = await worker.client.call(
        {"k": 1}, path="/p/q?a=1&a=2&b=", method="PUT", headers={"x-thing": "T"}, id="id-9"
    )
    assert reply.json == {
        "body": {"k": 1},
        "parsed": True,
        "type": "application/json",
        "header": "T",
        "get": "T",
        "method": "PUT",
        "path": "/p/q",
        "fields": {"a": "2", "b": ""},
        "id": "id-9",
        "size": 8,
        "url": "/p/q?a=1&a=2&b=",
    }
    broken = await worker.client.call(
        b"{no json", headers={"content-type": "application/json", "x-thing": "T"}
    )
    assert broken.json["body"] == "{no json"
    assert broken.json["parsed"] is False


async def test_a_raising_handler_answers_500_and_the_worker_goes_on(start: Start) -> None:
    worker = await start(
        "def handler(context, event):\n"
        "    if event.body == b'bad':\n        raise ValueError('no such thing')\n"
        "    return 'fine'\n"
    )
    bad = await worker.client.call(b"bad", id="the-bad-one")
    assert (bad.status, bad.meta["code"]) == (500, "handler_failed")
    assert bad.body == b"the handler raised ValueError: no such thing"
    assert (await worker.client.call()).body == b"fine"
    traced = [line for line in worker.lines if line.get("request_id") == "the-bad-one"]
    assert "Traceback" in traced[0]["message"]
    assert traced[0]["level"] == "error"


async def test_the_unserialisable_is_named(start: Start) -> None:
    worker = await start(
        "def handler(context, event):\n    return {'deep': [object()]} if event.body else {1, 2}\n"
    )
    deep = await worker.client.call(b"x")
    assert (deep.status, deep.meta["code"]) == (500, "handler_failed")
    assert b"contains object" in deep.body
    assert b"returned set" in (await worker.client.call()).body


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("raise RuntimeError('at import')\n", "RuntimeError: at import"),
        ("import nothing_like_this\n", "No module named 'nothing_like_this'"),
        ("def other(context, event): ...\n", "its functions are other"),
        ("handler = 5\n", "is not a function"),
        (
            "def handler(c, e): ...\ndef init_context(c):\n    raise KeyError('weights')\n",
            "KeyError: 'weights'",
        ),
        (
            "import asyncio\ndef handler(c, e): ...\nasync def init_context(c):\n"
            "    await asyncio.sleep(0)\n    raise KeyError('later')\n",
            "KeyError: 'later'",
        ),
        ("import sys\nsys.exit(0)\n", "SystemExit: 0"),
        ("def handler(:\n", "SyntaxError"),
    ],
)
async def test_a_function_that_cannot_start_tells_the_controller_why(
    start: Start, zygote: ZygoteUnderTest, source: str, says: str
) -> None:
    worker = await start(source, role="controller", ready=False)
    state = await worker.client.phase("failed")
    assert says in state["error"]
    assert zygote.exit_of(worker.pid) == 3
    assert any(says in line["message"] for line in worker.lines)


async def test_a_missing_module_is_named_with_what_is_there(start: Start) -> None:
    worker = await start(ECHO, handler="mian:handler", role="controller", ready=False)
    error = (await worker.client.phase("failed"))["error"]
    assert "no module 'mian'" in error
    assert "main.py" in error


async def test_a_module_name_may_contain_dashes_and_dots(start: Start) -> None:
    dashed = await start(ECHO, file="my-fn.py", handler="my-fn:handler")
    assert (await dashed.client.call(b"1")).body == b"1"
    dotted = await start(ECHO, file="my.fn.py", handler="my.fn:handler")
    assert (await dotted.client.call(b"2")).body == b"2"


async def test_an_async_trigger_needs_an_async_handler(start: Start) -> None:
    worker = await start(ECHO, asynchronous=True, permits=4, role="controller", ready=False)
    assert "must be an async def" in (await worker.client.phase("failed"))["error"]


@pytest.mark.parametrize("call", ["sys.exit(0)", "os._exit(9)", "os.kill(os.getpid(), 9)"])
async def test_a_handler_that_ends_the_process_is_seen_as_a_death(
    start: Start, zygote: ZygoteUnderTest, call: str
) -> None:
    worker = await start(f"import os, sys\ndef handler(context, event):\n    {call}\n")
    reply = await worker.client.call()
    assert reply.lost
    assert reply.kinds == []
    assert zygote.exit_of(worker.pid) in (70, 9, -9)


async def test_a_handler_that_blocks_past_its_deadline_is_killed_with_a_traceback(
    start: Start, zygote: ZygoteUnderTest
) -> None:
    # A regular expression holds the interpreter's lock: no thread or signal handler would run.
    worker = await start(
        "import re\ndef handler(context, event):\n    re.match(r'(a+)+$', 'a' * 64 + 'b')\n",
        event_timeout_s=0.3,
    )
    began = time.monotonic()
    reply = await worker.client.call()
    assert reply.lost
    assert time.monotonic() - began < 10
    assert zygote.exit_of(worker.pid) == -signal.SIGALRM
    assert "in handler" in Path(worker.launch.log).read_text()


async def test_the_functions_own_event_timeout_is_the_default_deadline(
    start: Start, zygote: ZygoteUnderTest
) -> None:
    worker = await start(
        "import time\ndef handler(context, event):\n    time.sleep(60)\n", event_timeout_s=0.2
    )
    assert (await worker.client.call()).lost
    assert zygote.exit_of(worker.pid) == -signal.SIGALRM


async def test_a_callers_short_deadline_does_not_kill_the_worker(start: Start) -> None:
    worker = await start(
        "import time\ndef handler(context, event):\n    time.sleep(float(event.body))\n"
        "    return 'late'\n",
        event_timeout_s=30,
    )
    assert (await worker.client.call(b"0.6", deadline_s=0.1)).body == b"late"
    assert (await worker.client.call(b"0")).body == b"late"


async def test_a_worker_is_not_killed_for_deadlines_that_were_met(start: Start) -> None:
    worker = await start(ECHO)
    assert (await worker.client.call(b"1", deadline_s=0.2)).body == b"1"
    slow = await start(
        "import time\ndef handler(context, event):\n    time.sleep(0.7)\n    return 'late'\n"
    )
    assert (await slow.client.call()).body == b"late"
    assert (await slow.client.call(deadline_s=30)).body == b"late"
    assert (await worker.client.call(b"2")).body == b"2"


async def test_a_request_whose_deadline_passed_in_the_inbox_is_never_begun(start: Start) -> None:
    worker = await start(
        "import time\nseen = []\ndef handler(context, event):\n    seen.append(event.id)\n"
        "    if event.body == b'slow':\n        time.sleep(0.4)\n    return seen\n",
        permits=4,
    )
    with worker.client.together():
        _, slow = worker.client.send(b"slow", id="slow")
        _, late = worker.client.send(b"", id="late", deadline_s=0.1)
    await worker.client.outcome(late)
    assert (late.status, late.meta["code"]) == (408, "deadline_exceeded")
    assert late.kinds[0] == Kind.QUEUED
    assert Kind.STARTED not in late.kinds
    assert (await worker.client.outcome(slow)).status == 200
    assert (await worker.client.call(id="last")).json == ["slow", "last"]


async def test_a_queued_request_is_told_when_it_starts(start: Start) -> None:
    worker = await start(
        "import time\ndef handler(context, event):\n    time.sleep(0.05)\n    return 'x'\n",
        permits=2,
    )
    with worker.client.together():
        _, first = worker.client.send()
        _, second = worker.client.send()
    await worker.client.outcome(second)
    assert first.kinds == [Kind.RESPONSE]
    assert second.kinds == [Kind.QUEUED, Kind.STARTED, Kind.RESPONSE]
    assert second.meta["queue_s"] >= 0.04


async def test_past_its_permits_a_worker_answers_busy_and_later_idle(start: Start) -> None:
    worker = await start(
        "import asyncio\nasync def handler(context, event):\n"
        "    await asyncio.sleep(0.1)\n    return 'x'\n"
    )
    _, first = worker.client.send()
    _, second = worker.client.send()
    await worker.client.outcome(second)
    assert second.busy == "full"
    await worker.client.outcome(first)
    await worker.client.until_connection_frame(Kind.IDLE)
    assert (await worker.client.call()).status == 200


async def test_async_handlers_overlap_up_to_their_permits(start: Start) -> None:
    worker = await start(
        "import asyncio\nboth = asyncio.Barrier(8)\nasync def handler(context, event):\n"
        "    await both.wait()\n    return event.body\n",
        permits=8,
        asynchronous=True,
    )
    replies = await asyncio.gather(*(worker.client.call(b"%d" % i) for i in range(8)))
    assert [reply.body for reply in replies] == [b"%d" % i for i in range(8)]


async def test_a_cancelled_async_handler_stops_and_cleans_up(start: Start) -> None:
    worker = await start(
        "import asyncio\nlog = []\nasync def handler(context, event):\n"
        "    if event.body == b'log':\n        return log\n"
        "    try:\n        log.append('began')\n        await asyncio.sleep(60)\n"
        "    finally:\n        log.append('cleaned')\n",
        permits=4,
        asynchronous=True,
    )
    stream, reply = worker.client.send(b"")
    assert (await worker.client.call(b"log")).json == ["began"]
    worker.client.write(frame(Kind.CANCEL, stream))
    await worker.client.outcome(reply)
    assert reply.end == {"outcome": "cancelled"}
    assert (await worker.client.call(b"log")).json == ["began", "cleaned"]


async def test_work_stops_when_its_caller_hangs_up(start: Start) -> None:
    """LitServe#165: work went on after the client had gone."""
    worker = await start(
        "import asyncio\nlog = []\nstopped = asyncio.Event()\n"
        "async def handler(context, event):\n"
        "    if event.body == b'log':\n        await stopped.wait()\n        return log\n"
        "    try:\n        log.append('began')\n        await asyncio.sleep(60)\n"
        "    finally:\n        log.append('stopped')\n        stopped.set()\n",
        permits=4,
        asynchronous=True,
    )
    other = await WorkerClient.connect(worker.launch.socket)
    other.send(b"")
    await other.phase("ready")
    await other.close()
    assert (await worker.client.call(b"log")).json == ["began", "stopped"]


async def test_an_async_handler_is_cancelled_at_its_deadline(start: Start) -> None:
    worker = await start(
        "import asyncio\nasync def handler(context, event):\n    await asyncio.sleep(60)\n"
    )
    reply = await worker.client.call(deadline_s=0.1)
    assert (reply.status, reply.meta["code"]) == (408, "deadline_exceeded")
    assert (await worker.client.call(deadline_s=0.1)).status == 408


STREAMS = {
    "sync": "def handler(context, event):\n    for i in range(3):\n        yield f'{i};'\n",
    "async": "async def handler(context, event):\n    for i in range(3):\n        yield f'{i};'\n",
    "response": "def handler(context, event):\n"
    "    return context.Response(body=(f'{i};' for i in range(3)), status_code=206,\n"
    "                            content_type='text/event-stream')\n",
}


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_generator_is_streamed_item_by_item(start: Start, kind: str) -> None:
    worker = await start(STREAMS[kind])
    reply = await worker.client.call()
    assert reply.kinds == [Kind.HEAD, Kind.CHUNK, Kind.CHUNK, Kind.CHUNK, Kind.END]
    assert reply.chunks == [b"0;", b"1;", b"2;"]
    assert reply.end == {"outcome": "ok"}
    assert reply.status == (206 if kind == "response" else 200)
    assert (await worker.client.call()).end == {"outcome": "ok"}


async def test_chunks_leave_before_the_generator_goes_on(start: Start) -> None:
    worker = await start(
        "import os\ndef handler(context, event):\n    yield 'first'\n"
        "    while not os.path.exists('go'):\n        yield ''\n    yield 'second'\n"
    )
    _, reply = worker.client.send()
    await reply.until(Kind.CHUNK)
    assert reply.chunks == [b"first"]
    assert not reply.done.is_set()
    Path(worker.launch.code_dir, "go").touch()
    await worker.client.outcome(reply)
    assert reply.chunks == [b"first", b"second"]


async def test_an_endless_generator_can_be_paused_resumed_and_cancelled(start: Start) -> None:
    worker = await start(
        "log = []\ndef handler(context, event):\n    try:\n        while True:\n"
        "            yield 'tick'\n    finally:\n        open('closed', 'w').close()\n"
    )
    stream, reply = worker.client.send()
    await reply.until(Kind.CHUNK, 5)
    worker.client.write(frame(Kind.PAUSE, stream) + frame(Kind.PING, 0))
    await worker.client.until_connection_frame(Kind.PONG)
    held = len(reply.chunks)
    worker.client.write(frame(Kind.PING, 0))
    await asyncio.sleep(0.1)
    assert len(reply.chunks) <= held + 1
    worker.client.write(frame(Kind.RESUME, stream))
    await reply.until(Kind.CHUNK, held + 20)
    worker.client.write(frame(Kind.CANCEL, stream))
    await worker.client.outcome(reply)
    assert reply.end == {"outcome": "cancelled"}
    assert Path(worker.launch.code_dir, "closed").exists()


async def test_a_generator_that_raises_ends_as_what_it_is(start: Start) -> None:
    worker = await start(
        "def handler(context, event):\n    if event.body:\n        yield 'some'\n"
        "    raise ValueError('midway')\n"
    )
    reply = await worker.client.call(b"x")
    assert reply.end == {"outcome": "error", "message": "the handler raised ValueError: midway"}
    early = await worker.client.call()
    assert (early.status, early.kinds) == (500, [Kind.RESPONSE])


async def test_an_exception_that_cannot_even_be_shown_is_a_500_and_the_worker_goes_on(
    start: Start,
) -> None:
    worker = await start(
        """
from nuclio_sdk.exceptions import ExceptionWithResponse
class Broken(Exception):
    def __str__(self):
        raise ValueError("no text either")
def handler(context, event):
    if event.body == b"status":
        raise ExceptionWithResponse("body", "text/plain", "no number")
    if event.body == b"text":
        raise Broken()
    return "fine"
"""
    )
    for body in (b"status", b"text"):
        reply = await worker.client.call(body)
        assert (reply.status, reply.meta["code"]) == (500, "handler_failed")
    assert (await worker.client.call()).body == b"fine"


async def test_the_logs_in_a_reply_quote_no_secret(start: Start) -> None:
    worker = await start(
        "import os\ndef handler(context, event):\n"
        "    context.logger.info('token is ' + os.environ['API_TOKEN'])\n",
        env={"API_TOKEN": "s3cret-s3cret"},
    )
    reply = await worker.client.call(headers={"x-nuclio-log-level": "info"})
    logs = reply.meta["headers"]["x-nuclio-logs"]
    assert "token is" in logs
    assert "s3cret" not in logs


async def test_a_logged_value_that_cannot_be_shown_does_not_cost_the_answer(start: Start) -> None:
    worker = await start(
        """
class Odd:
    def __str__(self):
        raise ValueError("no text")
def handler(context, event):
    context.logger.info_with("odd", value=event.path == "/odd" and Odd(), keys={(1, 2): 3})
    return "fine"
"""
    )
    for path in ("/odd", "/"):
        reply = await worker.client.call(path=path, headers={"x-nuclio-log-level": "info"})
        assert reply.body == b"fine"
        assert "odd" in reply.meta["headers"]["x-nuclio-logs"]


async def test_an_exception_that_quotes_a_secret_does_not_tell_it_to_the_caller(
    start: Start,
) -> None:
    worker = await start(
        "import os\ndef handler(context, event):\n"
        "    raise ValueError('cannot log in with ' + os.environ['DB_PASSWORD'])\n",
        env={"DB_PASSWORD": "hunter2-hunter2"},
    )
    reply = await worker.client.call()
    assert reply.status == 500
    assert b"cannot log in with" in reply.body
    assert b"hunter2" not in reply.body


BATCH = """
import time
def handler(context, events):
    assert isinstance(events, list)
    if any(event.body == b"explode" for event in events):
        raise RuntimeError("whole batch")
    time.sleep(0.005)
    last = [event.last_in_batch for event in events]
    assert last == [False] * (len(events) - 1) + [True]
    return [one(context, event, len(events)) for event in events]

def one(context, event, size):
    if event.body == b"poison":
        return ValueError("only me")
    return context.Response(body={"id": event.id, "size": size}, event_id=event.id)
"""


async def test_concurrent_requests_are_batched_and_each_gets_its_own_answer(start: Start) -> None:
    worker = await start(BATCH, permits=16, batch_size=8, batch_timeout_s=0.02)
    clients = [worker.client, await WorkerClient.connect(worker.launch.socket)]
    await clients[1].phase("ready")

    async def caller(number: int) -> list[int]:
        sizes = []
        for turn in range(20):
            reply = await clients[number % 2].call(id=f"{number}-{turn}")
            assert reply.json["id"] == f"{number}-{turn}"
            assert reply.meta["batch"] == reply.json["size"] <= 8
            sizes.append(reply.json["size"])
        return sizes

    sizes = [size for own in await asyncio.gather(*map(caller, range(16))) for size in own]
    assert max(sizes) == 8
    assert sum(sizes) / len(sizes) > 4
    await clients[1].close()


async def test_one_poisoned_event_fails_alone(start: Start) -> None:
    worker = await start(BATCH, permits=8, batch_size=4, batch_timeout_s=5)
    sent = [worker.client.send(body)[1] for body in (b"", b"poison", b"", b"")]
    replies = [await worker.client.outcome(reply) for reply in sent]
    assert [reply.status for reply in replies] == [200, 500, 200, 200]
    assert b"only me" in replies[1].body
    assert {reply.meta["batch"] for reply in replies} == {4}


async def test_a_batch_handler_that_raises_or_miscounts_fails_its_whole_batch(start: Start) -> None:
    worker = await start(BATCH, permits=8, batch_size=2, batch_timeout_s=5)
    sent = [worker.client.send(body)[1] for body in (b"explode", b"")]
    for reply in sent:
        await worker.client.outcome(reply)
        assert (reply.status, reply.meta["code"]) == (500, "handler_failed")
    short = await start(
        "def handler(context, events):\n    return ['one']\n",
        permits=8,
        batch_size=2,
        batch_timeout_s=5,
    )
    sent = [short.client.send()[1] for _ in range(2)]
    for reply in sent:
        await short.client.outcome(reply)
        assert b"2 events, 1 answers" in reply.body


async def test_an_incomplete_batch_leaves_at_its_timeout(start: Start) -> None:
    worker = await start(BATCH, permits=16, batch_size=8, batch_timeout_s=0.1)
    began = time.monotonic()
    reply = await worker.client.call()
    assert reply.json["size"] == 1
    assert 0.09 < time.monotonic() - began < 5
    assert reply.meta["batch_s"] >= 0.09
    assert reply.kinds == [Kind.QUEUED, Kind.STARTED, Kind.RESPONSE]


async def test_a_batch_handler_may_be_async(start: Start) -> None:
    worker = await start(
        "import asyncio\nasync def handler(context, events):\n    await asyncio.sleep(0.01)\n"
        "    return [event.body for event in events]\n",
        permits=8,
        batch_size=4,
        batch_timeout_s=0.01,
    )
    replies = await asyncio.gather(*(worker.client.call(b"%d" % i) for i in range(8)))
    assert [reply.body for reply in replies] == [b"%d" % i for i in range(8)]


MIXED = """
import asyncio

closed = []

async def ticks(name):
    try:
        while True:
            yield name
            await asyncio.sleep(0)
    finally:
        closed.append(name)

async def later(event):
    await asyncio.sleep(0.01)
    if event.body == b"wrong":
        raise ValueError("only me")
    return event.body

def handler(context, events):
    return [one(event, len(events)) for event in events]

def one(event, size):
    if event.body == b"closed":
        return {"closed": closed, "size": size}
    if event.body.startswith(b"tick"):
        return ticks(event.body.decode())
    return event.body if event.body == b"now" else later(event)
"""


async def test_answers_of_a_batch_are_whole_later_or_streams_each_by_itself(start: Start) -> None:
    """A batch answered as one: no stream, and nobody could leave it."""
    worker = await start(MIXED, permits=12, batch_size=6, batch_timeout_s=0.05)
    bodies = (b"tick 1", b"later", b"wrong", b"now", b"tick 2", b"tick 3")
    with worker.client.together():
        sent = [worker.client.send(body) for body in bodies]
    (one, first), (_, later), (_, wrong), (_, now), (two, second), (three, third) = sent
    assert (await worker.client.outcome(now)).body == b"now"
    assert (await worker.client.outcome(later)).body == b"later"
    assert (await worker.client.outcome(wrong)).status == 500
    assert b"only me" in wrong.body
    for reply in (first, second, third):
        await reply.until(Kind.CHUNK, 5)
        assert set(reply.chunks) == {reply.chunks[0]}
        assert reply.meta["batch"] == 6
    assert {reply.meta["batch"] for reply in (later, wrong, now)} == {6}
    worker.client.write(frame(Kind.CANCEL, one))
    assert (await worker.client.outcome(first)).end == {"outcome": "cancelled"}
    seen = second.kinds.count(Kind.CHUNK)
    await second.until(Kind.CHUNK, seen + 20)
    _, waiting = worker.client.send(b"closed")
    await waiting.until(Kind.QUEUED)
    assert not waiting.done.is_set()
    worker.client.write(frame(Kind.CANCEL, two) + frame(Kind.CANCEL, three))
    await worker.client.outcome(waiting)
    assert waiting.json == {"closed": ["tick 1", "tick 2", "tick 3"], "size": 1}


async def test_a_stream_of_a_batch_ends_at_its_own_deadline(start: Start) -> None:
    worker = await start(MIXED, permits=8, batch_size=2, batch_timeout_s=5)
    with worker.client.together():
        sent = [worker.client.send(b"tick", deadline_s=s)[1] for s in (1.0, None)]
    assert (await worker.client.outcome(sent[0])).end["outcome"] == "error"
    assert not sent[1].done.is_set()


async def test_an_async_batch_whose_callers_have_all_left_is_cancelled(start: Start) -> None:
    worker = await start(
        "import asyncio\nlog = []\nasync def handler(context, events):\n"
        "    if events[0].body == b'log':\n        return [log] * len(events)\n"
        "    try:\n        log.append('began')\n        await asyncio.sleep(60)\n"
        "    finally:\n        log.append('cleaned')\n",
        permits=8,
        batch_size=2,
        batch_timeout_s=0.01,
    )
    with worker.client.together():
        sent = [worker.client.send(b"") for _ in range(2)]
    _, asked = worker.client.send(b"log")
    await asked.until(Kind.QUEUED)
    worker.client.write(frame(Kind.CANCEL, sent[0][0]) + frame(Kind.PING, 0))
    await worker.client.until_connection_frame(Kind.PONG)
    assert not any(reply.done.is_set() for _, reply in sent)
    worker.client.write(frame(Kind.CANCEL, sent[1][0]))
    for _, reply in sent:
        assert (await worker.client.outcome(reply)).end == {"outcome": "cancelled"}
    assert (await worker.client.outcome(asked)).json == ["began", "cleaned"]


async def test_draining_finishes_what_was_accepted_and_refuses_the_rest(
    start: Start, zygote: ZygoteUnderTest
) -> None:
    worker = await start(
        "import asyncio\nasync def handler(context, event):\n    await asyncio.sleep(0.2)\n"
        "    return 'done'\n",
        permits=4,
        asynchronous=True,
    )
    _, accepted = worker.client.send()
    worker.client.write(frame(Kind.DRAIN, 0))
    _, refused = worker.client.send()
    await worker.client.outcome(refused)
    assert refused.busy == "draining"
    await worker.client.phase("draining")
    assert (await worker.client.outcome(accepted)).body == b"done"
    assert zygote.exit_of(worker.pid) == 0
    await worker.client.until_lost()


async def test_a_worker_says_that_it_stopped_and_still_refuses_until_its_caller_closes(
    start: Start, zygote: ZygoteUnderTest
) -> None:
    worker = await start(ECHO)
    worker.client.write(frame(Kind.DRAIN, 0))
    await worker.client.phase("stopped")
    _, crossing = worker.client.send()
    await worker.client.outcome(crossing)
    assert crossing.busy == "draining"
    await worker.client.close()
    assert zygote.exit_of(worker.pid) == 0


async def test_draining_gives_up_after_the_termination_time(
    start: Start, zygote: ZygoteUnderTest
) -> None:
    worker = await start(
        "import asyncio\nasync def handler(context, event):\n    await asyncio.sleep(60)\n",
        termination_s=0.2,
    )
    _, reply = worker.client.send()
    worker.client.write(frame(Kind.DRAIN, 0))
    await worker.client.outcome(reply)
    assert (reply.status, reply.meta["code"]) == (503, "shutting_down")
    assert zygote.exit_of(worker.pid) == 0


async def test_an_idle_worker_that_is_drained_or_terminated_exits_at_once(
    start: Start, zygote: ZygoteUnderTest
) -> None:
    drained = await start(
        ECHO + "def init_context(context):\n"
        "    context.platform.set_termination_callback(lambda: open('bye', 'w').close())\n"
    )
    drained.client.write(frame(Kind.DRAIN, 0))
    assert zygote.exit_of(drained.pid) == 0
    assert Path(drained.launch.code_dir, "bye").exists()
    assert not Path(drained.launch.socket).exists()
    terminated = await start(ECHO)
    os.kill(terminated.pid, signal.SIGTERM)
    assert zygote.exit_of(terminated.pid) == 0


async def test_an_asynchronous_termination_callback_is_awaited_but_not_for_ever(
    start: Start, zygote: ZygoteUnderTest
) -> None:
    source = """
import asyncio
def handler(context, event):
    return event.body
def init_context(context):
    async def last():
        await asyncio.sleep({seconds})
        open("bye", "w").close()
    context.platform.set_termination_callback(last)
"""
    patient = await start(source.replace("{seconds}", "0.2"))
    hangs = await start(source.replace("{seconds}", "600"), termination_s=0.1)
    for worker in (patient, hangs):
        worker.client.write(frame(Kind.DRAIN, 0))
        assert zygote.exit_of(worker.pid) == 0
    assert Path(patient.launch.code_dir, "bye").exists()
    assert not Path(hangs.launch.code_dir, "bye").exists()
    assert any("did not end within" in line["message"] for line in hangs.lines)


async def test_a_failure_past_the_deadline_is_the_deadlines(start: Start) -> None:
    worker = await start(
        "import time\ndef handler(context, event):\n    time.sleep(0.3)\n"
        "    return context.Response(status_code=400, body='a step failed')\n"
    )
    reply = await worker.client.call(deadline_s=0.1)
    assert (reply.status, reply.meta["code"]) == (408, "deadline_exceeded")
    assert (await worker.client.call(deadline_s=30)).body == b"a step failed"


async def test_prints_and_logs_become_json_lines(start: Start) -> None:
    worker = await start(
        """
import ctypes, logging, os, sys
def handler(context, event):
    print("hello", "there")
    sys.stdout.buffer.write(b"\\xff\\x00raw\\n")
    print("oops", file=sys.stderr)
    os.write(1, b"from C\\n")
    logging.getLogger("lib").warning("careful %s", 1)
    context.logger.info_with("counted", n=3)
    context.logger.debug("quiet")
    print("no newline", end="")
    return "x"
"""
    )
    reply = await worker.client.call(headers={"x-nuclio-log-level": "info"}, id="q1")
    logs = json.loads(reply.meta["headers"]["x-nuclio-logs"])
    assert [(log["level"], log["message"], log["n"]) for log in logs] == [("info", "counted", 3)]
    assert "x-nuclio-logs" not in (await worker.client.call()).meta["headers"]
    lines = [line for line in worker.lines if line.get("request_id") == "q1"]
    said = {line["message"]: line for line in lines}
    assert said["hello there"]["level"] == "info"
    assert said["\\xff\x00raw"]["level"] == "info"
    assert said["oops"]["level"] == "error"
    assert said["careful 1"]["level"] == "warn"
    assert said["counted"]["with"] == {"n": 3}
    assert {line["function"] for line in worker.lines} == {"f"}
    assert "from C" in Path(worker.launch.log).read_text()


async def test_a_live_workers_log_does_not_grow_without_bound(start: Start) -> None:
    worker = await start(
        """
import os
def handler(context, event):
    # Past Python, as C code prints.
    for _ in range(17):
        os.write(1, b"c" * (1 << 20) + b"\\n")
    for _ in range(40):
        print("p" * 10_000)
    os.write(2, b"after\\n")
    context.logger.info("end")
"""
    )
    await worker.client.call()
    log = Path(worker.launch.log)
    older = log.with_name(log.name + ".1")
    assert older.stat().st_size > 17 << 20
    assert log.stat().st_size < 1 << 20
    assert "after" in log.read_text().splitlines()
    assert worker.lines[-1]["message"] == "end"


async def test_environment_folder_and_neighbours_are_the_functions_own(start: Start) -> None:
    worker = await start(
        "import os, neighbour\ndef handler(context, event):\n"
        "    return [os.environ['GREETING'], os.path.realpath(os.getcwd()), neighbour.WORD]\n",
        env={"GREETING": "hej", "PYTHONDONTWRITEBYTECODE": "1"},
        ready=False,
        role="controller",
    )
    assert "neighbour" in (await worker.client.phase("failed"))["error"]
    write_function(Path(worker.launch.code_dir), "WORD = 'near'\n", "neighbour.py")
    source = Path(worker.launch.code_dir, "main.py").read_text()
    again = await start(source, env={"GREETING": "hej"}, code_dir=worker.launch.code_dir)
    assert (await again.client.call()).json == [
        "hej",
        os.path.realpath(worker.launch.code_dir),
        "near",
    ]


async def test_a_large_body_goes_through_both_ways(start: Start) -> None:
    worker = await start(ECHO)
    body = os.urandom(8 << 20)
    assert (await worker.client.call(body)).body == body


async def test_a_peer_that_speaks_something_else_is_cut_off_and_others_go_on(start: Start) -> None:
    worker = await start(ECHO)
    reader, writer = await asyncio.open_unix_connection(worker.launch.socket)
    writer.write(b"GET / HTTP/1.1\r\n\r\n" * 4)
    async with asyncio.timeout(BOUND_S):
        assert await reader.read() == b""
    writer.close()
    assert (await worker.client.call(b"still")).body == b"still"
