"""A worker that records its traffic: what is written, what is not, and who never waits for it."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nuclio_sdk
import pytest
from test_worker_desk import Bench, Caller, Make, echo, make  # noqa: F401 - a fixture

from stoker.nouns.exchange import Exchange
from stoker.nouns.launch import WorkerLaunch
from stoker.nouns.recording import RECORD_VARIABLE
from stoker.nouns.secrecy import MASK
from stoker.nouns.wire import Kind, frame, frame_with_meta
from stoker.worker import recorder as recorder_module
from stoker.worker.log import WorkerLog
from stoker.worker.recorder import Recorder, Tape
from stoker.worker.segments import Segments

ALL = "share=1"


class Recorded:
    """A bench that records into a home of its own."""

    def __init__(self, bench: Bench, home: Path, log: WorkerLog, declared: str) -> None:
        self.bench = bench
        self.home = home
        env = {RECORD_VARIABLE: declared, "STOKER_HOME": str(home)}
        launch = WorkerLaunch(
            function="f", revision=4, replica="f-1", index=0, socket="", log="", code_dir="",
            handler="main:handler", env=env,
        )  # fmt: skip
        recorder = Recorder.of(launch, log, ("hunter2-long",))
        assert recorder is not None
        self.recorder = bench.desk.recorder = recorder
        self._streams = 0

    async def ask(self, body: bytes = b"", caller: Caller | None = None, **meta: Any) -> None:
        """Sends one request and waits for the end of its answer."""
        caller = caller or self.bench.caller()
        self._streams += 1
        headers = {"content-type": "text/plain"} | meta.pop("headers", {})
        sent = {"id": "r", "method": "POST", "path": "/", "headers": headers, "deadline": None}
        data = frame_with_meta(
            Kind.REQUEST, self._streams, json.dumps({**sent, **meta}).encode(), body
        )
        caller.sock.send(data)
        await caller.until(meta.get("until", Kind.RESPONSE), self._streams)

    def written(self) -> list[Exchange]:
        """Ends the recording; what was written."""
        if not self.recorder._thread.is_alive():
            self.recorder.start()
        self.recorder.close(10.0)
        folder = self.home / "traffic" / "f"
        files = sorted(folder.glob("*.jsonl"))
        return [Exchange.of_line(line) for path in files for line in path.read_bytes().splitlines()]


Record = Callable[..., Recorded]


@pytest.fixture
def log(tmp_path: Path) -> WorkerLog:
    return WorkerLog(str(tmp_path / "r.log"), function="f", replica="f-1", worker=0)


@pytest.fixture
def record(make: Make, tmp_path: Path, log: WorkerLog) -> Record:  # noqa: F811
    """A worker with a handler that records as declared."""

    def begin(call: Callable[..., Any], declared: str, **fields: Any) -> Recorded:
        return Recorded(make(call, **fields), tmp_path, log, declared)

    return begin


def said(tmp_path: Path) -> str:
    return (tmp_path / "r.log").read_text()


async def test_a_request_is_written_with_its_answer(
    record: Record,
) -> None:
    def handler(_context: Any, event: Any) -> Any:
        return nuclio_sdk.Response(
            body={"got": event.body.decode()}, status_code=201, content_type="application/json",
            headers={"X-Own": "not written"},
        )  # fmt: skip

    one = record(handler, ALL)
    headers = {"authorization": "Bearer x", "cookie": "c", "x-any": "1"}
    await one.ask(b"hello", path="/a?b=1", headers=headers)
    (got,) = one.written()
    assert (got.method, got.path, got.request.body) == ("POST", "/a?b=1", b"hello")
    assert got.request.headers == {"content-type": "text/plain"}
    assert (got.status, json.loads(got.answer.body)) == (201, {"got": "hello"})
    assert got.answer.headers == {"content-type": "application/json"}
    assert (got.function, got.revision, got.via, got.step) == ("f", 4, "gateway", "")


async def test_a_graphs_call_names_the_graph_and_its_step(
    record: Record,
) -> None:
    one = record(echo, ALL)
    caller = one.bench.caller()
    hello = {"role": "graph", "peer": "graph-flow-1.0", "function": "flow"}
    caller.sock.send(frame(Kind.HELLO, 0, json.dumps(hello).encode()))
    await one.ask(b"x", caller, step="embed")
    await one.ask(b"x", caller, trigger="nightly")
    record = {
        "kind": "v3ioStream", "topic": "t", "shard": 0, "shards": 1, "offset": 1, "time": 1.0,
        "explicit": False,
    }  # fmt: skip
    await one.ask(b"x", caller, trigger="news", record=record, method="", path="")
    assert [(got.via, got.step) for got in one.written()] == [
        ("graph", "flow/embed"),
        ("cron", "nightly"),
        ("stream", "news"),
    ]


async def test_batches_are_written_request_by_request(
    record: Record,
) -> None:
    one = record(lambda _c, events: [e.body for e in events], ALL, batch_size=2)
    await one.ask(b"a")
    await one.ask(b"b")
    assert [got.answer.body for got in one.written()] == [b"a", b"b"]


async def test_a_streamed_answer_is_written_whole_and_a_broken_one_is_not(
    record: Record,
) -> None:
    def handler(_context: Any, event: Any) -> Any:
        yield "one "
        if event.body == b"break":
            raise ValueError("broken")
        yield "two"

    one = record(handler, ALL)
    for body in (b"break", b"go"):
        await one.ask(body, until=Kind.END)
    assert [(got.request.body, got.answer.body) for got in one.written()] == [(b"go", b"one two")]


async def test_of_a_batch_in_which_some_stream_each_is_written_once_and_whole(
    record: Record,
) -> None:
    def pieces(body: bytes) -> Any:
        yield body + b" one "
        if body == b"break":
            raise ValueError("broken")
        yield "two"

    async def later(body: bytes) -> bytes:
        return body + b" later"

    def answer(body: bytes) -> Any:
        if body == b"fail":
            return ValueError("no")
        return later(body) if body == b"wait" else pieces(body)

    one = record(lambda _c, events: [answer(e.body) for e in events], ALL, batch_size=4, permits=4)
    caller = one.bench.caller()
    bodies = (b"go", b"break", b"wait", b"fail")
    for stream, body in enumerate(bodies, 1):
        meta = {"id": f"r{stream}", "method": "POST", "path": "/", "headers": {}, "deadline": None}
        data = frame_with_meta(Kind.REQUEST, stream, json.dumps(meta).encode(), body)
        caller.sock.send(data)
    for stream, kind in enumerate((Kind.END, Kind.END, Kind.RESPONSE, Kind.RESPONSE), 1):
        await caller.until(kind, stream)
    assert {got.request.body: got.answer.body for got in one.written()} == {
        b"go": b"go one two",
        b"wait": b"wait later",
    }


async def test_a_stream_beyond_the_bound_is_skipped_and_not_kept_in_memory(
    record: Record,
) -> None:
    def handler(_context: Any, _event: Any) -> Any:
        for _ in range(10):
            yield b"x" * 1000

    one = record(handler, "share=1,body=4KiB,max=1MiB")
    await one.ask(b"", until=Kind.END)
    assert one.written() == []
    assert one.recorder.skipped == {"a body is larger than 4096 bytes": 1}


def test_a_tape_that_has_become_too_long_lets_go_of_what_it_held() -> None:
    tape = Tape(200, {}, limit=100)
    for _ in range(3):
        tape.add(b"x" * 50)
    assert (tape.parts, tape.size) == (None, 150)


@pytest.mark.parametrize("header", ["x-stoker-mirror", "x-stoker-replay"])
async def test_copies_of_requests_are_not_recorded_again(
    record: Record,
    header: str,
) -> None:
    one = record(echo, ALL)
    await one.ask(b"copy", headers={header: "1"})
    await one.ask(b"for a copy", step="s", copied=True)
    await one.ask(b"own")
    assert [got.request.body for got in one.written()] == [b"own"]


async def test_what_the_handler_failed_is_not_recorded_but_what_it_refused_is(
    record: Record,
) -> None:
    def handler(_context: Any, event: Any) -> Any:
        if event.body == b"raise":
            raise ValueError("no")
        return (400, "refused")

    one = record(handler, ALL)
    for body in (b"raise", b"refuse"):
        await one.ask(body)
    assert [(got.request.body, got.status) for got in one.written()] == [(b"refuse", 400)]


async def test_what_cannot_be_redacted_is_not_written_and_counted(
    record: Record,
    tmp_path: Path,
) -> None:
    one = record(echo, "share=1,mask=mail")
    json_type = {"content-type": "application/json"}
    await one.ask(b'{"mail": "ann@home", "n": 1}', headers=json_type)
    await one.ask(b"ann@home, no JSON")
    (got,) = one.written()
    assert json.loads(got.request.body) == {"mail": MASK, "n": 1}
    assert json.loads(got.answer.body) == {"mail": MASK, "n": 1}
    assert (got.altered, got.answer_altered) == (("mask mail",), ("mask mail",))
    files = [path.read_bytes() for path in (tmp_path / "traffic" / "f").iterdir()]
    assert not any(b"ann@home" in data for data in files)
    assert list(one.recorder.skipped.values()) == [1]
    assert "ann@home" not in said(tmp_path)


async def test_a_redaction_that_breaks_writes_nothing(
    record: Record,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a mistake of ours, with ann@home in it")

    monkeypatch.setattr(recorder_module.Redactor, "exchange", broken)
    one = record(echo, ALL)
    await one.ask(b"x")
    assert one.written() == []
    assert one.recorder.skipped == {"RuntimeError while it was redacted": 1}


async def test_a_packed_answer_is_unpacked_before_the_rules_look_at_it(
    record: Record,
) -> None:
    def handler(_context: Any, _event: Any) -> Any:
        packed = gzip.compress(b'{"mail": "ann@home"}')
        return nuclio_sdk.Response(
            body=packed, content_type="application/json", headers={"Content-Encoding": "gzip"}
        )

    one = record(handler, "share=1,mask=mail")
    await one.ask(b"{}")
    assert json.loads(one.written()[0].answer.body) == {"mail": MASK}


async def test_the_functions_secrets_are_masked(
    record: Record,
) -> None:
    one = record(echo, ALL)
    await one.ask(b"the key is hunter2-long")
    assert one.written()[0].answer.body == f"the key is {MASK}".encode()


async def test_a_slow_disk_costs_recordings_and_never_an_answer(
    record: Record,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder_module, "QUEUED", 2)
    monkeypatch.setattr(recorder_module, "GATHER_S", 0.0)
    stuck, free = threading.Event(), threading.Event()
    append = Segments.append

    def slow(self: Segments, lines: list[bytes]) -> int:
        stuck.set()
        assert free.wait(10)
        return append(self, lines)

    monkeypatch.setattr(Segments, "append", slow)
    one = record(echo, ALL)
    one.recorder.start()
    await one.ask(b"0")
    assert stuck.wait(10)
    for n in range(1, 7):
        await one.ask(str(n).encode())  # answered, each of them
    assert one.recorder.dropped == 4
    free.set()
    assert [got.request.body for got in one.written()] == [b"0", b"1", b"2"]
    assert "too_fast" in said(tmp_path)


async def test_a_full_disk_is_counted_and_the_worker_goes_on(
    record: Record,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(self: Segments, lines: list[bytes]) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Segments, "append", full)
    one = record(echo, ALL)
    await one.ask(b"x")
    assert one.written() == []
    assert one.recorder.skipped == {"the files cannot be written (No space left on device)": 1}


async def test_a_share_of_the_requests_is_recorded(
    record: Record,
) -> None:
    one = record(echo, "share=0.25")
    one.recorder._random.seed(7)
    caller = one.bench.caller()
    for n in range(200):
        await one.ask(str(n).encode(), caller)
    assert 30 <= len(one.written()) <= 70


async def test_without_a_declaration_there_is_no_recorder(log: WorkerLog) -> None:
    launch = WorkerLaunch(
        function="f", revision=4, replica="f-1", index=0, socket="", log="", code_dir="",
        handler="main:handler",
    )  # fmt: skip
    assert Recorder.of(launch, log, ()) is None
