"""An event's way through remote steps that call functions of this home."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from stoker.nouns.wire import Kind, frame

Stage = Any


def remote(name: str = "s", subpath: str = "", **arguments: Any) -> dict[str, Any]:
    return {"class_name": "$remote", "name": name, "url": "p/echo", **arguments} | (
        {"subpath": subpath} if subpath else {}
    )


def one_step(**arguments: Any) -> Any:
    return lambda flow: flow.to(**remote(**arguments)).respond()


async def test_an_answer_is_the_next_steps_input(stage: Stage) -> None:
    await stage.function("p-echo")
    await stage.function("p-after")

    def build(flow: Any) -> None:
        flow.to(**remote("a")).to(**remote("b", url="p/after")).respond()

    graph = await stage.run(build)
    reply = await graph.ask({"x": [1]})
    assert (reply.status_code, json.loads(reply.body)) == (200, {"x": [1]})
    ids = [worker.requests[0]["id"] for worker in stage.workers.values()]
    assert ids == ["q1", "q1"], "every function's log shows the graph's request"


async def test_no_more_calls_than_max_in_flight_run_at_once(stage: Stage) -> None:
    worker = await stage.function(permits=64)
    graph = await stage.run(one_step(subpath="hold", max_in_flight=3))
    asked = [asyncio.create_task(graph.ask({"n": n})) for n in range(10)]
    await stage.until(lambda: len(worker.held) == 3)
    while not all(task.done() for task in asked):
        worker.release()
        await asyncio.sleep(0.001)
    assert [json.loads((await task).body)["n"] for task in asked] == list(range(10))
    assert worker.peak == 3


async def test_a_slow_call_holds_up_nobody_elses_answer(stage: Stage) -> None:
    worker = await stage.function(permits=8)
    graph = await stage.run(one_step(subpath="$path"))
    slow = asyncio.create_task(graph.ask({"n": 1}, path="/hold"))
    await stage.until(lambda: worker.held)
    assert (await graph.ask({"n": 2}, path="/echo")).body == '{"n": 2}'
    assert not slow.done()
    worker.release()
    assert (await slow).body == '{"n": 1}'


async def test_events_that_nobody_waits_for_leave_in_the_order_they_came(stage: Stage) -> None:
    worker = await stage.function(permits=8)
    seen: list[int] = []

    def note(body: dict[str, int]) -> dict[str, int]:
        seen.append(body["n"])
        return body

    def build(flow: Any) -> None:
        flow.to(**remote(subpath="hold")).to(name="note", handler="note")

    graph = await stage.run(build, namespace={"note": note})
    for n in range(3):
        await graph.ask({"n": n})
    await stage.until(lambda: len(worker.held) == 3)
    held = list(worker.held.items())
    worker.held.clear()
    for (connection, stream), body in reversed(held):
        connection.respond(stream, body)
        await asyncio.sleep(0.005)
    await stage.until(lambda: len(seen) == 3)
    assert seen == [0, 1, 2]


async def test_a_client_that_leaves_takes_its_call_with_it(stage: Stage) -> None:
    worker = await stage.function(permits=2)
    graph = await stage.run(one_step(subpath="$path", retries=5))
    ticket = graph.ticket()
    asked = asyncio.create_task(graph.ask({}, ticket, path="/hold"))
    await stage.until(lambda: worker.held)
    ticket.cancel()
    asked.cancel()
    await stage.until(lambda: worker.cancelled)
    assert (await graph.ask({"n": 2}, path="/echo")).body == '{"n": 2}', "the flow lives on"
    assert len(worker.requests) == 2, "and what nobody waits for is not tried again"


async def test_the_end_of_a_request_ends_its_retries(stage: Stage) -> None:
    worker = await stage.function()
    graph = await stage.run(one_step(subpath="fail", retries=5, backoff_factor=1000))
    ticket = graph.ticket()
    asked = asyncio.create_task(graph.ask({}, ticket))
    await stage.until(lambda: any("retries left" in line for line in graph.logger.lines))
    ticket.expire()
    assert ((await asked).status_code, len(worker.requests)) == (408, 1)


async def test_the_deadline_travels(stage: Stage) -> None:
    worker = await stage.function()
    graph = await stage.run(one_step(subpath="meta"))
    ticket = graph.ticket(7.0)
    await graph.ask({}, ticket)
    assert worker.requests[0]["deadline"] == ticket.deadline


async def test_what_nobody_waits_for_has_no_deadline_and_no_client_that_leaves(
    stage: Stage,
) -> None:
    worker = await stage.function()
    seen: list[Any] = []

    def build(flow: Any) -> None:
        flow.to(**remote(subpath="hold")).to(name="note", handler="note")

    graph = await stage.run(build, namespace={"note": seen.append})
    ticket = graph.ticket(5.0)
    assert "id" in json.loads((await graph.ask({"n": 1}, ticket)).body)
    await stage.until(lambda: worker.held)
    assert worker.requests[0]["deadline"] is None
    ticket.cancel()
    worker.release()
    await stage.until(lambda: seen)


async def test_a_functions_own_timeout_is_earlier_than_a_late_deadline(stage: Stage) -> None:
    worker = await stage.function(spec={"eventTimeout": "2s"})
    graph = await stage.run(one_step(subpath="meta"))
    ticket = graph.ticket(60.0)
    await graph.ask({}, ticket)
    assert worker.requests[0]["deadline"] < ticket.deadline - 50


async def test_past_the_deadline_the_call_is_cancelled_and_not_tried_again(stage: Stage) -> None:
    worker = await stage.function()
    graph = await stage.run(one_step(subpath="$path", retries=3))
    assert (await graph.ask({}, graph.ticket(0.05), path="/hold")).status_code == 408
    await stage.until(lambda: worker.cancelled)
    assert (await graph.ask({"n": 2}, path="/echo")).body == '{"n": 2}', "the flow lives on"


async def test_a_functions_own_timeout_is_the_408_that_the_gateway_gives(stage: Stage) -> None:
    await stage.function(spec={"eventTimeout": "50ms"})
    graph = await stage.run(one_step(subpath="hold", retries=3))
    reply = await graph.ask({})
    assert reply.status_code == 400
    assert "unexpected response status 408" in reply.body
    assert "deadline_exceeded" in reply.body


async def test_a_step_that_waited_long_enough_is_tried_again(stage: Stage) -> None:
    worker = await stage.function(permits=4)
    graph = await stage.run(one_step(subpath="hold", timeout=0.05, retries=1, backoff_factor=0.001))
    reply = await graph.ask({})
    assert (reply.status_code, len(worker.requests)) == (400, 2)
    assert "TimeoutError" in reply.body
    await stage.until(lambda: len(worker.cancelled) == 2)


@pytest.mark.parametrize(("retries", "calls"), [(0, 1), (2, 3)])
async def test_a_failure_is_tried_again_as_often_as_the_step_says(
    stage: Stage, retries: int, calls: int
) -> None:
    worker = await stage.function()
    graph = await stage.run(one_step(subpath="fail", retries=retries, backoff_factor=0.001))
    reply = await graph.ask({})
    assert (reply.status_code, len(worker.requests)) == (400, calls)
    assert "RuntimeError: bad http response 500:" in reply.body
    assert "it raised" in reply.body


async def test_a_step_behind_the_error_handler_answers(stage: Stage) -> None:
    await stage.function()

    def caught(event: Any) -> Any:
        event.body = {"caught": event.origin_state, "error": type(event.error).__name__}
        return event

    def build(flow: Any) -> None:
        step = flow.to(**remote(subpath="fail", retries=0))
        step.error_handler(name="catch", handler="caught", full_event=True)
        step.to(name="last", handler="same").respond()

    namespace = {"caught": caught, "same": lambda body: body}
    graph = await stage.run(build, namespace=namespace)
    reply = await graph.ask({})
    assert json.loads(reply.body) == {"caught": "s", "error": "RuntimeError"}


async def test_a_function_that_is_not_there_is_a_404_with_near_names(stage: Stage) -> None:
    await stage.function()
    graph = await stage.run(one_step(url=f"{stage.url}/p-ecko", retries=0))
    reply = await graph.ask({})
    assert "unexpected response status 404" in reply.body
    assert "did you mean p-echo?" in reply.body


async def test_a_function_deployed_later_is_found(stage: Stage) -> None:
    await stage.function()
    graph = await stage.run(one_step(url=f"{stage.url}/p-later", retries=0))
    await stage.function("p-later")
    assert (await graph.ask({"n": 1})).body == '{"n": 1}'


async def test_a_body_over_the_functions_limit_is_refused(stage: Stage) -> None:
    worker = await stage.function(trigger={"attributes": {"maxRequestBodySize": 10}})
    graph = await stage.run(one_step())
    reply = await graph.ask({"text": "x" * 20})
    assert "unexpected response status 413" in reply.body
    assert worker.requests == []


async def test_a_function_at_zero_is_woken(stage: Stage) -> None:
    await stage.function()
    stage.store.replicas.clear()
    graph = await stage.run(one_step())
    ticket = graph.ticket()
    asked = asyncio.create_task(graph.ask({"n": 1}, ticket))
    await stage.until(lambda: "p-echo" in stage.store.wakes)
    ticket.cancel()
    assert (await asked).status_code == 408


async def test_redirects_are_followed_as_http_clients_do(stage: Stage) -> None:
    worker = await stage.function(permits=4)

    def answer(to: Any, stream: int, meta: dict[str, Any], body: bytes) -> None:
        if meta["path"] == "/old":
            to.respond(stream, b"", {"location": "/p-echo/new?x=1"}, status=303)
        else:
            seen = json.dumps([meta["method"], meta["path"], body.decode()])
            to.respond(stream, seen.encode(), {"content-type": "application/json"})

    worker.answer = answer
    graph = await stage.run(one_step(subpath="old"))
    reply = await graph.ask({"n": 1})
    assert json.loads(reply.body) == ["GET", "/new?x=1", ""]


async def test_ending_waits_for_the_calls_under_way(stage: Stage) -> None:
    worker = await stage.function()
    seen: list[Any] = []

    def build(flow: Any) -> None:
        flow.to(**remote(subpath="hold")).to(name="note", handler="note")

    graph = await stage.run(build, namespace={"note": seen.append})
    await graph.ask({"n": 1})
    await stage.until(lambda: worker.held)
    ending = asyncio.create_task(graph.end())
    await asyncio.sleep(0.02)
    assert not ending.done()
    worker.release()
    await ending
    assert seen == [{"n": 1}]
    stage.graphs.clear()


async def test_a_worker_that_dies_at_a_call_is_a_failed_call(stage: Stage) -> None:
    await stage.function()
    graph = await stage.run(one_step(subpath="die", retries=0))
    reply = await graph.ask({})
    assert "bad http response 502" in reply.body
    assert "worker_lost" in reply.body


async def test_demand_is_told_while_a_call_runs_and_no_more_after(stage: Stage) -> None:
    worker = await stage.function()
    graph = await stage.run(one_step(subpath="hold"))
    asked = asyncio.create_task(graph.ask({}))
    await stage.until(lambda: stage.told("w0").get("p-echo") == 1)
    worker.release()
    await asked
    await stage.until(lambda: stage.told("w0").get("p-echo") == 0)
    count = len(stage.store.reports)
    await asyncio.sleep(0.5)
    later = [reporter for reporter, _ in stage.store.reports[count:]]
    assert "w0" not in later, "an idle graph's worker lets its report expire"


# -- streams


async def chunks_of(answer: Any) -> list[Any]:
    return [chunk async for chunk in answer]


async def test_chunks_pass_through_as_they_come(stage: Stage) -> None:
    worker = await stage.function()
    streams: list[tuple[Any, int]] = []
    worker.answer = lambda to, stream, meta, body: (streams.append((to, stream)), to.head(stream))
    graph = await stage.run(one_step(), streaming=True)
    answer = await graph.ask({})
    first = asyncio.create_task(anext(answer))
    await stage.until(lambda: streams)
    to, stream = streams[0]
    to.write(frame(Kind.CHUNK, stream, b"one"))
    assert await first == b"one"
    to.write(frame(Kind.CHUNK, stream, b"two"))
    assert await anext(answer) == b"two"
    to.end(stream, "ok")
    assert await chunks_of(answer) == []


async def test_a_graph_that_does_not_stream_gathers_the_chunks(stage: Stage) -> None:
    await stage.function()
    graph = await stage.run(one_step(subpath="stream/3", return_json=False))
    assert await graph.ask({}) == b"chunk 0\nchunk 1\nchunk 2\n"


async def test_streams_of_two_requests_run_side_by_side(stage: Stage) -> None:
    worker = await stage.function(permits=2)
    graph = await stage.run(one_step(subpath="$path"), streaming=True)
    ticket = graph.ticket()
    endless = await graph.ask({}, ticket, path="/endless")
    assert await anext(endless)
    short = await graph.ask({}, path="/stream/2")
    assert await chunks_of(short) == [b"chunk 0\n", b"chunk 1\n"]
    assert sum(len(to.streaming) for to in worker.connections) == 1
    ticket.cancel()


async def test_a_client_that_leaves_a_stream_ends_it_at_the_function(stage: Stage) -> None:
    worker = await stage.function()
    graph = await stage.run(one_step(subpath="endless"), streaming=True)
    ticket = graph.ticket()
    answer = await graph.ask({}, ticket)
    assert await anext(answer)
    ticket.cancel()
    await stage.until(lambda: worker.cancelled)
    await answer.aclose()


async def test_a_slow_client_holds_the_function_back(stage: Stage) -> None:
    worker = await stage.function()
    graph = await stage.run(one_step(subpath="endless"), streaming=True)
    ticket = graph.ticket()
    answer = await graph.ask({}, ticket)
    assert await anext(answer)
    await stage.until(lambda: any(to.paused for to in worker.connections))
    while any(to.paused for to in worker.connections):
        await anext(answer)
    ticket.cancel()
    await answer.aclose()


async def test_a_stream_that_breaks_off_is_an_error_at_its_end(stage: Stage) -> None:
    await stage.function()
    graph = await stage.run(one_step(subpath="broken"), streaming=True)
    answer = await graph.ask({})
    assert await anext(answer) == b"one"
    with pytest.raises(Exception, match="the generator raised"):
        await anext(answer)


async def test_the_next_step_sees_each_chunk(stage: Stage) -> None:
    await stage.function()

    def build(flow: Any) -> None:
        flow.to(**remote(subpath="stream/2")).to(name="up", handler="up").respond()

    graph = await stage.run(build, streaming=True, namespace={"up": lambda chunk: chunk.upper()})
    assert await chunks_of(await graph.ask({})) == [b"CHUNK 0\n", b"CHUNK 1\n"]


async def test_a_step_behind_a_stream_is_called_for_each_chunk_in_order(stage: Stage) -> None:
    await stage.function()
    await stage.function("p-after", permits=4)

    def build(flow: Any) -> None:
        step = flow.to(**remote("a", subpath="stream/5"))
        step.to(**remote("b", url="p/after", return_json=False)).respond()

    graph = await stage.run(build, streaming=True)
    expected = [f"chunk {n}\n".encode() for n in range(5)]
    assert await chunks_of(await graph.ask({})) == expected
