"""HTTP/1.1 on the data port: what well-behaved and ill-behaved clients get."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fake_store import function

Place = Any


async def test_a_request_is_answered_with_its_replica_timing_and_id(place: Place) -> None:
    await place.worker()
    client = await place.client()
    reply = await client.post("/echo/some/path", b"hello", X_Request_Id="mine")
    assert (reply.status, reply.body) == (200, b"hello")
    assert reply.headers["x-stoker-replica"] == "a"
    assert reply.headers["x-request-id"] == "mine"
    assert "x-stoker-cold" not in reply.headers
    assert [part.split(";")[0] for part in reply.headers["server-timing"].split(", ")] == [
        "queue",
        "wake",
        "batch",
        "handler",
    ]


async def test_the_handler_sees_path_query_method_and_headers(place: Place) -> None:
    await place.worker()
    place.workers[0].answer = lambda to, stream, meta, body: place.workers[0].by_path(
        to, stream, {**meta, "path": "/meta", "seen": meta["path"]}, body
    )
    client = await place.client()
    meta = (
        await client.post("/echo/a/b?c=d", b"x", X_Thing="1", Connection="X-Gone", X_Gone="2")
    ).json
    assert (meta["method"], meta["seen"]) == ("POST", "/a/b?c=d")
    assert meta["headers"]["x-thing"] == "1"
    assert not {"connection", "x-gone"} & meta["headers"].keys()


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/echo", "/"),
        ("/echo/", "/"),
        ("/echo?q=1", "/?q=1"),
        ("/echo//x", "/x"),
        ("http://h/echo/x?y", "/x?y"),
    ],
)
async def test_the_path_is_what_follows_the_function(place: Place, target: str, path: str) -> None:
    worker = await place.worker()
    client = await place.client()
    await client.get(target)
    assert worker.requests[0]["path"] == path


async def test_the_target_header_routes_and_keeps_the_whole_path(place: Place) -> None:
    worker = await place.worker()
    client = await place.client()
    await client.get("/any/path", X_Nuclio_Target="echo")
    assert worker.requests[0]["path"] == "/any/path"


async def test_the_target_header_on_the_functions_own_url_changes_nothing(place: Place) -> None:
    """mlrun's ``fn.invoke("/models")`` sends both; the handler saw ``/echo/models``."""
    worker = await place.worker()
    client = await place.client()
    await client.get("/echo/models?a=1", X_Nuclio_Target="echo")
    await client.get("/echo", X_Nuclio_Target="echo")
    assert [request["path"] for request in worker.requests] == ["/models?a=1", "/"]


async def test_keep_alive_serves_many_requests_on_one_connection(place: Place) -> None:
    await place.worker()
    client = await place.client()
    for number in range(5):
        body = b"%d" % number
        assert (await client.post("/echo/", body)).body == body


async def test_pipelined_requests_are_answered_in_order(place: Place) -> None:
    worker = await place.worker(permits=8)
    client = await place.client()
    client.send(
        "GET /echo/hold HTTP/1.1\r\nHost: t\r\n\r\n" * 2 + "GET /nope/ HTTP/1.1\r\nHost: t\r\n\r\n"
    )
    client.request("/echo/", b"last")
    for _ in range(2):
        await worker.until(lambda: bool(worker.held))
        worker.release()
        assert (await client.reply()).status == 200
    assert (await client.reply()).status == 404
    assert (await client.reply()).body == b"last"


async def test_a_thousand_pipelined_requests_are_all_answered(place: Place) -> None:
    await place.worker()
    client = await place.client()
    client.send("GET /nope/ HTTP/1.1\r\nHost: t\r\n\r\n" * 1000)
    statuses = [(await client.reply()).status for _ in range(1000)]
    assert set(statuses) == {404}


