"""Which step classes a graph runs here, in place of mlrun's."""

from __future__ import annotations

from typing import Any

_MLRUN = "mlrun.serving.remote"
_OURS = "stoker.sdk.graph"
REPLACED = {
    "$remote": f"{_OURS}.RemoteStep",
    f"{_MLRUN}.RemoteStep": f"{_OURS}.RemoteStep",
    f"{_MLRUN}.RemoteFunctionStep": f"{_OURS}.RemoteFunctionStep",
    f"{_MLRUN}.BatchHttpRequests": f"{_OURS}.BatchHttpRequests",
}
"""mlrun's class (or its shortcut) to the one that runs here. A class of the user's that inherits
from one of them stays what it is: it may override what ours overrides."""

BEGIN = f"{_OURS}.direct.begin"
"""Called by mlrun's runtime before it makes the steps, unless the user has an initializer."""
_NESTED = ("steps", "routes")


def localized(spec: dict[str, Any]) -> dict[str, Any]:
    """A serving spec whose remote steps know the functions that live here; ``spec`` stays as it is.

    Args:
        spec: what mlrun puts into ``SERVING_SPEC_ENV``, or its ``graph`` alone.

    >>> graph = {"kind": "flow", "steps": {"a": {"class_name": "$remote"}}}
    >>> localized({"graph": graph})["graph"]["steps"]["a"]["class_name"]
    'stoker.sdk.graph.RemoteStep'
    """
    graph = spec.get("graph")
    if not isinstance(graph, dict):
        return _step(spec)
    begin = spec.get("graph_initializer") or BEGIN
    return {**spec, "graph": _step(graph), "graph_initializer": begin}


def _step(step: dict[str, Any]) -> dict[str, Any]:
    """One step, and those inside it when it is a flow or a router."""
    changed = dict(step)
    class_name = step.get("class_name")
    if isinstance(class_name, str) and class_name in REPLACED:
        changed["class_name"] = REPLACED[class_name]
    for key in _NESTED:
        inner = step.get(key)
        if isinstance(inner, dict):
            changed[key] = {
                name: _step(child) if isinstance(child, dict) else child
                for name, child in inner.items()
            }
    return changed
