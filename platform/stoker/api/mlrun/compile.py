"""An MLRun function object to the Nuclio config that runs it, as MLRun's own server does it.

Pure: everything that is read from anywhere (secrets, files) comes in as an argument.
"""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stoker.api.mlrun import dotted_config
from stoker.api.mlrun.build_section import RUNTIME, build_section, code_entry, image_notes
from stoker.api.mlrun.environment import environment
from stoker.api.mlrun.function_object import LATEST, FunctionObject, mapping, refuse
from stoker.api.mlrun.queue_child import behind_its_queue
from stoker.api.mlrun.serving import WRAPPER, served
from stoker.api.mlrun.source_entry import Entry
from stoker.api.submit import Note
from stoker.nouns.function import MLRUN_CLASS_LABEL, PROJECT_LABEL
from stoker.nouns.stream_trigger import STREAM_KINDS

TAG_LABEL = "nuclio.io/tag"
CONNECTIONS = 256
"""Requests that one worker of an asynchronous graph holds at once, unless a trigger is declared. A
graph of remote steps only waits, so one process carries many."""

_CALLED_BY = frozenset({"http", *STREAM_KINDS})
"""Kinds of trigger of which a graph needs one of its own."""
_KEPT = {
    "description": "description",
    "resources": "resources",
    "readiness_timeout": "readinessTimeoutSeconds",
    "readiness_timeout_before_failure": "waitReadinessTimeoutBeforeFailure",
    "node_name": "nodeName",
    "node_selector": "nodeSelector",
    "affinity": "affinity",
    "tolerations": "tolerations",
    "preemption_mode": "preemptionMode",
    "priority_class_name": "priorityClassName",
    "service_account": "serviceAccount",
    "security_context": "securityContext",
    "image_pull_secret": "imagePullSecrets",
    "env_from": "envFrom",
    "service_type": "serviceType",
    "disable_default_http_trigger": "disableDefaultHTTPTrigger",
    "custom_scaling_metric_specs": "customScalingMetricSpecs",
}
"""MLRun's name of a field to Nuclio's; empty ones are left out."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What to deploy.

    Attributes:
        document: the Nuclio config.
        notes: lines for the deploy log: what was declared and has another effect here, or none.
    """

    document: dict[str, Any]
    notes: list[Note] = field(default_factory=list)


def compile_function(
    function: FunctionObject,
    *,
    secrets: Mapping[str, str] | None = None,
    builder_env: Mapping[str, str] | None = None,
) -> Compiled:
    """The Nuclio config of a function object.

    Args:
        function: the object.
        secrets: the project's.
        builder_env: what the deploy was given for its build; credentials are looked for here, then
            among the secrets.

    Raises:
        InvalidFunction: naming the field that cannot be deployed.
    """
    function.must_be_deployable()
    document = _configured(function)
    spec = document["spec"]
    entry = code_entry(function, spec, {**(secrets or {}), **(builder_env or {})})
    _set_declared(function, spec)
    declared, said = behind_its_queue(function, mapping(spec, "triggers"))
    triggers = _triggers(function, declared, entry)
    if triggers:
        spec["triggers"] = triggers
    graph = served(function, triggers) if function.is_serving else None
    spec["env"] = environment(function, spec.get("env"), secrets or {}, graph)
    spec["handler"] = entry.handler
    spec["runtime"] = str(function.spec.get("nuclio_runtime") or RUNTIME)
    spec["build"] = build_section(function, mapping(spec, "build"), entry)
    notes = [*entry.notes, *said, *(graph.notes if graph else []), *_replicas(function, spec)]
    return Compiled(document, notes + image_notes(function))


