"""An MLRun serving graph to the Nuclio config that runs it, as MLRun's own server does it.

The graph's file is plain MLRun: ``create(project)`` returns a serving function. What is deployed is
that file's source with MLRun's serving hooks below it, and the graph as JSON in an environment
variable, where MLRun's runtime looks for it.
"""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from stoker.nouns.errors import InvalidFunction
from stoker.nouns.function import PROJECT_LABEL, FunctionConfig

SPEC_VARIABLE = "SERVING_SPEC_ENV"
CONNECTIONS = 256
"""Requests that one graph worker holds at once, unless the graph says otherwise. A graph of remote
steps only waits, so one process carries many."""
FOOTER = """

import asyncio as _asyncio
import inspect as _inspect

from mlrun.runtimes import nuclio_init_hook as _nuclio_init_hook


def init_context(context):
    _nuclio_init_hook(context, globals(), "serving_v2")


async def handler(context, event):
    result = context.mlrun_handler(context, event)
    if _asyncio.iscoroutine(result):
        return await result
    if _inspect.isgenerator(result) or _inspect.isasyncgen(result):
        return context.Response(body=result)
    return result
"""
WITHOUT_API = {"MLRUN_DBPATH": ""}
"""A graph that is told of an MLRun API asks it for its settings before it starts, and fails if it
gets no answer. Stoker serves none today."""


def compile_graph(path: Path, project: str) -> dict[str, Any]:
    """The Nuclio config of the graph in a file.

    Args:
        path: a Python file with ``create(project)`` that returns an mlrun serving function.
        project: the project's name; the function's is ``<project>-<name>``.

    Raises:
        InvalidFunction: the file cannot be run, or what it creates cannot be deployed here.
        ModuleNotFoundError: mlrun is not installed.
    """
    from mlrun.runtimes.nuclio.serving import ServingRuntime

    function = _create(path, project)
    if not isinstance(function, ServingRuntime):
        kind = type(function).__name__
        raise _wrong(path, f"create() must return a serving function of mlrun, was {kind}")
    if function.spec.graph is None:
        raise _wrong(path, "the function has no graph: call set_topology() on it")
    spec = json.loads(function.serving_spec)
    _refuse_child_functions(path, spec["graph"])
    document = _document(path, project, function.to_dict(), spec)
    FunctionConfig.parse(document)
    return document


def _create(path: Path, project: str) -> Any:
    module = _load(path)
    create = getattr(module, "create", None)
    if not callable(create):
        raise _wrong(path, "must define create(project)")
    try:
        return create(project)
    except Exception as exc:
        raise _wrong(path, f"create({project!r}) raised {type(exc).__name__}: {exc}") from exc


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise _wrong(path, "is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as exc:
        raise _wrong(path, f"cannot be imported: {type(exc).__name__}: {exc}") from exc
    return module


def _refuse_child_functions(path: Path, graph: dict[str, Any]) -> None:
    """MLRun deploys a step's ``function=`` but, without a queue before it, never calls it."""
    for name, step in graph.get("steps", {}).items():
        if step.get("function"):
            raise _wrong(
                path,
                f"step {name!r} runs in the child function {step['function']!r}, which MLRun skips "
                "silently; use a RemoteStep that calls a function of the project",
            )


def _document(
    path: Path, project: str, function: dict[str, Any], serving: dict[str, Any]
) -> dict[str, Any]:
    metadata, declared = function["metadata"], function["spec"]
    labels = {**(metadata.get("labels") or {}), PROJECT_LABEL: project, "mlrun/class": "serving"}
    tag = metadata.get("tag") or "latest"
    name = f"{project}-{metadata['name']}" + ("" if tag == "latest" else f"-{tag}")
    spec: dict[str, Any] = {
        "handler": f"{path.stem}:handler",
        "runtime": "python:3.11",
        "description": declared.get("description") or "",
        "env": _environment(declared.get("env") or [], serving),
        "resources": declared.get("resources") or {},
        "build": _build(path, declared),
    }
    for theirs, ours in (("min_replicas", "minReplicas"), ("max_replicas", "maxReplicas")):
        if declared.get(theirs) is not None:
            spec[ours] = declared[theirs]
    document = {
        "apiVersion": "nuclio.io/v1",
        "kind": "Function",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }
    for dotted, value in (declared.get("config") or {}).items():
        _put(document, dotted.split("."), value)
    spec.setdefault("triggers", {"http": _trigger(serving["graph"])})
    return document


def _trigger(graph: dict[str, Any]) -> dict[str, Any]:
    trigger: dict[str, Any] = {"kind": "http", "numWorkers": 1}
    if graph.get("engine") == "async":
        trigger |= {"mode": "async", "async": {"maxConnectionsNumber": CONNECTIONS}}
    return trigger


def _environment(declared: list[dict[str, Any]], serving: dict[str, Any]) -> list[dict[str, Any]]:
    own = {variable["name"] for variable in declared}
    defaults = [{"name": n, "value": v} for n, v in WITHOUT_API.items() if n not in own]
    return [*defaults, *declared, {"name": SPEC_VARIABLE, "value": json.dumps(serving)}]


def _build(path: Path, declared: dict[str, Any]) -> dict[str, Any]:
    source = path.read_text(encoding="utf-8") + FOOTER
    build: dict[str, Any] = {"functionSourceCode": base64.b64encode(source.encode()).decode()}
    requirements = (declared.get("build") or {}).get("requirements")
    return build | ({"requirements": requirements} if requirements else {})


def _put(document: dict[str, Any], keys: list[str], value: Any) -> None:
    """MLRun keeps what Nuclio's schema has under dotted keys: ``spec.triggers.http``."""
    *parents, last = keys
    for key in parents:
        document = document.setdefault(key, {})
    document[last] = _without_none(value)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def _wrong(path: Path, message: str) -> InvalidFunction:
    return InvalidFunction(f"{path}: {message}", fields=[{"field": "graph", "message": message}])
