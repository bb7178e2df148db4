"""What is wrong with a serving graph, found when it is deployed: a graph in, problems out.

MLRun finds some of this in its client, some when the first request comes, and some never: a step
that runs in a child function without a queue before it is passed over without a word.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stoker.api.mlrun.function_object import FunctionObject, full_name, normalised
from stoker.api.mlrun.graph_steps import QUEUE, ROUTER, Step, every_flow, every_step
from stoker.nouns.errors import InvalidFunction
from stoker.nouns.near import near_names

_MODULES = ("", "mlrun.serving", "mlrun.serving.remote", "stoker.sdk.graph")
_REMOTE = ("$remote", "RemoteStep", "BatchHttpRequests")
_REMOTE_FUNCTION = "RemoteFunctionStep"
_ROOTS = ("", "root", ROUTER)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, and why it cannot stay."""

    field: str
    message: str


def check_graph(function: FunctionObject, deployed: Collection[str]) -> None:
    """Refuses a graph that cannot run as it is declared.

    Args:
        function: a serving function.
        deployed: names of the functions that live here now.

    Raises:
        InvalidFunction: naming every step that is wrong.
    """
    problems = list(graph_problems(function, deployed))
    if problems:
        text = "; ".join(f"{problem.field}: {problem.message}" for problem in problems)
        raise InvalidFunction(
            f"invalid graph: {text}",
            fields=[{"field": p.field, "message": p.message} for p in problems],
        )


def graph_problems(function: FunctionObject, deployed: Collection[str]) -> Iterator[Problem]:
    """Everything that is wrong with the function's graph."""
    graph = function.graph
    if not graph:
        yield Problem("spec.graph", "must be set: call set_topology() or add_model() before")
        return
    if str(graph.get("kind") or "") not in _ROOTS:
        kinds = "a flow or a router"
        yield Problem("spec.graph.kind", f"must be {kinds}, was {graph['kind']!r}")
        return
    yield from _skipped_steps(graph)
    yield from _order_problems(graph)
    yield from _remote_problems(function, deployed)


def _field(step: Step, *parts: str) -> str:
    return ".".join(("spec.graph", step.path, *parts))


def _skipped_steps(graph: dict[str, Any]) -> Iterator[Problem]:
    """Steps that no function of the graph would ever run."""
    for container, steps in every_flow(graph):
        inside = _inside(steps)
        if container.get("kind") == ROUTER:
            yield from _skipped_routes(steps, inside)
            continue
        handlers = _error_handlers(container, steps)
        for step in steps.values():
            if step.kind == QUEUE or step.name in handlers or step.function == "*":
                continue
            before = [steps[name] for name in step.after if name in steps]
            if not before and step.function != inside:
                yield _skipped(step, "nothing is before it")
            for other in before:
                if other.kind != QUEUE and other.function not in (step.function, "*"):
                    yield _skipped(step, f"the step before it, {other.name!r}, is no queue")


def _inside(steps: Mapping[str, Step]) -> str:
    return next((step.inside for step in steps.values()), "")


def _skipped_routes(routes: Mapping[str, Step], inside: str) -> Iterator[Problem]:
    for route in routes.values():
        if route.function not in (inside, "*"):
            yield _skipped(route, "a router calls its routes in its own function")


def _skipped(step: Step, why: str) -> Problem:
    where = f"the child function {step.function!r}" if step.function else "the graph's own function"
    return Problem(
        _field(step, "function"),
        f"step {step.name!r} runs in {where}, but {why}: MLRun would skip it without a word. "
        "Put a queue before it (.to('$queue', …)), or make it a function of its own and call it "
        "by a RemoteStep",
    )


def _error_handlers(container: dict[str, Any], steps: Mapping[str, Step]) -> set[str]:
    """Steps that are reached by an error of another one, not by its output."""
    named = [container.get("on_error"), *(step.body.get("on_error") for step in steps.values())]
    return {str(name) for name in named if name}


def _order_problems(graph: dict[str, Any]) -> Iterator[Problem]:
    for container, steps in every_flow(graph):
        if container.get("kind") == ROUTER:
            continue
        for step in steps.values():
            for name in step.after:
                if name not in steps:
                    near = near_names(name, list(steps))
                    hint = f"; did you mean {near[0]!r}?" if near else ""
                    yield Problem(
                        _field(step, "after"),
                        f"step {step.name!r} comes after {name!r}, which the graph has not{hint}",
                    )
        circle = None if container.get("allow_cyclic") else _circle(steps)
        if circle:
            yield Problem(
                _field(steps[circle[0]], "after"),
                f"the steps {' → '.join([*circle, circle[0]])} form a circle; a graph with one "
                'needs set_topology("flow", engine="async", allow_cyclic=True)',
            )


def _circle(steps: Mapping[str, Step]) -> list[str]:
    """Names of steps that lead back to the first of them, in the order of events; or none.

    Steps are taken away from the ends: what is left, and has something before it, holds a circle.
    """
    before = {
        name: {other for other in step.after if other in steps and other not in step.cycle_from}
        for name, step in steps.items()
    }
    while ends := [name for name, others in before.items() if not others]:
        for name in ends:
            del before[name]
        for others in before.values():
            others.difference_update(ends)
    if not before:
        return []
    walk = [next(iter(before))]
    while (earlier := sorted(before[walk[-1]])[0]) not in walk:
        walk.append(earlier)
    circle = walk[walk.index(earlier) :][::-1]
    first = circle.index(min(circle, key=[*steps].index))
    return circle[first:] + circle[:first]


def _remote_problems(function: FunctionObject, deployed: Collection[str]) -> Iterator[Problem]:
    for step in every_step(function.graph):
        if function.child and step.function not in (function.child, "*"):
            continue  # It runs elsewhere: perhaps in a child function that is deployed next.
        called = _called(step, function)
        if called is None:
            continue
        field, uri, name = called
        if name == function.full_name:
            yield Problem(
                field, f"step {step.name!r} calls {uri!r}, the function that it is part of"
            )
        elif name not in deployed:
            near = near_names(name, list(deployed))
            hint = f"; near names: {', '.join(near)}" if near else ""
            yield Problem(
                field,
                f"step {step.name!r} calls the function {uri!r}, and no function {name!r} is "
                f"deployed here{hint}. Deploy it before the graph",
            )


def _called(step: Step, function: FunctionObject) -> tuple[str, str, str] | None:
    """The field, the name as it was given, and the deployed name of what a step calls.

    None when it calls no function by name, or when only the event tells whom.
    """
    module, _, class_name = str(step.body.get("class_name") or "").rpartition(".")
    arguments = step.arguments
    if module not in _MODULES:
        return None
    if class_name in _REMOTE:
        uri, key, project = arguments.get("url"), "url", function.project
    elif class_name == _REMOTE_FUNCTION:
        uri, key = arguments.get("fn"), "fn"
        project = str(arguments.get("project_name") or function.project)
    else:
        return None
    if not isinstance(uri, str) or not uri or "://" in uri:
        return None
    return _field(step, "class_args", key), uri, _deployed_name(uri, project, function)


def _deployed_name(uri: str, project: str, function: FunctionObject) -> str:
    """The name that ``[project/]name[:tag]`` or ``.child`` of a step is deployed under."""
    if uri.startswith("."):
        return full_name(function.project, f"{function.name}-{uri[1:]}", function.tag)
    if "/" in uri:
        project, _, uri = uri.partition("/")
    uri, _, tag = uri.partition(":")
    name, _, _ = uri.partition("@")
    return full_name(project, normalised(name), tag)
