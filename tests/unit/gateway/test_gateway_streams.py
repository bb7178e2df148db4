"""Streamed answers: flushed as they come, held back for slow readers, cut visibly on failure."""

from __future__ import annotations

import asyncio
from typing import Any

from stoker.gateway.sse import event
from stoker.nouns.wire import Kind, frame

Place = Any


async def test_chunks_are_flushed_as_they_come(place: Place) -> None:
    worker = await place.worker()
    streams: list[tuple[Any, int]] = []
    worker.answer = lambda to, stream, meta, body: (streams.append((to, stream)), to.head(stream))
    client = await place.client()
    client.request("/echo/")
    status, headers = await client.head()
    assert (status, headers["transfer-encoding"]) == (200, "chunked")
    to, stream = streams[0]
    chunks = client.chunks()
    for text in (b"one", b"two"):
        to.write(frame(Kind.CHUNK, stream, text))
        assert await asyncio.wait_for(anext(chunks), 5) == text
    to.end(stream, "ok")
    assert [part async for part in chunks] == []
    worker.answer = worker.by_path
    assert (await client.get("/echo/")).status == 200


async def test_events_are_framed_when_the_client_accepts_them(place: Place) -> None:
    await place.worker()
    client = await place.client()
    reply = await client.get("/echo/stream/2", Accept="text/event-stream")
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.body == event(b"chunk 0\n") + event(b"chunk 1\n")


async def test_a_handlers_own_events_pass_as_they_are(place: Place) -> None:
    worker = await place.worker()

    def answer(to: Any, stream: int, meta: Any, body: bytes) -> None:
        to.head(stream, {"content-type": "text/event-stream; charset=utf-8"})
        to.write(frame(Kind.CHUNK, stream, b"data: mine\n\n"))
        to.end(stream, "ok")

    worker.answer = answer
    client = await place.client()
    reply = await client.get("/echo/", Accept="text/event-stream")
    assert reply.body == b"data: mine\n\n"


async def test_a_stream_that_fails_is_cut_without_its_last_chunk(place: Place) -> None:
    await place.worker()
    client = await place.client()
    client.request("/echo/broken")
    await client.head()
    rest = await client.closed()
    assert rest == b"3\r\none\r\n"


async def test_an_event_stream_that_fails_says_so_in_an_event(place: Place) -> None:
    await place.worker()
    client = await place.client()
    reply = await client.get("/echo/broken", Accept="text/event-stream")
    assert b"event: error\ndata: " in reply.body
    assert b"handler_failed" in reply.body


async def test_a_worker_dying_mid_stream_cuts_it(place: Place) -> None:
    worker = await place.worker()
    client = await place.client()
    client.request("/echo/endless")
    await client.head()
    await client.reader.readexactly(1000)
    worker.die()
    assert not (await client.closed()).endswith(b"0\r\n\r\n")


async def test_a_slow_reader_pauses_the_worker_and_resumes_it(place: Place) -> None:
    worker = await place.worker()
    client = await place.client()
    client.writer.transport.pause_reading()
    client.request("/echo/endless")
    connection = worker.connections[0]
    await worker.until(lambda: bool(connection.paused))
    client.writer.transport.resume_reading()
    async with asyncio.timeout(10):
        while connection.paused:
            await client.reader.read(1 << 20)


async def test_a_reader_that_stalls_for_ever_is_cut_off(place: Place) -> None:
    worker = await place.worker()
    client = await place.client()
    client.writer.transport.pause_reading()
    client.request("/echo/endless")
    await worker.until(lambda: bool(worker.connections[0].paused))
    place.time_passes(61.0)
    await worker.until(lambda: len(worker.cancelled) == 1)


async def test_head_of_a_stream_has_no_body(place: Place) -> None:
    await place.worker()
    client = await place.client()
    client.request("/echo/stream/3", method="HEAD")
    assert (await client.reply(bodyless=True)).status == 200
    assert (await client.get("/echo/")).status == 200
