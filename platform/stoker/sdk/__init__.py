"""The SDK: all that ``functions/`` and ``graphs/`` may import, and the routing client.

Belongs here: what user code calls (`load_model`), and what gateways and graph workers share to
reach warm workers (`stoker.sdk.routing`). Does not belong here: Redis, HTTP servers, decisions.

Importing this package must stay cheap: every function does it on its way from zero. What it offers
is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stoker.sdk.model import load_model
    from stoker.sdk.sleep import on_sleep

__all__ = ["load_model", "on_sleep"]

_HOMES = {"load_model": "stoker.sdk.model", "on_sleep": "stoker.sdk.sleep"}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value
