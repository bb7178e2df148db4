"""Which functions a graph calls, read from its spec before any step exists."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from typing import Any

SPEC_VARIABLE = "SERVING_SPEC_ENV"
_OURS = "stoker.sdk.graph."


def read_spec(text: str) -> dict[str, Any]:
    """The serving spec in an environment variable: JSON, or mlrun's compressed form of it.

    Raises:
        ValueError: it is neither.
    """
    if not text.lstrip().startswith("{"):
        try:
            text = gzip.decompress(base64.b64decode(text)).decode()
        except (OSError, EOFError) as exc:
            raise ValueError(f"not a serving spec: {exc}") from exc
    spec: dict[str, Any] = json.loads(text)
    return spec


def full_name(uri: str, project: str = "") -> str | None:
    """The name under which a function of mlrun is deployed; None for what names none of ours.

    >>> full_name("shop/embed"), full_name("embed:v2", "shop"), full_name("https://a.example/b")
    ('shop-embed', 'shop-embed-v2', None)
    """
    if "://" in uri:
        return None
    owner, name, tag = _parts(uri, project)
    return _joined(owner, name, tag) if name and "@" not in name else None


def step_target(url: str, function_uri: str) -> str | None:
    """The function that a step's ``url`` names, seen from the graph ``function_uri``.

    >>> step_target(".child", "shop/graph"), step_target("embed", "shop/graph:v2")
    ('shop-graph-child', 'shop-embed')
    """
    project, graph, tag = _parts(function_uri, "")
    if url.startswith("."):
        return _joined(project, f"{graph}-{url[1:]}", tag)
    return full_name(url, project)


def _parts(uri: str, project: str) -> tuple[str, str, str]:
    """Project, name and tag of ``[project/]name[:tag]``."""
    owner, slash, rest = uri.partition("/")
    name, _, tag = (rest if slash else uri).partition(":")
    return owner if slash else project, name, tag


def _joined(project: str, name: str, tag: str) -> str:
    full = f"{project}-{name}" if project else name
    return full if tag in ("", "latest") else f"{full}-{tag}"


def targets(spec: dict[str, Any]) -> frozenset[str]:
    """Names of the functions that the remote steps of a localized spec call.

    Args:
        spec: as `stoker.sdk.graph.rewrite.localized` made it.
    """
    uri = spec.get("function_uri") or ""
    found = (_target(step, uri) for step in _remote_steps(spec.get("graph") or {}))
    return frozenset(name for name in found if name)


def _target(step: dict[str, Any], function_uri: str) -> str | None:
    arguments = step.get("class_args") or {}
    url, function = arguments.get("url"), arguments.get("fn")
    if isinstance(url, str) and url:
        return step_target(url, function_uri)
    if isinstance(function, str) and function:
        project = arguments.get("project_name") or function_uri.partition("/")[0]
        return full_name(function, project)
    return None


def _remote_steps(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    class_name = step.get("class_name")
    if isinstance(class_name, str) and class_name.startswith(_OURS):
        yield step
    for key in ("steps", "routes"):
        for child in (step.get(key) or {}).values():
            if isinstance(child, dict):
                yield from _remote_steps(child)
