"""How a worker reaches other functions: when it connects, what it follows, what it leaves alone."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import pytest

from stoker.nouns.errors import BadRequest, DeadlineExceeded, FunctionNotFound, StoreUnavailable
from stoker.worker.deadline import DEADLINE
from stoker.worker.neighbours import Neighbours

Stage = Any
HEADERS = {"content-type": "text/plain"}


async def call(
    neighbours: Neighbours, function: str = "p-echo", path: str = "/", **how: Any
) -> Any:
    return await neighbours.call(function, "POST", path, dict(HEADERS), b"hello", **how)


async def test_nothing_is_connected_before_the_first_call(stage: Stage) -> None:
    worker = await stage.function()
    neighbours = stage.reach()
    (gateways,) = worker.connections
    reply = await call(neighbours)
    assert (reply.status, await reply.read()) == (200, b"hello")
    assert len(worker.connections) == 2
    assert worker.connections[0] is gateways


async def test_many_first_calls_share_one_connection(stage: Stage) -> None:
    worker = await stage.function(permits=50)
    neighbours = stage.reach()
    replies = await asyncio.gather(*(call(neighbours) for _ in range(20)))
    assert {reply.status for reply in replies} == {200}
    assert len(worker.connections) == 2, "the gateway's, and ours"


async def test_only_functions_that_are_called_are_connected(stage: Stage) -> None:
    await stage.function()
    other = await stage.function("p-other")
    neighbours = stage.reach()
    await neighbours.prepare(["p-echo"])
    await call(neighbours)
    assert len(other.connections) == 1, "the gateway's"
    assert neighbours.find("p-other") is None
    assert neighbours.find("p-echo") is not None


async def test_a_store_that_is_away_is_tried_again_by_the_next_call(stage: Stage) -> None:
    await stage.function()
    neighbours = stage.reach()

    async def away(_url: str) -> Any:
        raise StoreUnavailable("Redis is away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stoker.worker.switchboard.Store.connect", away)
        await neighbours.prepare(["p-echo"])
        with pytest.raises(StoreUnavailable):
            await call(neighbours)
    assert (await call(neighbours)).status == 200


async def test_a_store_that_hangs_does_not_hold_up_the_start(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stoker.worker.switchboard.OPEN_S", 0.05)
    await stage.function()
    neighbours = stage.reach()
    stage.store.available = False
    await neighbours.prepare(["p-echo"])
    with pytest.raises(StoreUnavailable, match="did not answer within"):
        await call(neighbours)
    stage.store.available = True
    assert (await call(neighbours)).status == 200


async def test_calls_go_on_while_the_store_is_away(stage: Stage) -> None:
    await stage.function()
    neighbours = stage.reach()
    await call(neighbours)
    stage.store.available = False
    assert (await call(neighbours)).status == 200
    with pytest.raises(StoreUnavailable):
        await call(neighbours, "p-unknown")
    stage.store.available = True


async def test_an_unknown_function_is_refused_with_near_names(stage: Stage) -> None:
    await stage.function()
    neighbours = stage.reach()
    with pytest.raises(FunctionNotFound, match="did you mean p-echo") as refused:
        await call(neighbours, "p-ecko")
    assert refused.value.detail["near"] == ["p-echo"]


async def test_the_earliest_of_all_deadlines_counts(stage: Stage) -> None:
    worker = await stage.function(permits=9)
    neighbours = stage.reach()
    now = time.monotonic()

    async def told(**how: Any) -> float:
        await call(neighbours, **how)
        return float(worker.requests[-1]["deadline"] - now)

    assert await told(timeout=5) == pytest.approx(5, abs=2)
    assert await told(timeout=50, deadline=now + 7) == pytest.approx(7, abs=0.001)
    token = DEADLINE.set(now + 11)
    assert await told() == pytest.approx(11, abs=0.001)
    assert await told(timeout=5) == pytest.approx(5, abs=2)
    DEADLINE.reset(token)
    await call(neighbours)
    assert worker.requests[-1]["deadline"] is None


async def test_a_callers_own_timeout_header_counts_as_at_the_gateway(stage: Stage) -> None:
    await stage.function()
    neighbours = stage.reach()
    headers = {"x-request-timeout": "0.05"}
    with pytest.raises(DeadlineExceeded):
        await neighbours.call("p-echo", "POST", "/hold", headers)
    with pytest.raises(BadRequest, match="X-Request-Timeout must be seconds"):
        await neighbours.call("p-echo", "POST", "/", {"x-request-timeout": "soon"})


async def test_cancelling_the_caller_cancels_the_call(stage: Stage) -> None:
    worker = await stage.function()
    neighbours = stage.reach()
    calling = asyncio.create_task(call(neighbours, path="/hold"))
    await stage.until(lambda: worker.held)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await stage.until(lambda: worker.cancelled)


async def test_the_gateways_headers_are_there_when_they_are_asked_for(stage: Stage) -> None:
    await stage.function()
    reply = await call(stage.reach(), request_id="mine")
    assert reply.headers["x-stoker-replica"] == "p-echo"
    assert reply.headers["x-request-id"] == "mine"
    assert reply.headers["server-timing"].startswith("queue;dur=")


async def test_chunks_are_read_with_back_pressure_and_leaving_them_cancels(stage: Stage) -> None:
    worker = await stage.function()
    reply = await call(stage.reach(), path="/endless")
    chunks = reply.chunks()
    assert await anext(chunks)
    await stage.until(lambda: any(to.paused for to in worker.connections))
    while any(to.paused for to in worker.connections):
        assert await anext(chunks)
    await chunks.aclose()
    await stage.until(lambda: worker.cancelled)


async def test_code_that_may_not_await_calls_from_its_own_thread(stage: Stage) -> None:
    worker = await stage.function(permits=9)
    neighbours = stage.reach()

    def ask(path: str) -> tuple[int, dict[str, str], bytes]:
        return neighbours.call_blocking("p-echo", "POST", path, dict(HEADERS), b"hello")

    both = asyncio.to_thread(ask, "/"), asyncio.to_thread(ask, "/stream/2")
    (whole, streamed) = await asyncio.gather(*both)
    assert (whole[0], whole[2]) == (200, b"hello")
    assert streamed[2] == b"chunk 0\nchunk 1\n"
    assert len(worker.connections) == 2, "the gateway's, and one for all threads"
    with pytest.raises(FunctionNotFound):
        await asyncio.to_thread(neighbours.call_blocking, "p-nobody", "GET", "/", {})


async def test_a_process_that_user_code_forks_holds_no_connection_open(stage: Stage) -> None:
    worker = await stage.function()
    neighbours = stage.reach()
    await call(neighbours)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    await neighbours.close()
    stage.neighbours.remove(neighbours)
    await stage.until(lambda: len(worker.connections) == 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


async def test_the_gateways_key_opens_it_for_what_must_go_by_http(keyed_stage: Stage) -> None:
    worker = await keyed_stage.function()

    def build(flow: Any) -> None:
        later = {"Prefer": "respond-async"}
        flow.to("$remote", "s", url="p/echo", headers=later, return_json=False).respond()

    graph = await keyed_stage.run(build)
    reply = await graph.ask({"n": 1})
    assert '"id"' in reply.body, "a durable invocation, which only the gateway makes"
    await keyed_stage.until(lambda: worker.requests)
    assert "x-api-key" not in worker.requests[0]["headers"]


async def test_a_key_that_a_step_brings_is_not_shown_to_the_function(keyed_stage: Stage) -> None:
    worker = await keyed_stage.function()

    def build(flow: Any) -> None:
        flow.to("$remote", "s", url="p/echo", headers={"X-API-Key": "sesame-42"}).respond()

    graph = await keyed_stage.run(build)
    assert (await graph.ask({"n": 1})).status_code == 200
    assert "x-api-key" not in worker.requests[0]["headers"]


@pytest.mark.parametrize("engine", ["async", "sync"])
async def test_a_call_names_the_step_that_makes_it(stage: Stage, engine: str) -> None:
    worker = await stage.function(permits=2)

    def build(flow: Any) -> None:
        step = flow.to("$remote", "first", url="p/echo")
        step.to("$remote", "second", url="p/echo").respond()

    graph = await stage.run(build, engine=engine)
    if engine == "sync":
        reply = await asyncio.to_thread(asyncio.run, graph.ask({"n": 1}))
    else:
        reply = await graph.ask({"n": 1})
    assert reply.status_code == 200, reply.body
    assert [meta.get("step") for meta in worker.requests] == ["first", "second"]


async def test_what_no_step_calls_names_none(stage: Stage) -> None:
    worker = await stage.function()
    await call(stage.reach())
    assert "step" not in worker.requests[0]


async def test_what_a_graph_calls_for_a_replayed_request_is_no_traffic_of_its_own(
    stage: Stage,
) -> None:
    worker = await stage.function()

    def build(flow: Any) -> None:
        flow.to("$remote", "s", url="p/echo").respond()

    graph = await stage.run(build)
    ticket = graph.ticket()
    ticket.meta["headers"]["x-stoker-replay"] = "1"
    for asked in (ticket, graph.ticket()):
        assert (await graph.ask({"n": 1}, asked)).status_code == 200
    assert [meta.get("copied") for meta in worker.requests] == [True, None]
