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


def child(labels: dict[str, str], **triggers: Any) -> tuple[FunctionConfig, list[str]]:
    """The config of a child function, and what its deploy log says of it."""
    body = {
        "kind": "serving",
        "metadata": {"name": "f-child", "labels": labels},
        "spec": {
            "graph": GRAPH,
            "function_handler": "main:handler",
            "build": {"functionSourceCode": HANDLER},
            "config": {f"spec.triggers.{name}": trigger for name, trigger in triggers.items()},
        },
    }
    made = compile_function(FunctionObject.read(body, "p", "f-child"))
    return FunctionConfig.parse(made.document), [text for _, text in made.notes]


OF_PARENT = {"mlrun/parent-function": "f"}
INVENTED = {"kind": "http", "name": "http", "numWorkers": 2}
"""What `stoker.gpu(child, workers=2)` declares before the client knows of the queue."""


def test_workers_of_a_child_behind_a_queue_are_those_of_its_stream() -> None:
    config, notes = child(OF_PARENT, http=INVENTED, stream=STREAM | {"maxWorkers": 1})
    assert list(config.spec.triggers) == ["stream"]
    assert config.workers == 2
    assert config.worker_trigger == ("v3ioStream", "stream")
    assert not config.acks_graph_at_return
    assert notes == []


def test_one_worker_is_nothing_declared_and_what_only_http_has_is_said_to_be_lost() -> None:
    batch = {"mode": "enable", "batchSize": 4}
    http = INVENTED | {"numWorkers": 1, "batch": batch}
    config, notes = child(OF_PARENT, http=http, stream=STREAM | {"maxWorkers": 3})
    assert list(config.spec.triggers) == ["stream"]
    assert config.workers == 3
    assert notes == ["batch of http has no effect on a function behind a queue"]


@pytest.mark.parametrize(
    ("labels", "http"),
    [
        ({}, INVENTED),  # nobody's child: its http trigger was declared beside the stream
        (OF_PARENT, INVENTED | {"attributes": {"ingresses": {}}}),  # with_http()
    ],
)
def test_an_http_trigger_that_is_meant_stays(labels: dict[str, str], http: dict[str, Any]) -> None:
    config, _ = child(labels, http=http, stream=STREAM)
    assert set(config.spec.triggers) == {"http", "stream"}


def test_a_child_without_a_queue_keeps_its_workers() -> None:
    config, _ = child(OF_PARENT, http=INVENTED)
    assert (list(config.spec.triggers), config.workers) == (["http"], 2)
