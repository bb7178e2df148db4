"""MLRun's masks of secrets in triggers: its client puts them where a password stood after a deploy.

A function that is deployed again from the same object then carries them, and means the password
that it was deployed with before.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from stoker.api.mlrun.function_object import refuse

PREFIX = "$ref:"


def resolved(document: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """The Nuclio config with every reference in its triggers replaced by what stood there.

    Args:
        document: what is to be deployed.
        earlier: what the function was deployed with before.

    Raises:
        InvalidFunction: nothing stood there.
    """
    result = copy.deepcopy(dict(document))
    before = (earlier or {}).get("spec", {}).get("triggers") or {}
    for name, trigger in (result["spec"].get("triggers") or {}).items():
        if isinstance(trigger, dict):
            _resolve(trigger, before.get(name), f"spec.triggers.{name}")
    return result


def _resolve(part: dict[str, Any], before: Any, field: str) -> None:
    known = before if isinstance(before, Mapping) else {}
    for key, value in part.items():
        if isinstance(value, dict):
            _resolve(value, known.get(key), f"{field}.{key}")
        elif isinstance(value, str) and value.startswith(PREFIX):
            if not known.get(key) or str(known[key]).startswith(PREFIX):
                refuse(f"{field}.{key}", f"must be the value, was the reference {value!r}")
            part[key] = known[key]
