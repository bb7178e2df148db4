"""Stoker: a serverless GPU function platform on one box.

For notebooks: `stoker.local` starts a platform, `stoker.gpu` declares what a function needs of it,
`stoker.draw` draws a serving graph, `stoker.quantize` proves and redeploys a quantized model.

Importing this package must stay cheap and must not need mlrun or torch: what it offers is imported
when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from stoker.nouns.version import VERSION

if TYPE_CHECKING:
    from stoker.app.local import local
    from stoker.app.quantize import quantize
    from stoker.sdk.declare import gpu
    from stoker.sdk.picture.drawing import draw

__version__ = VERSION
__all__ = ["__version__", "draw", "gpu", "local", "quantize"]

_HOMES = {
    "draw": "stoker.sdk.picture.drawing",
    "gpu": "stoker.sdk.declare",
    "local": "stoker.app.local",
    "quantize": "stoker.app.quantize",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
