"""Graphs that cannot run as declared are refused when they are deployed, and say where and why."""

from __future__ import annotations

from typing import Any

import pytest

from stoker.api.mlrun.function_object import FunctionObject
from stoker.api.mlrun.refusals import check_graph, graph_problems
from stoker.nouns.errors import InvalidFunction

DEPLOYED = ("shop-echo", "shop-echo-v2", "bank-model")


def serving(graph: Any, *, child: str = "", tag: str = "") -> FunctionObject:
    env = [{"name": "SERVING_CURRENT_FUNCTION", "value": child}] if child else []
    body = {
        "kind": "serving",
        "metadata": {"name": "graph", "tag": tag},
        "spec": {"graph": graph, "env": env},
    }
    return FunctionObject.read(body, "shop", "graph")


def flow(**steps: Any) -> dict[str, Any]:
    return {"engine": "async", "steps": steps}


def task(*after: str, **more: Any) -> dict[str, Any]:
    return {"kind": "task", "class_name": "X", "after": list(after), **more}


def queue(*after: str) -> dict[str, Any]:
    return {"kind": "queue", "path": "v3io:///p/q", "after": list(after)}


def remote(url: Any, class_name: str = "$remote", **arguments: Any) -> dict[str, Any]:
    return task(class_name=class_name, class_args={"url": url, **arguments})


def problems(graph: Any, **given: Any) -> dict[str, str]:
    return {p.field: p.message for p in graph_problems(serving(graph, **given), DEPLOYED)}


# Steps that nothing would ever run


@pytest.mark.parametrize(
    ("graph", "field", "words"),
    [
        (
            flow(a=task(), b=task("a", function="gpu")),
            "spec.graph.steps.b.function",
            "step 'b' runs in the child function 'gpu', but the step before it, 'a', is no queue",
        ),
        (
            flow(a=task(function="gpu")),
            "spec.graph.steps.a.function",
            "nothing is before it",
        ),
        (
            flow(q=queue(), a=task("q", function="gpu"), b=task("a")),
            "spec.graph.steps.b.function",
            "runs in the graph's own function",
        ),
        (
            flow(q=queue(), a=task("q", function="one"), b=task("a", function="two")),
            "spec.graph.steps.b.function",
            "the step before it, 'a', is no queue",
        ),
        (
            {"kind": "router", "routes": {"m": task(function="gpu")}},
            "spec.graph.routes.m.function",
            "a router calls its routes in its own function",
        ),
        (
            flow(r={"kind": "router", "routes": {"m": task(function="gpu")}}),
            "spec.graph.steps.r.routes.m.function",
            "a router calls its routes in its own function",
        ),
    ],
)
def test_a_step_that_mlrun_would_skip_is_refused(
    graph: dict[str, Any], field: str, words: str
) -> None:
    found = problems(graph)
    assert list(found) == [field]
    assert words in found[field]
    assert "MLRun would skip it without a word" in found[field]


@pytest.mark.parametrize(
    "graph",
    [
        flow(a=task(), b=task("a")),
        flow(a=task(), q=queue("a"), b=task("q", function="gpu"), c=task("b", function="gpu")),
        flow(a=task(), q=queue("a"), b=task("q", function="one"), r=queue("b")),
        flow(
            q=queue(),
            a=task("q", function="gpu", kind="router", routes={"m": task()}),
        ),
        flow(a=task(function="*"), b=task("a")),
        flow(a=task(on_error="e"), e=task(function="other")),
        {"kind": "router", "routes": {"m": task(), "n": task()}},
        {"kind": "root", "steps": {"a": task()}},
    ],
)
def test_a_graph_whose_steps_all_run_is_taken(graph: dict[str, Any]) -> None:
    assert problems(graph) == {}


# The order


def test_a_circle_is_refused_and_shown() -> None:
    found = problems(flow(a=task("c"), b=task("a"), c=task("b"), d=task("c")))
    assert list(found) == ["spec.graph.steps.a.after"]
    assert "the steps a → b → c → a form a circle" in found["spec.graph.steps.a.after"]
    assert "form a circle" in problems(flow(a=task("a")))["spec.graph.steps.a.after"]