def _configured(function: FunctionObject) -> dict[str, Any]:
    """The config that the function was made from, its dotted keys applied, under its own names."""
    base = dotted_config.without_nulls(copy.deepcopy(mapping(function.spec, "base_spec")))
    whole = {"metadata": mapping(base, "metadata"), "spec": mapping(base, "spec")}
    dotted_config.apply(whole, mapping(function.spec, "config"))
    metadata, spec = mapping(whole, "metadata"), mapping(whole, "spec")
    labels = mapping(metadata, "labels") | mapping(function.metadata, "labels")
    labels = {key: str(value) for key, value in labels.items() if value is not None}
    labels |= {PROJECT_LABEL: function.project, MLRUN_CLASS_LABEL: function.kind}
    if function.tag and function.tag != LATEST:
        labels[TAG_LABEL] = function.tag
    annotations = mapping(metadata, "annotations") | mapping(function.metadata, "annotations")
    if annotations:
        metadata["annotations"] = {
            key: str(value) for key, value in annotations.items() if value is not None
        }
    return {
        "apiVersion": "nuclio.io/v1",
        "kind": "Function",
        "metadata": metadata | {"name": function.full_name, "labels": labels},
        "spec": spec,
    }


def _set_declared(function: FunctionObject, spec: dict[str, Any]) -> None:
    for theirs, ours in _KEPT.items():
        value = function.spec.get(theirs)
        if value not in (None, "", {}, []):
            spec[ours] = dotted_config.without_nulls(copy.deepcopy(value))
    volumes = _volumes(function)
    if volumes:
        spec["volumes"] = volumes


def _volumes(function: FunctionObject) -> list[dict[str, Any]]:
    """MLRun keeps volumes and their mounts apart, Nuclio in pairs."""
    volumes = {volume.get("name"): volume for volume in function.listed("volumes")}
    mounts = function.listed("volume_mounts")
    unknown = [str(mount.get("name")) for mount in mounts if mount.get("name") not in volumes]
    if unknown:
        refuse("spec.volume_mounts", f"names no volume of the function: {', '.join(unknown)}")
    return [{"volume": volumes[mount["name"]], "volumeMount": mount} for mount in mounts]


def _replicas(function: FunctionObject, spec: dict[str, Any]) -> list[Note]:
    """MLRun's own fields win over the dotted ones, as on its server; 0 is a number, not nothing."""
    notes: list[Note] = []
    declared = function.spec
    both = declared.get("replicas") or None
    for theirs, ours in (("min_replicas", "minReplicas"), ("max_replicas", "maxReplicas")):
        value = both if both is not None else declared.get(theirs)
        if value is None:
            continue
        if spec.get(ours, value) != value:
            text = (
                f"config spec.{ours} {spec[ours]!r} is not what counts, on a real MLRun either: "
                f"fn.spec.{theirs} is {value!r}"
            )
            notes.append(("warn", text))
        spec[ours] = value
    return notes


def _triggers(function: FunctionObject, triggers: dict[str, Any], entry: Entry) -> dict[str, Any]:
    # What reads a stream stays without one: its runtime would take itself for an http function's,
    # and never acknowledge a record.
    has_own = any(
        isinstance(t, dict) and t.get("kind", "http") in _CALLED_BY for t in triggers.values()
    )
    unwanted = has_own or function.spec.get("disable_default_http_trigger")
    overlaps = function.is_serving and function.graph.get("engine") == "async"
    if unwanted or not overlaps or not _awaits(entry):
        return triggers
    connections = {"maxConnectionsNumber": CONNECTIONS}
    return triggers | {
        "http": {"kind": "http", "numWorkers": 1, "mode": "async", "async": connections}
    }


def _awaits(entry: Entry) -> bool:
    """Whether the handler is MLRun's, or an ``async def``: clients before 1.8 sent a plain one."""
    if entry.handler == WRAPPER:
        return True
    code = base64.b64decode(entry.fields.get("functionSourceCode", "")).decode()
    name = re.escape(entry.handler.rpartition(":")[2])
    return re.search(rf"^async\s+def\s+{name}\b", code, re.MULTILINE) is not None
