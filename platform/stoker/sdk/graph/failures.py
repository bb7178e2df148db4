"""Has a graph that reads a stream say which records it could not do."""

from __future__ import annotations

from typing import Any

STEP = "stoker-failed"
CLASS = "stoker.sdk.graph.Failed"


def telling_failures(graph: dict[str, Any]) -> dict[str, Any]:
    """The graph with an error handler of last resort; ``graph`` stays as it is.

    MLRun's asynchronous engine takes a failed event for a handled one, and acknowledges it with
    those around it: nothing would ever be tried again. Graphs that handle their errors themselves
    stay as they are, and so do those that answer when all is done (the other engine, routers).

    >>> graph = {"kind": "root", "steps": {"a": {"handler": "f"}}}
    >>> telling_failures(graph)["on_error"], telling_failures({**graph, "engine": "sync"})
    ('stoker-failed', {'kind': 'root', 'steps': {'a': {'handler': 'f'}}, 'engine': 'sync'})
    """
    asynchronous = graph.get("kind") in ("root", "flow", "", None) and graph.get("engine") != "sync"
    if not asynchronous or graph.get("on_error") or STEP in (graph.get("steps") or {}):
        return graph
    step = {
        "kind": "error_step",
        "class_name": CLASS,
        "name": STEP,
        # In whichever function the graph's part runs.
        "function": "*",
        "full_event": True,
        "after": [],
        "before": [],
    }
    return {**graph, "steps": {**(graph.get("steps") or {}), STEP: step}, "on_error": STEP}
