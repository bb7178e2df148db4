"""A flow's source that lets each request carry its own event, where that changes nothing.

storey's source is a queue and one task that takes all events off it: two more tasks that an event
passes, and an answer that waits in a queue of its own. In a chain of steps that either never wait
or are ours, which do not hold up one another, the request's own task may as well go through the
steps. What it logs and calls then also belongs to its request, and its end ends it.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
from typing import Any

import storey
from storey.dtypes import _termination_obj
from storey.sources import FlowControllerBase

from stoker.sdk.graph.carry import Carried, carrying


def begin(server: Any) -> None:
    """Called by mlrun as its ``graph_initializer``: gives a flow of an HTTP trigger this source.

    Args:
        server: mlrun's ``GraphServer``, whose steps have not been made yet.
    """
    graph, context = server.graph, server.context
    flows = hasattr(graph, "set_flow_source") and getattr(graph, "engine", "") != "sync"
    if flows and server.http_trigger and not server.streaming and not context.is_mock:
        arguments = context.get_param("source_args", {})
        graph.set_flow_source(Source(context=context, **arguments))


class Source(storey.AsyncEmitSource):  # type: ignore[misc]  # storey is untyped
    """storey's own, until it is run on a chain that can do without its queue."""

    def run(self, visited: Any = None) -> Any:
        """Starts the flow; what feeds it."""
        if not _is_chain(self):
            return super().run(visited)
        self._closeables = storey.flow.Flow.run(self)
        _link_up(_reached(self, set()))
        return Controller(self, self._key_field)


class Controller(FlowControllerBase):  # type: ignore[misc]
    """Feeds a chain. Single writer of its state: the flow's event loop."""

    def __init__(self, source: Source, key_field: Any) -> None:
        super().__init__(key_field, None)
        self._source = source
        self._ended = False
        self._inside = 0
        self._left = asyncio.Event()
        self._result: Any = None

    async def emit(self, element: Any, key: Any = None, **_: Any) -> Any:
        """Takes an event through the flow; what its last step gave.

        Raises:
            Exception: what a step raised that no step handled.
            ValueError: the flow has ended.
        """
        if self._ended:
            raise ValueError("Cannot emit to a terminated flow")
        event = self._build_event(element, key)
        answer = event._awaitable_result = _Answer()
        event._original_events = [event]
        self._inside += 1
        try:
            with carrying():
                await self._source._do_downstream(event)
        finally:
            self._inside -= 1
            self._left.set()
        if not answer.given:
            # No step answers it: with storey's source its client would wait for ever too.
            await asyncio.get_running_loop().create_future()
        first = answer.given[0]
        if isinstance(first, BaseException):
            raise copy.copy(first)
        return first

    async def terminate(self, wait: bool = False) -> Any:
        """Ends the flow when those inside have left it; what its steps gave at the end."""
        self._ended = True
        while self._inside:
            self._left.clear()
            await self._left.wait()
        self._result = await self._source._do_downstream(_termination_obj)
        for closeable in self._source._closeables:
            outcome = closeable.close()
            if inspect.isawaitable(outcome):
                await outcome
        return self._result if wait else None

    async def await_termination(self) -> Any:
        """What the steps gave at the end."""
        return self._result


class _Answer:
    """What the flow says to an event, in the order in which it says it."""

    __slots__ = ("given",)

    def __init__(self) -> None:
        self.given: list[Any] = []

    def _set_result(self, element: Any) -> None:
        self.given.append(element)

    def _set_error(self, error: BaseException) -> None:
        self.given.append(error)


def _link_up(steps: set[Any]) -> None:
    """Remote steps that follow each other hand events on by themselves."""
    for step in steps:
        following = step._outlets[0] if step._outlets else None
        if isinstance(step, Carried) and isinstance(following, Carried):
            step.lead_to(following)


def _is_chain(source: Any) -> bool:
    """Whether the flow is one line of steps, each harmless, that ends in an answer."""
    step, line = source, []
    while len(step._outlets) == 1 and step not in line:
        line.append(step)
        step = step._outlets[0]
    return type(step) is storey.Complete and all(map(_is_harmless, _reached(source, set())))


def _reached(step: Any, seen: set[Any]) -> set[Any]:
    """All steps behind one, error handlers and what follows them included."""
    for other in (*step._outlets, *step._get_recovery_steps()):
        if other not in seen:
            seen.add(other)
            _reached(other, seen)
    return seen


def _is_harmless(step: Any) -> bool:
    """Whether two events may be in a step at once, as far as it would notice."""
    if len(step._outlets) > 1:
        return False
    if type(step) is storey.Map:
        function = step._fn
        waits = step._long_running or asyncio.iscoroutinefunction(function)
        return not waits and not inspect.isgeneratorfunction(getattr(function, "_fn", function))
    return type(step) is storey.Complete or (isinstance(step, Carried) and step.is_local())
