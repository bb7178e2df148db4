"""What a graph's picture holds: read from the spec of the graph, as MLRun writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qs, urlsplit

REQUEST = "\0request"
REPLY = "\0reply"
"""The two ends of a graph; no step can have such a name."""

_REMOTE = frozenset({"RemoteStep", "RemoteFunctionStep", "BatchHttpRequests", "$remote"})
_DEFAULT_ROUTER = "ModelRouter"


class Place(StrEnum):
    """Where a step runs, or what it is."""

    END = "end"
    HERE = "in the graph's own worker"
    REMOTE = "a function or service of its own"
    CHILD = "a child function"
    QUEUE = "a queue"
    MODEL = "a model"
    HANDLER = "runs when a step fails"


class Flow(StrEnum):
    """What an arrow stands for."""

    ON = "on"
    ERROR = "error"
    BACK = "back"


@dataclass(frozen=True, slots=True)
class Box:
    """One step.

    Attributes:
        name: unique in the graph.
        note: a second line: a class, a handler, a function's name, a queue's path.
        place: where it runs.
        inner: what a router or a model runner holds.
    """

    name: str
    note: str = ""
    place: Place = Place.HERE
    inner: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one box to another, by their names."""

    start: str
    end: str
    flow: Flow = Flow.ON


@dataclass(frozen=True, slots=True)
class Sketch:
    """The boxes of a graph, in the order of its spec, and the arrows between them."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def sketch(graph: Mapping[str, Any]) -> Sketch:
    """Reads a graph's spec: a router, or a flow of steps.

    Steps that are named but do not exist are left out: what is drawn is what would run.
    """
    if graph.get("kind") == "router":
        name = graph.get("name") or "router"
        router = _with_ends((_box(name, graph),))
        return Sketch(router, (Arrow(REQUEST, name), Arrow(name, REPLY)))
    steps: Mapping[str, Mapping[str, Any]] = graph.get("steps") or {}
    arrows = [arrow for name, step in steps.items() for arrow in _arrows(name, step, steps)]
    replies = [Arrow(name, REPLY) for name in _repliers(graph, steps, arrows)]
    replies += _excuses(steps, arrows, {arrow.start for arrow in replies})
    starts = [Arrow(REQUEST, name) for name in _starts(steps)]
    everyones = _names(graph.get("on_error"))
    boxes = tuple(_box(name, step, name in everyones) for name, step in steps.items())
    return Sketch(_with_ends(boxes, bool(replies)), (*starts, *arrows, *replies))


def _with_ends(boxes: tuple[Box, ...], replies: bool = True) -> tuple[Box, ...]:
    request, reply = Box(REQUEST, place=Place.END), Box(REPLY, place=Place.END)
    return (request, *boxes, reply) if replies else (request, *boxes)


def _box(name: str, step: Mapping[str, Any], handles_any: bool = False) -> Box:
    """One step; ``handles_any`` if it is the handler of the whole graph.

    An arrow from every step would lead to that one: a word says the same.
    """
    kind = str(step.get("kind") or "task")
    if kind == "queue":
        return Box(name, _topic(str(step.get("path") or "")), Place.QUEUE)
    note, place = _task(step)
    if kind == "error_step":
        place = Place.HANDLER
        note = f"{note} for any step".strip() if handles_any else note
    inner = _inner(kind, step) if kind in ("router", "model_runner") else ()
    return Box(name, note if note != name else "", place, inner)


def _task(step: Mapping[str, Any]) -> tuple[str, Place]:
    class_name = _last(step.get("class_name"))
    if step.get("function") not in (None, "", "*"):
        return str(step["function"]), Place.CHILD
    if class_name in _REMOTE:
        return _target(step.get("class_args") or {}), Place.REMOTE
    if step.get("kind") == "router":
        return class_name or _DEFAULT_ROUTER, Place.HERE
    handler = step.get("handler")
    return class_name or (f"{handler}()" if handler else ""), Place.HERE


def _target(arguments: Mapping[str, Any]) -> str:
    function = arguments.get("fn")
    if isinstance(function, Mapping):
        function = (function.get("metadata") or {}).get("name")
    project = arguments.get("project_name")
    if function:
        return f"{project}/{function}" if project and "/" not in str(function) else str(function)
    return str(arguments.get("url") or arguments.get("url_expression") or "")


def _topic(path: str) -> str:
    """What tells queues apart: the end of where they lie; server and container they share."""
    parts = urlsplit(path)
    topics = parse_qs(parts.query).get("topic", [])
    return next(iter(topics), "") or "/".join(parts.path.split("/")[-2:]).strip("/") or path


def _inner(kind: str, step: Mapping[str, Any]) -> tuple[Box, ...]:
    if kind == "router":
        routes = (step.get("routes") or {}).items()
        return tuple(_route(_box(name, route)) for name, route in routes)
    models = (step.get("class_args") or {}).get("models") or {}
    return tuple(Box(name, _last(entry[0]), Place.MODEL) for name, entry in models.items())


def _route(box: Box) -> Box:
    return Box(box.name, box.note, Place.MODEL) if box.place is Place.HERE else box


def _last(class_name: Any) -> str:
    return str(class_name or "").rpartition(".")[2]


def _arrows(
    name: str, step: Mapping[str, Any], steps: Mapping[str, Mapping[str, Any]]
) -> list[Arrow]:
    back = step.get("cycle_from") or ()
    found = [
        Arrow(earlier, name, Flow.BACK if earlier in back else Flow.ON)
        for earlier in _names(step.get("after"))
    ]
    found += [Arrow(name, later) for later in _names(step.get("before"))]
    found += [Arrow(name, handler, Flow.ERROR) for handler in _names(step.get("on_error"))]
    return [arrow for arrow in found if arrow.start in steps and arrow.end in steps]


def _starts(steps: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        name
        for name, step in steps.items()
        if set(_names(step.get("after"))) <= set(step.get("cycle_from") or ())
        and step.get("kind") != "error_step"
    ]


def _repliers(
    graph: Mapping[str, Any], steps: Mapping[str, Mapping[str, Any]], arrows: list[Arrow]
) -> list[str]:
    """Who answers: the responder; in a sync graph, which has none, the last step."""
    responders = [name for name, step in steps.items() if step.get("responder")]
    if responders or graph.get("engine") != "sync":
        return responders
    going_on = {arrow.start for arrow in arrows if arrow.flow is Flow.ON}
    last = [name for name in steps if name not in going_on]
    return [name for name in last if steps[name].get("kind") not in ("error_step", "queue")]


def _excuses(
    steps: Mapping[str, Mapping[str, Any]], arrows: list[Arrow], repliers: set[str]
) -> list[Arrow]:
    """Handlers after which the graph is done: what they make of the failure is the reply.

    Not those of steps after the reply, which is out when they fail.
    """
    going_on = {arrow.start for arrow in arrows}
    return [
        Arrow(name, REPLY, Flow.ERROR)
        for name, step in steps.items()
        if step.get("kind") == "error_step" and name not in going_on
        and any(arrow.end == name and _leads(arrow.start, repliers, arrows) for arrow in arrows)
    ]  # fmt: skip


def _leads(start: str, ends: set[str], arrows: list[Arrow]) -> bool:
    """Whether the flow goes from a step to one of others, itself included."""
    reached, new = {start}, {start}
    while new:
        new = {a.end for a in arrows if a.start in new and a.flow is Flow.ON} - reached
        reached |= new
    return bool(reached & ends)


def _names(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(name) for name in value or ()]
