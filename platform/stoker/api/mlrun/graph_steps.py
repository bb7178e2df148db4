"""Walks a serving graph: its steps, those inside flows and routers included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_INNER = ("steps", "routes")
QUEUE = "queue"
ROUTER = "router"


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        name: its own name.
        body: what the graph says of it.
        path: where it stands in the graph: ``steps.ensemble.routes.m1``.
        inside: the child function that what it lies in runs in; empty is the graph's own.
    """

    name: str
    body: dict[str, Any]
    path: str
    inside: str = ""

    @property
    def kind(self) -> str:
        """MLRun's kind of step; ``task`` is meant where none stands."""
        return str(self.body.get("kind") or "task")

    @property
    def function(self) -> str:
        """The child function that it runs in; ``*`` is all, empty is the graph's own."""
        return str(self.body.get("function") or self.inside)

    @property
    def after(self) -> list[str]:
        """Names of the steps before it."""
        found = self.body.get("after") or []
        return [str(name) for name in (found if isinstance(found, list) else [found])]

    @property
    def cycle_from(self) -> list[str]:
        """Names of the steps that lead back to it, on purpose."""
        return [str(name) for name in self.body.get("cycle_from") or []]

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of its class."""
        found = self.body.get("class_args")
        return found if isinstance(found, dict) else {}


def children(container: dict[str, Any], path: str = "", inside: str = "") -> dict[str, Step]:
    """The steps of a flow, or the routes of a router, by name."""
    found: dict[str, Step] = {}
    for key in _INNER:
        inner = container.get(key)
        for name, body in (inner if isinstance(inner, dict) else {}).items():
            if isinstance(body, dict):
                where = ".".join(part for part in (path, key, str(name)) if part)
                found[str(name)] = Step(str(name), body, where, inside)
    return found


def every_step(graph: dict[str, Any], path: str = "", inside: str = "") -> Iterator[Step]:
    """All steps, each before those inside it. Of a graph that contains itself JSON has no word."""
    for step in children(graph, path, inside).values():
        yield step
        yield from every_step(step.body, step.path, step.function)


def every_flow(graph: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Step]]]:
    """The graph and every flow or router inside it, each with its steps."""
    yield graph, children(graph)
    for step in every_step(graph):
        inner = children(step.body, step.path, step.function)
        if inner:
            yield step.body, inner
