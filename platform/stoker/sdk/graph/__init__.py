"""Steps of mlrun's serving graphs that call functions of this home without HTTP.

Belongs here: subclasses of mlrun's remote steps that override where a request is sent, and the
rewriting of a graph's spec that puts them in place of mlrun's. Does not belong here: the routing
itself (`stoker.sdk.routing`), what mlrun's steps do besides sending, Redis.

Importing this package imports no mlrun: a controller rewrites specs, and only graph workers run
steps. The step classes are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from stoker.nouns.extras import install

if TYPE_CHECKING:
    from stoker.sdk.graph.failed import Failed
    from stoker.sdk.graph.steps import BatchHttpRequests, RemoteFunctionStep, RemoteStep

__all__ = ["BatchHttpRequests", "Failed", "RemoteFunctionStep", "RemoteStep"]

_HOME = "stoker.sdk.graph.steps"
_ELSEWHERE = {"Failed": "stoker.sdk.graph.failed"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = importlib.import_module(_ELSEWHERE.get(name, _HOME))
    except ModuleNotFoundError as exc:
        raise ImportError(
            f"{name} is a step of mlrun's graphs, and {exc.name} is not installed: "
            f"{install('mlrun')}"
        ) from exc
    value = getattr(home, name)
    globals()[name] = value
    return value
