"""Dotted keys ("spec.triggers.http"): how MLRun and nuclio-jupyter keep parts of a Nuclio config.

A map of them is applied to a config in order, each replacing whatever stands at its place. From a
backslash to the next one dots belong to the name, as nuclio-jupyter reads it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

Path = tuple[str, ...]


def split(key: str) -> Path:
    r"""The names in a dotted key.

    >>> split("spec.triggers.http"), split(r"spec.limits.nvidia\.com/gpu")
    (('spec', 'triggers', 'http'), ('spec', 'limits', 'nvidia.com/gpu'))
    >>> split("metadata.labels.\\a.b/c\\.d")
    ('metadata', 'labels', 'a.b/c', 'd')
    """
    parts, current, escaped = [], "", False
    for char in key:
        if char == "." and not escaped:
            parts.append(current)
            current = ""
        elif char == "\\":
            escaped = not escaped
        else:
            current += char
    return (*parts, current)


def join(path: Sequence[str]) -> str:
    r"""The dotted key of names.

    >>> join(["spec", "limits", "nvidia.com/gpu"])
    'spec.limits.\\nvidia.com/gpu\\'
    """
    return ".".join(f"\\{part}\\" if "." in part else part for part in path)


def expanded(flat: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The nested config that a map of dotted keys makes, on top of ``base``; nothing is shared.

    >>> expanded({"spec.a": {"b": 1}, "spec.a.c": 2})
    {'spec': {'a': {'b': 1, 'c': 2}}}
    """
    nested: dict[str, Any] = copy.deepcopy(dict(base or {}))
    for key, value in flat.items():
        put(nested, split(key), copy.deepcopy(value))
    return nested


def put(nested: dict[str, Any], path: Path, value: Any) -> None:
    """Sets what stands at a path; what lies on the way and is no mapping is replaced by one."""
    *parents, last = path
    for name in parents:
        if not isinstance(nested.get(name), dict):
            nested[name] = {}
        nested = nested[name]
    nested[last] = value


def get(nested: Mapping[str, Any], path: Path) -> Any:
    """What stands at a path, or None."""
    found: Any = nested
    for name in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found


def drop(nested: dict[str, Any], path: Path) -> None:
    """Removes what stands at a path, if anything does."""
    *parents, last = path
    parent = get(nested, tuple(parents)) if parents else nested
    if isinstance(parent, dict):
        parent.pop(last, None)


def folded(flat: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """The map with ``value`` at ``path`` (None: with nothing there), everything else as it was.

    Keys that lie below the path go, because they would be applied after it and undo it. Where a
    shorter key holds the path, the value goes into a copy of what that key holds.

    >>> folded({"spec.triggers": {"http": {"a": 1}, "cron": {}}}, ("spec", "triggers", "http"), {})
    {'spec.triggers': {'http': {}, 'cron': {}}}
    """
    kept = {key: held for key, held in flat.items() if split(key)[: len(path)] != path}
    for key, held in reversed(kept.items()):
        above = split(key)
        if path[: len(above)] == above and isinstance(held, Mapping):
            inside = copy.deepcopy(dict(held))
            rest = path[len(above) :]
            drop(inside, rest) if value is None else put(inside, rest, value)
            return kept | {key: inside}
    return kept if value is None else kept | {join(path): value}
