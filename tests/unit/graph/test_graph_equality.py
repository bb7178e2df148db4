"""The same graph with mlrun's own steps over HTTP and with ours: both sides see the same."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from typing import Any

import pytest

Stage = Any

BODY = {"text": "Zürich", "inner": {"n": [1, 2.5, None]}, "url": "x"}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "subpath": {"subpath": "a/b"},
    "event path": {"subpath": "$path"},
    "get": {"method": "GET"},
    "put": {"method": "PUT"},
    "delete": {"method": "delete"},
    "own headers": {"headers": {"X-One": "1", "Accept": "text/plain"}},
    "own content type": {"headers": {"content-type": "text/csv"}},
    "own type of text": {"headers": {"Content-Type": "text/csv"}, "input_path": "text"},
    "headers by expression": {"headers_expression": "{'X-Text': event['url']}"},
    "url by expression": {"url_expression": "endpoint + '/' + event['url'] + '?q=a b'"},
    "body by expression": {"body_expression": "event['inner']"},
    "input path": {"input_path": "inner"},
    "text body": {"input_path": "text"},
    "result path": {"result_path": "answer"},
    "raw answer": {"return_json": False},
    "target header": {"headers": {"X-Nuclio-Target": "p-echo"}},
    "timeout": {"timeout": 5},
    "request timeout": {"headers": {"X-Request-Timeout": "5"}},
    "hop by hop": {"headers": {"Connection": "keep-alive, x-drop", "Keep-Alive": "5", "X-K": "1"}},
}
FAILURES: dict[str, dict[str, Any]] = {
    "no such function": {"path": "p-nobody"},
    "the handler failed": {"path": "p-echo/fail"},
    "not json": {"path": "p-echo/text"},
    "bad timeout": {"path": "p-echo", "headers": {"X-Request-Timeout": "soon"}},
}


async def both(
    stage: Stage,
    *,
    engine: str = "async",
    body: Any = BODY,
    kind: str = "application/json",
    path: str = "/in/x?y=1",
    **step: Any,
) -> tuple[Any, Any]:
    """What the graph answers, and what the function saw, with mlrun's step and with ours."""
    answers = []
    for stock in (True, False):
        seen: list[tuple[dict[str, Any], bytes]] = []
        for worker in stage.workers.values():
            worker.answer = watching(worker, seen)

        def build(flow: Any) -> None:
            flow.to("$remote", "s", **step).respond()

        graph = await stage.run(build, stock=stock, engine=engine)
        if engine == "sync":
            asking = graph.ask(body, path=path, kind=kind)
            reply = await asyncio.to_thread(asyncio.run, asking)
        else:
            reply = await graph.ask(body, path=path, kind=kind)
        answers.append((shown(reply), [(told(meta), data) for meta, data in seen]))
    return answers[0], answers[1]


def watching(worker: Any, seen: list[tuple[dict[str, Any], bytes]]) -> Any:
    def answer(to: Any, stream: int, meta: dict[str, Any], body: bytes) -> None:
        seen.append((meta, body))
        match meta["path"]:
            case "/fail":
                worker.by_path(to, stream, meta, body)
            case "/text":
                to.respond(stream, b"no json")
            case _:
                answer = json.dumps({"path": meta["path"], "got": body.decode()}).encode()
                to.respond(stream, answer, {"content-type": "application/json"})

    return answer


def told(meta: dict[str, Any]) -> dict[str, Any]:
    """What the function can see of the request, less what is another one's each time."""
    return {
        "method": meta["method"],
        "path": meta["path"],
        "headers": {**meta["headers"], "mlrun-event-id": ""},
        "bounded": meta["deadline"] is not None,
    }


def shown(reply: Any) -> Any:
    """A reply of the graph; request ids and addresses of objects differ from run to run."""
    status, body = getattr(reply, "status_code", 200), getattr(reply, "body", reply)
    text = body.decode() if isinstance(body, bytes) else str(body)
    return status, re.sub(r"q\d+|[0-9a-f]{12}-[0-9a-f]+|\d{4}-\d\d-\d\d [0-9:.]+", "…", text)


