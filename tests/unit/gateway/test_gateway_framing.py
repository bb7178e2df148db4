"""Where requests and answers begin and end, whatever clients and handlers do about it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import orjson
import pytest

from fake_store import function
from stoker.gateway import backlog, heads
from stoker.gateway.phase import Outflow
from stoker.nouns.wire import Kind, frame

Place = Any


def streams(status: int, *chunks: bytes, outcome: str = "ok") -> Any:
    def answer(to: Any, stream: int, meta: Any, body: bytes) -> None:
        to.write(frame(Kind.HEAD, stream, orjson.dumps({"status": status, "headers": {}})))
        for chunk in chunks:
            to.write(frame(Kind.CHUNK, stream, chunk))
        to.end(stream, outcome, "it raised")

    return answer


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("outcome", ["ok", "error"])
@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
async def test_a_stream_without_content_cannot_forge_the_next_answer(
    place: Place, status: int, outcome: str, accept: str
) -> None:
    worker = await place.worker()
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
    worker.answer = streams(status, forged, outcome=outcome)
    client = await place.client()
    assert (await client.get("/echo/", Accept=accept)).status == status
    if outcome == "error":
        assert await client.closed() == b""
        return
    worker.answer = worker.by_path
    assert (await client.post("/echo/", b"mine")).body == b"mine"


@pytest.mark.parametrize("status", [42, 100, 101, 700])
async def test_a_stream_with_a_status_that_is_none_is_the_handlers_failure(
    place: Place, status: int
) -> None:
    worker = await place.worker()
    worker.answer = streams(status, b"x")
    client = await place.client()
    reply = await client.get("/echo/")
    assert (reply.status, reply.code) == (500, "handler_failed")
    worker.answer = worker.by_path
    assert (await client.post("/echo/", b"mine")).body == b"mine"


UPGRADE = "POST /echo/ HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"


@pytest.mark.parametrize(
    ("framing", "pieces"),
    [
        ("Content-Length: 5", ["hello"]),
        ("Content-Length: 5", ["", "he", "llo"]),
        ("Content-Length: 0", [""]),
        ("Transfer-Encoding: chunked", ["5\r\nhello\r\n0\r\n\r\n"]),
        ("Transfer-Encoding: chunked", ["2\r\nhe\r\n", "3\r\nllo\r\n0\r\n\r\n"]),
    ],
)
async def test_a_post_that_offers_an_upgrade_keeps_its_body(
    place: Place, framing: str, pieces: list[str]
) -> None:
    # Java's HttpClient offers h2c with any request; the parser stops at such a head.
    worker = await place.worker()
    client = await place.client()
    client.send(f"{UPGRADE}{framing}\r\n\r\n{pieces[0]}")
    for piece in pieces[1:]:
        reading = lambda: any(c._reading for c in place.gateways[0]._front.connections)  # noqa: E731
        await place.until(reading)
        client.send(piece)
    reply = await client.reply()
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert reply.body == (b"" if framing.endswith(" 0") else b"hello")
    assert len(worker.requests) == 1


async def test_a_post_that_offers_an_upgrade_in_an_unknown_coding_is_400(place: Place) -> None:
    worker = await place.worker()
    client = await place.client()
    client.send(f"{UPGRADE}Transfer-Encoding: nonsense\r\n\r\nhello")
    assert (await client.reply()).status == 400
    assert worker.requests == []


async def test_an_upgrades_body_over_the_limit_is_413(bare: Place) -> None:
    bare.put(function(trigger={"attributes": {"maxRequestBodySize": 10}}))
    await bare.gateway()
    worker = await bare.worker()
    client = await bare.client()
    client.send(f"{UPGRADE}Transfer-Encoding: chunked\r\n\r\nb\r\n{'x' * 11}\r\n0\r\n\r\n")
    assert (await client.reply()).status == 413
    assert worker.requests == []


async def test_expect_continue_is_answered_before_a_chunked_body(place: Place) -> None:
    await place.worker()
    client = await place.client()
    client.send("POST /echo/ HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n")
    client.send("Expect: 100-continue\r\n\r\n")
    assert (await client.head())[0] == 100
    client.send("2\r\nok\r\n0\r\n\r\n")
    assert (await client.reply()).body == b"ok"


async def test_a_chunked_body_that_nobody_wants_is_not_asked_for(place: Place) -> None:
    client = await place.client()
    client.send("POST /nope/ HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n")
    client.send("Expect: 100-continue\r\n\r\n")
    assert (await client.reply()).status == 404
    assert await client.closed() == b""


async def test_a_trailer_that_does_not_end_is_cut_off(place: Place) -> None:
    worker = await place.worker()
    client = await place.client()
    client.send("POST /echo/ HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send("1\r\na\r\n0\r\nX-Endless: ")
    sending = asyncio.create_task(endless(client))
    reply = await client.reply()
    assert (reply.status, reply.code) == (431, "headers_too_large")
    sending.cancel()
    assert worker.requests == []


async def endless(client: Any) -> None:
    # Far beyond what the gateway may take: it answers long before this ends.
    for _ in range(1000):
        client.send(b"x" * 65_536)
        await client.writer.drain()


async def test_a_body_of_tiny_chunks_is_no_trailer(bare: Place) -> None:
    bare.put()
    await bare.gateway(max_header_bytes=256)
    await bare.worker()
    client = await bare.client()
    client.send("POST /echo/ HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(300):
        client.send("1\r\na\r\n")
        await client.writer.drain()
        await asyncio.sleep(0)
    client.send("0\r\nX-Sum: 1\r\n\r\n")
    assert (await client.reply()).body == b"a" * 300


async def test_a_client_that_leaves_its_answer_unread_is_dropped_even_when_closing(
    place: Place,
) -> None:
    worker = await place.worker()
    client = await place.client()
    (connection,) = place.gateways[0]._front.connections
    transport = connection._transport
    transport.set_write_buffer_limits(high=1 << 30)
    worker.answer = lambda to, stream, meta, body: to.respond(stream, b"x" * (32 << 20))
    client.writer.transport.pause_reading()
    client.request("/echo/", Connection="close")
    await place.until(transport.is_closing)
    assert not connection.write_paused
    assert transport.get_write_buffer_size() > 0
    place.time_passes(50.0)
    assert place.gateways[0]._front.connections
    place.time_passes(61.0)
    await place.until(lambda: not place.gateways[0]._front.connections)


def test_a_client_that_reads_slowly_is_not_one_that_reads_nothing() -> None:
    outflow = Outflow(0.0)
    assert outflow.stalled_s(1000, 1.0) == 1.0
    assert outflow.stalled_s(1000, 50.0) == 50.0
    assert outflow.stalled_s(999, 59.0) == 0.0
    assert outflow.stalled_s(2000, 70.0) == 11.0
    assert outflow.stalled_s(0, 80.0) == 0.0


async def test_large_requests_sent_ahead_are_left_in_the_socket(place: Place) -> None:
    worker = await place.worker()
    client = await place.client()
    client.request("/echo/hold")
    await worker.until(lambda: bool(worker.held))
    (connection,) = place.gateways[0]._front.connections
    size = 400_000
    for number in range(8):
        client.request("/echo/", b"%d" % number * size)
    await place.until(lambda: connection._read_paused)
    assert len(connection._pending) == 3
    assert connection._pending.held < backlog.BACKLOG_BYTES + size
    worker.release()
    await client.reply()
    for number in range(8):
        assert (await client.reply()).body == b"%d" % number * size
    assert connection._pending.held == 0


async def test_only_short_header_names_are_remembered(place: Place) -> None:
    client = await place.client()
    short, long = "X-Seen-Before", "X-" + "y" * 60_000
    client.send(f"GET /healthz HTTP/1.1\r\nHost: t\r\n{short}: 1\r\n{long}: 1\r\n\r\n")
    assert (await client.reply()).status == 200
    assert short.encode() in heads.known_names
    assert long.encode() not in heads.known_names


async def test_a_mistake_in_a_page_is_answered_and_logged(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(request: Any) -> Any:
        raise RuntimeError("a mistake")

    place.gateways[0]._front.page = broken
    client = await place.client()
    with caplog.at_level(logging.ERROR):
        reply = await client.get("/metrics")
    assert (reply.status, reply.code) == (500, "internal_error")
    assert "a mistake" not in reply.json["error"]["message"]
    assert "a mistake" in caplog.text
