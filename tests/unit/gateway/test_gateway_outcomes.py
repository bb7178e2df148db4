"""What a client gets when workers are missing, busy, slow or dying, and when it leaves itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fake_store import function
from stoker.nouns.record import FunctionState

Place = Any


async def test_a_request_at_zero_waits_for_the_wake_and_says_that_it_was_cold(
    place: Place,
) -> None:
    client = await place.client()
    client.request("/echo/", b"hello")
    await place.until(lambda: place.store.wakes == ["echo"])
    await place.worker()
    reply = await client.reply()
    assert (reply.status, reply.body) == (200, b"hello")
    assert reply.headers["x-stoker-cold"] == "1"
    assert not reply.headers["server-timing"].split("wake;dur=")[1].startswith("0.000")


async def test_a_worker_that_becomes_ready_is_an_event(place: Place) -> None:
    worker = await place.worker(phase="starting")
    client = await place.client()
    client.request("/echo/", b"hello")
    await place.until(lambda: len(place.gateways[0].router.lanes["echo"].room) == 1)
    assert place.store.wakes == []
    worker.become("ready")
    assert (await client.reply()).status == 200


async def test_past_the_deadline_it_is_408_and_the_work_is_cancelled(place: Place) -> None:
    worker = await place.worker()
    client = await place.client()
    reply = await client.get("/echo/hold", X_Request_Timeout="0.05")
    assert (reply.status, reply.code) == (408, "deadline_exceeded")
    await worker.until(lambda: len(worker.cancelled) == 1)
    assert (await client.get("/echo/")).status == 200


async def test_the_event_timeout_is_the_deadline_of_requests_that_bring_none(bare: Place) -> None:
    bare.put(function(spec={"eventTimeout": "50ms"}))
    await bare.gateway()
    await bare.worker()
    client = await bare.client()
    assert (await client.get("/echo/hold", X_Request_Timeout="60")).status == 408


@pytest.mark.parametrize("value", ["soon", "-1", "0", "nan", "inf"])
async def test_a_timeout_that_is_no_number_is_400(place: Place, value: str) -> None:
    client = await place.client()
    assert (await client.get("/echo/", X_Request_Timeout=value)).status == 400


async def test_a_full_room_is_429_with_retry_after(bare: Place) -> None:
    bare.put(function(env={"STOKER_QUEUE_LIMIT": "1"}))
    await bare.gateway()
    worker = await bare.worker()
    first, second, third = [await bare.client() for _ in range(3)]
    first.request("/echo/hold")
    await worker.until(lambda: bool(worker.held))
    second.request("/echo/", b"second")
    await bare.until(lambda: len(bare.gateways[0].router.lanes["echo"].room) == 1)
    reply = await third.get("/echo/")
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (429, "queue_full", "1")
    worker.release()
    assert (await first.reply()).status == 200
    assert (await second.reply()).body == b"second"


async def test_all_busy_for_too_long_is_503_no_capacity(bare: Place) -> None:
    bare.put(function(trigger={"workerAvailabilityTimeoutMilliseconds": 50}))
    await bare.gateway()
    worker = await bare.worker()
    first, second = await bare.client(), await bare.client()
    first.request("/echo/hold")
    await worker.until(lambda: bool(worker.held))
    reply = await second.get("/echo/")
    assert (reply.status, reply.code) == (503, "no_capacity")
    assert int(reply.headers["retry-after"]) >= 1


async def test_a_broken_function_is_503_with_the_reason(place: Place) -> None:
    place.put(
        function("broken", state=FunctionState.UNHEALTHY, message="init raised", serving=False)
    )
    client = await place.client()
    reply = await client.get("/broken/")
    assert (reply.status, reply.code) == (503, "function_unhealthy")
    assert "init raised" in reply.json["error"]["message"]


async def test_an_unknown_function_is_404_with_near_names(place: Place) -> None:
    client = await place.client()
    reply = await client.get("/ecko/")
    assert (reply.status, reply.code) == (404, "function_not_found")
    assert reply.json["error"]["near"] == ["echo"]
    assert reply.json["error"]["request_id"] == reply.headers["x-request-id"]


async def test_a_failure_that_the_worker_names_comes_in_the_envelope(place: Place) -> None:
    await place.worker()
    client = await place.client()
    reply = await client.get("/echo/fail")
    assert (reply.status, reply.code) == (500, "handler_failed")
    assert reply.json["error"]["message"] == "it raised"


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 502)])
async def test_a_worker_dying_mid_request(place: Place, method: str, status: int) -> None:
    dying = await place.worker("a")
    dying.answer = lambda to, stream, meta, body: dying.die()
    client = await place.client()
    if method == "GET":
        place.store.replicas.clear()
    client.request("/echo/", method=method)
    await dying.until(lambda: not dying.connections)
    dying.answer = dying.by_path
    place.workers.remove(dying)
    await place.worker("b")
    reply = await client.reply()
    assert reply.status == status
    if status == 502:
        assert reply.code == "worker_lost"


async def test_a_client_that_leaves_while_waiting_is_forgotten(place: Place) -> None:
    client = await place.client()
    client.request("/echo/", b"x")
    room = place.gateways[0].router.lanes["echo"].room
    await place.until(lambda: len(room) == 1)
    client.hang_up()
    await place.until(lambda: len(room) == 0)
    worker = await place.worker()
    assert worker.requests == []


async def test_a_client_that_leaves_while_its_request_runs_cancels_it(place: Place) -> None:
    worker = await place.worker()
    client = await place.client()
    client.request("/echo/hold")
    await worker.until(lambda: bool(worker.held))
    client.hang_up()
    await worker.until(lambda: len(worker.cancelled) == 1)
    other = await place.client()
    assert (await other.get("/echo/")).status == 200


async def test_a_client_that_leaves_mid_stream_cancels_it(place: Place) -> None:
    worker = await place.worker()
    client = await place.client()
    client.request("/echo/endless")
    await client.head()
    client.writer.transport.abort()
    await worker.until(lambda: len(worker.cancelled) == 1)


async def test_a_client_that_leaves_mid_head_or_mid_body_leaves_nothing(place: Place) -> None:
    worker = await place.worker()
    for part in (
        "",
        "GET /ec",
        "GET /echo/ HTTP/1.1\r\nHo",
        "POST /echo/ HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nx",
    ):
        client = await place.client()
        client.send(part)
        await place.until(lambda: place.gateways[0]._front.connections)
        client.hang_up()
        await place.until(lambda: not place.gateways[0]._front.connections)
    assert worker.requests == []


async def test_two_gateways_share_one_worker_without_errors(bare: Place) -> None:
    bare.put()
    await bare.gateway()
    await bare.gateway()
    worker = await bare.worker(permits=1)
    clients = [await bare.client(number % 2) for number in range(20)]
    for number, client in enumerate(clients):
        client.request("/echo/", b"%d" % number)
    for number, client in enumerate(clients):
        reply = await client.reply()
        assert (reply.status, reply.body) == (200, b"%d" % number)
    assert worker.peak == 1


async def test_a_worker_held_by_another_gateway_is_waited_for(bare: Place) -> None:
    bare.put()
    await bare.gateway()
    await bare.gateway()
    worker = await bare.worker(permits=1)
    first, second = await bare.client(0), await bare.client(1)
    first.request("/echo/hold")
    await worker.until(lambda: bool(worker.held))
    second.request("/echo/", b"second")
    await worker.until(lambda: bool(worker.told_busy))
    worker.release()
    assert (await first.reply()).status == 200
    assert (await second.reply()).body == b"second"


async def test_a_stop_finishes_what_is_in_flight_and_accepts_nothing_more(bare: Place) -> None:
    bare.put()
    gateway = await bare.gateway(grace_s=10)
    worker = await bare.worker()
    busy, idle = await bare.client(), await bare.client()
    await idle.get("/echo/")
    busy.request("/echo/hold")
    await worker.until(lambda: bool(worker.held))
    port = gateway.port
    stopping = asyncio.create_task(gateway.stop())
    assert await idle.closed() == b""
    worker.release()
    reply = await busy.reply()
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    await stopping
    bare.gateways.clear()
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", port)