def test_a_circle_that_is_meant_is_taken() -> None:
    assert problems(flow(a=task("b"), b=task("a")) | {"allow_cyclic": True}) == {}
    assert problems(flow(a=task("b", cycle_from=["b"]), b=task("a"))) == {}


def test_a_step_after_one_that_is_not_there_is_refused_with_the_near_name() -> None:
    found = problems(flow(prepare=task(), embed=task("prepaer")))
    assert (
        "which the graph has not; did you mean 'prepare'?" in found["spec.graph.steps.embed.after"]
    )


# Functions that a graph calls


@pytest.mark.parametrize(
    "step",
    [
        remote("shop/echo"),
        remote("echo"),
        remote("shop/echo:v2"),
        remote("Echo"),
        remote("bank/model", "mlrun.serving.remote.RemoteStep"),
        remote("echo", "BatchHttpRequests"),
        remote("https://example.org/x"),
        remote(None, url_expression="event['url']"),
        remote("nobody/knows", "my.own.RemoteStep"),
        task(class_name="mlrun.serving.remote.RemoteFunctionStep", class_args={"fn": "echo"}),
        task(class_name="RemoteFunctionStep", class_args={"fn": "model", "project_name": "bank"}),
    ],
)
def test_a_function_that_is_deployed_here_and_any_url_may_be_called(step: dict[str, Any]) -> None:
    assert problems(flow(r=step)) == {}


@pytest.mark.parametrize(
    ("step", "key", "name"),
    [
        (remote("shop/ecko"), "url", "shop-ecko"),
        (remote("model"), "url", "shop-model"),
        (remote("echo:v3", "mlrun.serving.RemoteStep"), "url", "shop-echo-v3"),
        (remote(".child"), "url", "shop-graph-child"),
        (task(class_name="RemoteFunctionStep", class_args={"fn": "b/c"}), "fn", "b-c"),
    ],
)
def test_a_function_that_is_not_deployed_is_refused_by_name(
    step: dict[str, Any], key: str, name: str
) -> None:
    found = problems(flow(r=step))
    assert list(found) == [f"spec.graph.steps.r.class_args.{key}"]
    assert f"no function '{name}' is deployed here" in found[f"spec.graph.steps.r.class_args.{key}"]


def test_a_route_to_another_function_is_looked_at_too() -> None:
    graph = {"kind": "router", "routes": {"m": remote("shop/nothing")}}
    assert "spec.graph.routes.m.class_args.url" in problems(graph)


def test_near_names_are_given() -> None:
    found = problems(flow(r=remote("shop/ecko")))
    assert "near names: shop-echo" in found["spec.graph.steps.r.class_args.url"]


@pytest.mark.parametrize(("uri", "tag"), [("graph", ""), ("shop/graph", ""), ("graph:v1", "v1")])
def test_a_graph_that_calls_itself_is_refused(uri: str, tag: str) -> None:
    found = problems(flow(r=remote(uri)), tag=tag)
    assert "the function that it is part of" in found["spec.graph.steps.r.class_args.url"]


def test_a_child_function_answers_for_its_own_steps_alone() -> None:
    graph = flow(
        r=remote(".later"), q=queue("r"), c=task("q", function="gpu", class_name="X", class_args={})
    )
    assert problems(graph, child="gpu") == {}
    own = flow(q=queue(), r=remote(".later") | {"after": ["q"], "function": "gpu"})
    assert list(problems(own, child="gpu")) == ["spec.graph.steps.r.class_args.url"]


# The whole


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ({}, "spec.graph: must be set"),
        ({"kind": "task"}, "spec.graph.kind: must be a flow or a router, was 'task'"),
    ],
)
def test_what_is_no_graph_is_refused(graph: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidFunction, match=words):
        check_graph(serving(graph), DEPLOYED)


def test_every_problem_is_named_at_once() -> None:
    graph = flow(a=task(function="gpu"), r=remote("x"))
    with pytest.raises(InvalidFunction) as refusal:
        check_graph(serving(graph), DEPLOYED)
    fields = [field["field"] for field in refusal.value.detail["fields"]]
    assert fields == ["spec.graph.steps.a.function", "spec.graph.steps.r.class_args.url"]
