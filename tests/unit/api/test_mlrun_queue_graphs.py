"""The compile of a graph that reads a queue."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from stoker.api.mlrun.compile import compile_function
from stoker.api.mlrun.function_object import FunctionObject
from stoker.nouns.function import FunctionConfig
from stoker.nouns.stream_trigger import AckMode
from stoker.sdk.graph.targets import read_spec

HANDLER = base64.b64encode(b"def handler(context, event): ...").decode()
GRAPH = {
    "kind": "flow",
    "engine": "async",
    "steps": {
        "q": {"kind": "queue", "path": "v3io:///projects/p/q"},
        "work": {"kind": "task", "handler": "work", "after": ["q"], "function": "child"},
    },
}
STREAM = {
    "kind": "v3ioStream",
    "explicitAckMode": "explicitOnly",
    "attributes": {
        "containerName": "projects",
        "streamPath": "p/q",
        "consumerGroup": "g",
        "workerAllocationMode": "static",
    },
}


def compiled(graph: dict[str, Any] = GRAPH, **triggers: Any) -> tuple[FunctionConfig, Any]:
    """The config, and the graph that runs."""
    spec = {
        "graph": graph,
        "function_handler": "main:handler",
        "build": {"functionSourceCode": HANDLER},
        "config": {f"spec.triggers.{name}": trigger for name, trigger in triggers.items()},
    }
    body = {"kind": "serving", "metadata": {"name": "f-child"}, "spec": spec}
    made = compile_function(FunctionObject.read(body, "p", "f-child"))
    config = FunctionConfig.parse(made.document)
    return config, read_spec(config.env["SERVING_SPEC_ENV"])["graph"]


def test_a_child_behind_a_queue_is_told_of_nothing_but_its_stream() -> None:
    """With an http trigger of its own, MLRun's runtime would never acknowledge a record."""
    config, _ = compiled(stream=STREAM)
    assert list(config.spec.triggers) == ["stream"]
    assert config.worker_trigger == ("v3ioStream", "stream")
    (trigger,) = config.stream_triggers.values()
    assert trigger.ack is AckMode.EXPLICIT_ONLY


@pytest.mark.parametrize(
    ("triggers", "told"),
    [
        ({"stream": STREAM}, True),
        ({"stream": STREAM | {"explicitAckMode": "enable"}}, True),
        # Done when its handler returns, which waits for the flow, or answers a caller.
        ({"stream": STREAM | {"explicitAckMode": "disable"}}, False),
        ({"stream": STREAM, "http": {"kind": "http"}}, False),
        ({"http": {"kind": "http"}}, False),
        ({}, False),
    ],
)
def test_only_what_acknowledges_by_itself_says_what_failed(
    triggers: dict[str, Any], told: bool
) -> None:
    _, graph = compiled(**triggers)
    assert (graph.get("on_error") == "stoker-failed") is told
    assert ("stoker-failed" in graph["steps"]) is told


def test_a_graphs_own_error_handler_stays_the_last() -> None:
    mine = {"kind": "error_step", "handler": "mine", "function": "child"}
    graph = {**GRAPH, "steps": {**GRAPH["steps"], "mine": mine}, "on_error": "mine"}  # type: ignore[dict-item]
    _, run = compiled(graph, stream=STREAM)
    assert run["on_error"] == "mine"
    assert "stoker-failed" not in run["steps"]