@pytest.mark.parametrize("variant", VARIANTS)
async def test_the_function_sees_the_same_request_and_the_graph_answers_the_same(
    stage: Stage, variant: str
) -> None:
    await stage.function(permits=4)
    mlruns, ours = await both(stage, url=f"{stage.url}/p-echo", **VARIANTS[variant])
    # A graph's deadline travels with our calls; with mlrun's own it does not.
    for sight in mlruns[1]:
        sight[0]["bounded"] = True
    assert ours == mlruns
    assert ours[0][0] == 200
    assert len(ours[1]) == 1


@pytest.mark.parametrize("failure", FAILURES)
async def test_failures_have_the_same_words(stage: Stage, failure: str) -> None:
    await stage.function(permits=4)
    step = {**FAILURES[failure], "retries": 0}
    mlruns, ours = await both(stage, url=f"{stage.url}/{step.pop('path')}", **step)
    assert ours[0] == mlruns[0]
    assert ours[0][0] == 400


async def test_raw_bodies_go_as_they_are(stage: Stage) -> None:
    await stage.function(permits=4)
    raw = b"\x00no json"
    mlruns, ours = await both(stage, url=f"{stage.url}/p-echo", body=raw, kind="image/png")
    assert ours[1][0][1] == mlruns[1][0][1] == b"\x00no json"
    assert ours[1][0][0]["headers"] == mlruns[1][0][0]["headers"]


async def test_a_packed_answer_is_unpacked(stage: Stage) -> None:
    worker = await stage.function(permits=4)
    packed = gzip.compress(b'{"a": 1}')
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    for stock in (True, False):

        def build(flow: Any) -> None:
            flow.to("$remote", "s", url=f"{stage.url}/p-echo").respond()

        graph = await stage.run(build, stock=stock)
        worker.answer = lambda to, stream, meta, body: to.respond(stream, packed, headers)
        assert json.loads((await graph.ask({})).body) == {"a": 1}


@pytest.mark.parametrize("variant", ["plain", "result path", "get", "raw answer", "own headers"])
async def test_a_sync_graph_is_the_same_too(stage: Stage, variant: str) -> None:
    await stage.function(permits=4)
    mlruns, ours = await both(stage, engine="sync", url=f"{stage.url}/p-echo", **VARIANTS[variant])
    for sight in (*mlruns[1], *ours[1]):
        sight[0]["bounded"] = True
        # That of requests names more than we take off again.
        assert "gzip, deflate" in sight[0]["headers"].pop("accept-encoding")
    assert ours == mlruns


@pytest.mark.parametrize("failure", FAILURES)
async def test_failures_of_a_sync_graph_have_the_same_words(stage: Stage, failure: str) -> None:
    await stage.function(permits=4)
    step = {**FAILURES[failure], "retries": 0}
    url = f"{stage.url}/{step.pop('path')}"
    mlruns, ours = await both(stage, engine="sync", url=url, **step)
    assert ours[0] == mlruns[0]


async def test_a_sync_graph_tries_again_as_mlruns_session_does(stage: Stage) -> None:
    worker = await stage.function(permits=4)
    step = {"url": f"{stage.url}/p-echo/fail", "retries": 2, "backoff_factor": 0.001}
    mlruns, ours = await both(stage, engine="sync", **step)
    assert ours[0] == mlruns[0]
    assert len(ours[1]) == len(mlruns[1]) == 3
    assert len(worker.requests) == 6


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_requests_in_a_batch_are_the_same(stage: Stage, method: str) -> None:
    await stage.function(permits=4)
    answers = []
    for stock in (True, False):
        seen: list[tuple[dict[str, Any], bytes]] = []
        worker = stage.workers["p-echo"]
        worker.answer = watching(worker, seen)

        def build(flow: Any) -> None:
            flow.to(
                "mlrun.serving.remote.BatchHttpRequests",
                "s",
                url_expression=f"'{stage.url}/p-echo/' + str(event['n'])",
                body_expression="event['n']",
                method=method,
                input_path="all",
                result_path="answers",
            ).respond()

        graph = await stage.run(build, stock=stock)
        reply = await graph.ask({"all": [{"n": 1}, {"n": 2}, {"n": 3}]})
        answers.append((shown(reply), sorted((meta["path"], data) for meta, data in seen)))
    assert answers[0] == answers[1]
    assert [path for path, _ in answers[1][1]] == ["/1", "/2", "/3"]
