"""Which flows a request's own task goes through, and which keep storey's source."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from stoker.worker.log import REQUEST_ID

Stage = Any
STEP = {"class_name": "$remote", "url": "p/echo"}
SEEN: list[asyncio.Task[Any] | None] = []


def note(body: Any) -> Any:
    SEEN.append(asyncio.current_task())
    return body


async def later(body: Any) -> Any:
    SEEN.append(asyncio.current_task())
    return body


def caught(event: Any) -> Any:
    SEEN.append(asyncio.current_task())
    event.body = {"caught": event.origin_state}
    return event


def fails(body: Any) -> Any:
    raise ValueError("no")


def chain(flow: Any) -> None:
    flow.to(**STEP, name="a").to(name="n", handler="note").to(**STEP, name="b").respond()


def with_error_handler(flow: Any) -> None:
    step = flow.to(**STEP, name="a").to(name="f", handler="fails")
    step.error_handler(name="catch", handler="caught", full_event=True)
    step.to(name="n", handler="note").respond()


def with_an_async_step(flow: Any) -> None:
    flow.to(**STEP, name="a").to(name="n", handler="later").respond()


def with_a_branch(flow: Any) -> None:
    step = flow.to(**STEP, name="a")
    step.to(name="aside", handler="same")
    step.to(name="n", handler="note").respond()


def without_an_answer(flow: Any) -> None:
    flow.to(**STEP, name="a").to(name="n", handler="note")


NAMESPACE = {
    "note": note,
    "later": later,
    "caught": caught,
    "fails": fails,
    "same": lambda body: body,
}


@pytest.mark.parametrize(
    ("build", "own"),
    [
        (chain, True),
        (with_error_handler, True),
        (with_an_async_step, False),
        (with_a_branch, False),
        (without_an_answer, False),
    ],
)
async def test_the_requests_own_task_goes_through_a_plain_chain(
    stage: Stage, build: Callable[[Any], None], own: bool
) -> None:
    SEEN.clear()
    await stage.function(permits=4)
    graph = await stage.run(build, namespace=NAMESPACE)
    ticket = graph.ticket()
    await graph.ask({"n": 1}, ticket)
    await stage.until(lambda: SEEN)
    assert (SEEN[0] is ticket.task) is own


async def test_a_graph_without_our_source_answers_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.function(permits=4)
    answers = []
    for build in (chain, with_error_handler):
        for initializer in ("", "given"):
            monkeypatch.setattr(
                "stoker.sdk.graph.rewrite.BEGIN",
                "stoker.sdk.graph.direct.begin" if not initializer else "",
            )
            graph = await stage.run(build, namespace=NAMESPACE)
            reply = await graph.ask({"n": 1})
            answers.append((reply.status_code, reply.body))
    assert answers[0] == answers[1] == (200, '{"n": 1}')
    assert answers[2] == answers[3]


async def test_steps_run_under_the_requests_own_context(stage: Stage) -> None:
    await stage.function()
    seen: list[str] = []

    def tell(body: Any) -> Any:
        seen.append(REQUEST_ID.get())
        return body

    def build(flow: Any) -> None:
        flow.to(**STEP, name="a").to(name="t", handler="tell").respond()

    graph = await stage.run(build, namespace={"tell": tell})
    token = REQUEST_ID.set("mine")
    await graph.ask({})
    REQUEST_ID.reset(token)
    assert seen == ["mine"]


async def test_the_end_waits_for_requests_inside(stage: Stage) -> None:
    worker = await stage.function()

    def build(flow: Any) -> None:
        flow.to(**STEP, name="a", subpath="hold").respond()

    graph = await stage.run(build)
    asked = asyncio.create_task(graph.ask({"n": 1}))
    await stage.until(lambda: worker.held)
    ending = asyncio.create_task(graph.end())
    await asyncio.sleep(0.01)
    assert not ending.done()
    worker.release()
    assert json.loads((await asked).body) == {"n": 1}
    await ending
    assert (await graph.ask({"n": 2})).status_code == 400, "the flow has ended"
    stage.graphs.clear()


async def test_a_request_that_ends_leaves_the_places_of_its_steps(stage: Stage) -> None:
    worker = await stage.function()

    def build(flow: Any) -> None:
        flow.to(**STEP, name="a", subpath="$path", max_in_flight=1).respond()

    graph = await stage.run(build)
    inside, waiting = graph.ticket(), graph.ticket()
    asked = [asyncio.create_task(graph.ask({}, one, path="/hold")) for one in (inside, waiting)]
    await stage.until(lambda: worker.held)
    waiting.cancel()
    inside.cancel()
    assert [(await one).status_code for one in asked] == [408, 408]
    assert (await graph.ask({"n": 3}, path="/echo")).body == '{"n": 3}'
