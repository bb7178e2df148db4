"""What MLRun's serving runtime is told in a function's environment: the graph, and its settings.

The same document as ``ServingRuntime._get_serving_spec`` of MLRun's client makes, from the function
object alone, with three differences: remote steps are Stoker's (they know the functions that live
here), secrets travel as variables of their own, and there is no model monitoring to report to.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stoker.api.mlrun.function_object import FunctionObject, mapping
from stoker.api.submit import Note
from stoker.sdk.graph.failures import telling_failures
from stoker.sdk.graph.rewrite import localized

SPEC_VARIABLE = "SERVING_SPEC_ENV"
SECRET_PREFIX = "MLRUN_K8S_SECRET__"  # noqa: S105  # a prefix of names, no secret
"""Before the name of a secret in the environment, where MLRun's runtime looks for it."""
LARGEST_PLAIN = 32 * 1024
"""Bytes of a spec from which on it is compressed: no program can be started by the function with a
variable over 128 KiB in its environment."""
WRAPPER = "mlrun.serving.serving_wrapper:handler"
"""MLRun's own handler, for a graph whose steps need no code of the user's."""
COMMIT_WAIT_S = 1
"""Seconds that a graph which consumes a stream may wait for more events before it says which ones
are done; whatever it has not said is repeated after a crash. MLRun's own default is 5."""

_STRIPPED = ("model_endpoint_creation_strategy", "endpoint_type")
_COPIED = (
    "load_mode",
    "graph_initializer",
    "error_stream",
    "default_content_type",
    "model_endpoint_creation_task_name",
    "streaming",
    "filename",
)
_STREAM_KINDS = frozenset({"v3ioStream", "kafka", "kafka-cluster"})


@dataclass(frozen=True, slots=True)
class Served:
    """A graph, ready to run.

    Attributes:
        variables: the environment that carries it.
        secrets: those among the names of ``variables`` whose values must not be shown.
        notes: what the user should know.
    """

    variables: dict[str, str]
    secrets: frozenset[str] = frozenset()
    notes: list[Note] = field(default_factory=list)


def served(function: FunctionObject, triggers: Mapping[str, Any]) -> Served:
    """The variables that make MLRun's runtime run the function's graph.

    Args:
        function: a serving function.
        triggers: its triggers, as Nuclio knows them.
    """
    notes: list[Note] = []
    spec = _spec(function)
    if spec["track_models"]:
        # Left on, the function would wait for model endpoints that nobody makes.
        spec["track_models"] = None
        spec["graph"].pop("track_models", None)
        notes.append(
            ("warn", "set_tracking(): there is no model monitoring here; it runs untracked")
        )
    if any(_kind(trigger) in _STREAM_KINDS for trigger in triggers.values()):
        spec["parameters"] = _prompt_commits(spec["parameters"])
        if _acknowledges(triggers):
            spec["graph"] = telling_failures(spec["graph"])
    sources, secrets, said = _secrets(function)
    notes += said
    if sources:
        spec["secret_sources"] = sources
    variables = secrets | {SPEC_VARIABLE: encoded(localized(spec))}
    return Served(variables, frozenset(secrets), notes)


def _spec(function: FunctionObject) -> dict[str, Any]:
    declared = function.spec
    spec: dict[str, Any] = {
        "function_name": function.name,
        "function_tag": function.tag,
        "function_uri": function.uri,
        "function_hash": function.metadata.get("hash"),
        "project": function.project,
        "version": "v2",
        "parameters": dict(mapping(declared, "parameters")),
        "graph": _without_endpoints(function.graph),
        "functions": _children(function),
        "track_models": declared.get("track_models"),
        **{key: declared.get(key) for key in _COPIED},
    }
    if declared.get("api_handler_config"):
        spec["api_handler_config"] = declared["api_handler_config"]
    return spec


def _children(function: FunctionObject) -> dict[str, str]:
    """Each child function's name to its URI."""
    tag = f":{function.tag}" if function.tag else ""
    return {
        str(reference["name"]): f"{function.project}/{function.name}-{reference['name']}{tag}"
        for reference in function.listed("function_refs")
        if reference.get("name")
    }


def _without_endpoints(value: Any) -> Any:
    """A graph less what its client needs only for model endpoints."""
    if not isinstance(value, dict):
        return value
    kept = {key: item for key, item in value.items() if key not in _STRIPPED}
    for key in ("steps", "routes"):
        if isinstance(kept.get(key), dict):
            kept[key] = {name: _without_endpoints(step) for name, step in kept[key].items()}
    return kept


def _acknowledges(triggers: Mapping[str, Any]) -> bool:
    """Whether the graph's runtime says itself which records are done: behind streams alone."""
    if any(_kind(trigger) in ("", "http") for trigger in triggers.values()):
        return False
    declared = [trigger for trigger in triggers.values() if _kind(trigger) in _STREAM_KINDS]
    return any(trigger.get("explicitAckMode") in ("enable", "explicitOnly") for trigger in declared)


def _kind(trigger: Any) -> str:
    return str(trigger.get("kind") or "") if isinstance(trigger, dict) else ""


def _prompt_commits(parameters: dict[str, Any]) -> dict[str, Any]:
    arguments = {"max_wait_before_commit": COMMIT_WAIT_S} | mapping(parameters, "source_args")
    return parameters | {"source_args": arguments}


def _secrets(
    function: FunctionObject,
) -> tuple[list[dict[str, Any]], dict[str, str], list[Note]]:
    """The sources as the runtime reads them, variables for their values, and notes.

    A value inside the spec would be shown wherever the spec is.
    """
    kept: list[dict[str, Any]] = []
    variables: dict[str, str] = {}
    notes: list[Note] = []
    names: list[str] = []
    for source in function.listed("secret_sources"):
        kind, values = source.get("kind"), source.get("source")
        if kind == "inline" and isinstance(values, dict):
            own = {f"{source.get('prefix') or ''}{name}": str(v) for name, v in values.items()}
            names += own
            variables |= {f"{SECRET_PREFIX}{name}": value for name, value in own.items()}
        elif kind == "kubernetes":
            kept.append(source)
        else:
            text = f"with_secrets({kind!r}): there is no such store here; it is left out"
            notes.append(("warn", text))
    if names:
        kept.append({"kind": "kubernetes", "source": names})
    return kept, variables, notes


def encoded(spec: dict[str, Any]) -> str:
    """The spec as MLRun's runtime reads it: JSON, or compressed when it is large."""
    text = json.dumps(spec)
    if len(text) <= LARGEST_PLAIN:
        return text
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