async def test_a_chunked_body_is_put_together(place: Place) -> None:
    await place.worker()
    client = await place.client()
    client.send("POST /echo/ HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    assert (await client.reply()).body == b"hello world"


async def test_expect_continue_is_answered_before_the_body(place: Place) -> None:
    await place.worker()
    client = await place.client()
    client.send(
        "POST /echo/ HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    )
    assert (await client.head())[0] == 100
    client.send("ok")
    assert (await client.reply()).body == b"ok"


async def test_expect_continue_is_not_asked_to_send_a_body_nobody_wants(place: Place) -> None:
    client = await place.client()
    client.send(
        "POST /nope/ HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    )
    assert (await client.reply()).status == 404
    assert await client.closed() == b""


async def test_head_gets_the_length_but_no_body(place: Place) -> None:
    worker = await place.worker()
    worker.answer = lambda to, stream, meta, body: to.respond(stream, b"12345")
    client = await place.client()
    client.request("/echo/", method="HEAD")
    reply = await client.reply(bodyless=True)
    assert reply.headers["content-length"] == "5"
    assert (await client.get("/echo/")).body == b"12345"


async def test_a_body_over_the_limit_is_413_before_it_is_read(bare: Place) -> None:
    bare.put(function(trigger={"attributes": {"maxRequestBodySize": 1000}}))
    await bare.gateway()
    worker = await bare.worker()
    client = await bare.client()
    client.send("POST /echo/ HTTP/1.1\r\nHost: t\r\nContent-Length: 10000000\r\n\r\n")
    reply = await client.reply()
    assert (reply.status, reply.code) == (413, "body_too_large")
    assert await client.closed() == b""
    assert worker.requests == []


async def test_a_refusal_can_be_read_by_a_client_that_is_still_sending(bare: Place) -> None:
    # Closing with unread input resets the connection, and the reset overtakes the answer.
    bare.put(function(trigger={"attributes": {"maxRequestBodySize": 1000}}))
    await bare.gateway()
    client = await bare.client()
    client.send("POST /echo/ HTTP/1.1\r\nHost: t\r\nContent-Length: 8000000\r\n\r\n")
    await bare.until(
        lambda: any(c._phase.name == "LINGER" for c in bare.gateways[0]._front.connections)
    )
    for _ in range(8):
        client.send(b"x" * 1_000_000)
        await client.writer.drain()
    assert (await client.reply()).status == 413
    bare.time_passes(3.0)
    assert await client.closed() == b""


async def test_a_chunked_body_over_the_limit_is_413(bare: Place) -> None:
    bare.put(function(trigger={"attributes": {"maxRequestBodySize": 1000}}))
    await bare.gateway()
    worker = await bare.worker()
    client = await bare.client()
    client.send("POST /echo/ HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send("20000\r\n" + "x" * 0x20000 + "\r\n")
    assert (await client.reply()).status == 413
    assert worker.requests == []


async def test_a_small_body_over_the_limit_leaves_the_connection_usable(bare: Place) -> None:
    bare.put(function(trigger={"attributes": {"maxRequestBodySize": 10}}))
    await bare.gateway()
    await bare.worker()
    client = await bare.client()
    assert (await client.post("/echo/", b"x" * 11)).status == 413
    assert (await client.post("/echo/", b"x" * 10)).status == 200


@pytest.mark.parametrize(
    "garbage",
    [
        "garbage\r\n\r\n",
        "GET /echo/ HTTP/1.1\r\nHost t\r\n\r\n",
        "GET /echo/ HTTP/1.1\r\nHost: t\r\nContent-Length: ten\r\n\r\n",
        "POST /echo/ HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        "0\r\n\r\n",
        "POST /echo/ HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "POST /echo/ HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET /echo/ HTTP/1.1\r\n\r\n",
        "GET /echo/ HTTP/1.1\r\nHost: t\r\nhost: u\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: t\r\n\r\n",
        "CONNECT h:80 HTTP/1.1\r\nHost: t\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_malformed_http_is_400(place: Place, garbage: str) -> None:
    worker = await place.worker()
    client = await place.client()
    client.send(garbage)
    reply = await client.reply()
    assert (reply.status, reply.code) == (400, "bad_request")
    assert worker.requests == []


async def test_what_follows_malformed_http_is_not_read(place: Place) -> None:
    worker = await place.worker()
    client = await place.client()
    client.send("garbage\r\n\r\nGET /echo/ HTTP/1.1\r\nHost: t\r\n\r\n")
    assert (await client.reply()).headers["connection"] == "close"
    client.send("GET /echo/ HTTP/1.1\r\nHost: t\r\n\r\n")
    assert await client.closed() == b""
    assert worker.requests == []


@pytest.mark.parametrize(
    "head",
    [
        "X-Big: " + "x" * 70_000 + "\r\n\r\n",
        "".join(f"X-{n}: {n}\r\n" for n in range(150)) + "\r\n",
        "X-Endless: " + "x" * 600_000,
    ],
)
async def test_headers_over_the_limits_are_431(place: Place, head: str) -> None:
    client = await place.client()
    client.send("GET /echo/ HTTP/1.1\r\nHost: t\r\n" + head)
    reply = await client.reply()
    assert (reply.status, reply.code) == (431, "headers_too_large")


async def test_a_request_line_over_the_limit_is_431(place: Place) -> None:
    client = await place.client()
    client.send("GET /echo/" + "x" * 10_000 + " HTTP/1.1\r\nHost: t\r\n\r\n")
    assert (await client.reply()).status == 431


async def test_a_truncated_body_never_reaches_a_worker(place: Place) -> None:
    worker = await place.worker()
    client = await place.client()
    client.send("POST /echo/ HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf")
    client.writer.write_eof()
    assert await client.closed() == b""
    assert worker.requests == []


async def test_slow_headers_are_cut_off(place: Place) -> None:
    client = await place.client()
    client.send("GET /echo/ HTTP/1.1\r\nHost")
    await place.until(lambda: place.gateways[0]._front.connections)
    await place.until(lambda: not next(iter(place.gateways[0]._front.connections))._silent)
    place.time_passes(9.0)
    place.time_passes(11.0)
    assert (await client.reply()).status == 408
    place.time_passes(3.0)
    assert await client.closed() == b""


async def test_a_connection_that_says_nothing_is_closed(place: Place) -> None:
    client = await place.client()
    await place.until(lambda: place.gateways[0]._front.connections)
    place.time_passes(11.0)
    assert await client.closed() == b""


async def test_a_slow_body_is_cut_off(place: Place) -> None:
    worker = await place.worker()
    client = await place.client()
    client.send("POST /echo/ HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf")
    await place.until(
        lambda: any(c._reading is not None for c in place.gateways[0]._front.connections)
    )
    place.time_passes(31.0)
    assert (await client.reply()).status == 408
    assert worker.requests == []


async def test_an_idle_connection_is_kept_a_while_then_closed(place: Place) -> None:
    await place.worker()
    client = await place.client()
    await client.get("/echo/")
    place.time_passes(70.0)
    await client.get("/echo/")
    place.time_passes(80.0)
    assert await client.closed() == b""


async def test_http_1_0_is_answered_and_closed(place: Place) -> None:
    await place.worker()
    client = await place.client()
    client.send("GET /echo/stream/2 HTTP/1.0\r\n\r\n")
    reply = await client.reply()
    assert "transfer-encoding" not in reply.headers
    assert reply.body == b"chunk 0\nchunk 1\n"


async def test_http_1_0_is_not_told_to_continue_which_it_would_take_for_the_answer(
    place: Place,
) -> None:
    await place.worker()
    client = await place.client()
    client.send("POST /echo/ HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
    reply = await client.reply()
    assert (reply.status, reply.body) == (200, b"hi")


async def test_a_tunnel_is_refused_and_its_connection_closed(place: Place) -> None:
    """Nothing that follows is read; left open, its client waited until the idle time was over."""
    client = await place.client()
    client.send("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n")
    reply = await client.reply()
    assert (reply.status, reply.headers["connection"]) == (400, "close")
    assert await client.closed() == b""


async def test_an_upgrade_that_nobody_speaks_is_answered_as_plain_http(place: Place) -> None:
    await place.worker()
    client = await place.client()
    client.request("/echo/", Connection="Upgrade, HTTP2-Settings", Upgrade="h2c")
    reply = await client.reply()
    assert (reply.status, reply.headers["connection"]) == (200, "close")


async def test_a_handler_cannot_split_the_answer(place: Place) -> None:
    worker = await place.worker()
    evil = {"x-evil": "a\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK", "content-length": "1"}
    worker.answer = lambda to, stream, meta, body: to.respond(stream, b"body", evil)
    client = await place.client()
    reply = await client.get("/echo/")
    assert reply.body == b"body"
    assert "HTTP/1.1" in reply.headers["x-evil"]


@pytest.mark.parametrize("status", [42, 100, 700])
async def test_a_status_that_is_none_is_the_handlers_failure(place: Place, status: int) -> None:
    worker = await place.worker()
    worker.answer = lambda to, stream, meta, body: to.respond(stream, b"", status=status)
    client = await place.client()
    reply = await client.get("/echo/")
    assert (reply.status, reply.code) == (500, "handler_failed")


async def test_no_content_has_no_content(place: Place) -> None:
    worker = await place.worker()
    worker.answer = lambda to, stream, meta, body: to.respond(stream, b"oops", status=204)
    client = await place.client()
    assert "content-length" not in (await client.get("/echo/")).headers
    assert (await client.get("/healthz")).status == 200


async def test_a_thousand_connections_at_once_are_all_served(place: Place) -> None:
    await place.worker(permits=64)
    clients = [await place.client() for _ in range(1000)]
    for number, client in enumerate(clients):
        client.request("/echo/", b"%d" % number)
    replies = await asyncio.gather(*(client.reply() for client in clients))
    assert [reply.body for reply in replies] == [b"%d" % number for number in range(1000)]
