"""``stoker.gpu``: in one call what a GPU function declares, checked before anything is deployed."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from stoker.decide.ranks import misdealt, ranks_of
from stoker.nouns.errors import InvalidFunction
from stoker.nouns.function import FunctionConfig
from stoker.nouns.near import near_names
from stoker.nouns.parts import GPU_RESOURCE
from stoker.nouns.settings import ModelSettings
from stoker.nouns.stream_trigger import STREAM_KINDS
from stoker.sdk import dotted
from stoker.sdk.arguments import READERS
from stoker.sdk.holders import Edits, holder_of

F = TypeVar("F")
P = ParamSpec("P")

VARIABLES = {
    "model": "STOKER_MODEL",
    "task": "STOKER_TASK",
    "quantization": "STOKER_QUANTIZATION",
    "quantization_skip": "STOKER_QUANTIZATION_SKIP",
    "calibration": "STOKER_CALIBRATION",
    "prune": "STOKER_PRUNE",
    "distill": "STOKER_DISTILL",
    "distill_data": "STOKER_DISTILL_DATA",
    "distill_student": "STOKER_DISTILL_STUDENT",
    "dtype": "STOKER_DTYPE",
    "attention": "STOKER_ATTENTION",
    "device_map": "STOKER_DEVICE_MAP",
    "offload": "STOKER_OFFLOAD",
    "tensor_parallel": "STOKER_TENSOR_PARALLEL",
    "compile": "STOKER_COMPILE",
    "adapter": "STOKER_ADAPTER",
    "trust_remote_code": "STOKER_TRUST_REMOTE_CODE",
    "pickled_weights": "STOKER_PICKLED_WEIGHTS",
    "gpu_memory": "STOKER_GPU_MEMORY",
    "sleep_after": "STOKER_SLEEP_AFTER",
    "queue_limit": "STOKER_QUEUE_LIMIT",
}
"""What travels as a variable, because Nuclio's schema has no word for it."""

_ARGUMENTS = {
    "numWorkers": "workers",
    "batchSize": "batch",
    "windowSize": "scale_to_zero",
    "minReplicas": "min_replicas",
    "maxReplicas": "max_replicas",
    "eventTimeout": "timeout",
    "readinessTimeoutSeconds": "readiness_timeout",
    "workerAvailabilityTimeoutMilliseconds": "worker_timeout",
} | {variable: name for name, variable in VARIABLES.items()}
"""By which argument a field or variable is set, for messages."""

_CHECKED = (
    "env", "resources", "replicas", "minReplicas", "maxReplicas", "scaleToZero", "eventTimeout",
    "readinessTimeoutSeconds", "triggers",
)  # fmt: skip
_OF_HTTP = frozenset({"batch", "batch_timeout", "worker_timeout"})
"""Arguments that set something of an http trigger, which no other has."""
_METRIC = "processed_events"


def _named_right(declare: Callable[P, F]) -> Callable[P, F]:
    """Has a misspelt argument refused with the one that was meant."""
    known = list(inspect.signature(declare).parameters)

    @functools.wraps(declare)
    def checked(*held: P.args, **named: P.kwargs) -> F:
        for name in named.keys() - {*known}:
            near = near_names(name, known)
            meant = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
            raise TypeError(f"stoker.gpu has no argument {name!r}: {meant}")
        return declare(*held, **named)

    return checked


@_named_right
def gpu(
    function: F,
    *,
    workers: int | None = None,
    gpus: int | None = None,
    model: str | os.PathLike[str] | None = None,
    task: str | None = None,
    quantization: str | None = None,
    quantization_skip: str | Sequence[str] | None = None,
    calibration: str | os.PathLike[str] | None = None,
    prune: str | Sequence[str] | None = None,
    distill: str | None = None,
    distill_data: str | os.PathLike[str] | None = None,
    distill_student: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
    attention: str | None = None,
    device_map: str | Mapping[str, Any] | None = None,
    offload: str | None = None,
    tensor_parallel: int | None = None,
    compile: bool | None = None,  # noqa: A002 - it is torch's word, and the variable's
    adapter: str | Mapping[str, Any] | None = None,
    trust_remote_code: bool | None = None,
    pickled_weights: str | None = None,
    batch: int | Mapping[str, Any] | bool | None = None,
    batch_timeout: str | float | None = None,
    scale_to_zero: str | float | bool | None = None,
    min_replicas: int | None = None,
    max_replicas: int | None = None,
    timeout: str | float | None = None,
    worker_timeout: str | float | None = None,
    readiness_timeout: str | float | None = None,
    gpu_memory: str | int | None = None,
    sleep_after: str | float | None = None,
    queue_limit: int | None = None,
) -> F:
    """Declares on a function what it needs of the GPU, and how it scales.

    Sets nothing but plain fields of Nuclio's config and environment variables, so the same
    function deploys on Nuclio in a cluster. What is not named stays as it is: a second call
    changes only what it names. Durations are Go's ("60s", "5ms", "1m30s") or seconds.

    >>> spec = {"spec": {}}
    >>> gpu(spec, workers=2, gpus=1, quantization="int8")["spec"]["resources"]
    {'limits': {'nvidia.com/gpu': 1}}

    Args:
        function: an mlrun function of kind nuclio or serving, a `nuclio.ConfigSpec`, or a Nuclio
            config as a dict.
        workers: processes per replica, which share one copy of the weights. A multiple of
            ``gpus``, or a divisor of it. Of a function that only reads streams, of each stream.
        gpus: GPUs per replica; 0 is none.
        model: a folder, ``package://<module>/<path>``, or a name on the model hub.
        task: what the model does, by transformers' name.
        quantization: in which numbers the weights are kept: ``none``, ``bf16``, ``int8``, ``nf4``
            and others (docs/quantization.md).
        quantization_skip: modules that stay in the higher precision, names or patterns.
        calibration: a file of texts, for methods that calibrate.
        prune: what is taken out of the model: ``layers:4``, ``magnitude:0.3``, ``2:4``
            (docs/compression.md).
        distill: how what is left is taught by the original: ``features`` or ``soft-labels``.
        distill_data: the file of texts that it is taught on.
        distill_student: another model that is taught in its place.
        dtype: of the activations, and of what is not quantized.
        attention: the implementation; ``auto`` is the best that the device has.
        device_map: how the model is spread over a worker's devices: ``auto`` and accelerate's
            other names, or a dict from module to device.
        offload: where weights may go that do not fit: ``cpu`` or ``disk``.
        tensor_parallel: processes over which each layer is split, a card each: ``gpus`` must be
            ``workers`` times as many.
        compile: whether torch.compile is used.
        adapter: LoRA adapters, a dict from name to folder.
        trust_remote_code: whether Python that comes with the model may run.
        pickled_weights: the file of pickled weights that may be read.
        batch: requests in one batch, or ``{"size": 16, "timeout": "5ms"}``; False is no batching.
        batch_timeout: how long a batch waits for more; Nuclio's default is 1 s.
        scale_to_zero: idle time after which the function has no replica; True leaves the time to
            the platform; False keeps one replica.
        min_replicas: 0 lets it scale to zero; unless named, ``scale_to_zero`` sets it.
        max_replicas: mlrun's own default is 4.
        timeout: that one event may take.
        worker_timeout: that a request waits for a free worker.
        readiness_timeout: that a replica may take to start.
        gpu_memory: device memory of one worker ("2GiB"); without it that is estimated from the
            model, and a function without one has whole devices.
        sleep_after: idle time after which a replica leaves its devices and lives on, to be back in
            the time of a copy.
        queue_limit: requests that may wait in one gateway.

    Returns:
        The same function.

    Raises:
        InvalidFunction: something is wrong, and nothing was changed; ``detail["fields"]`` lists
            each argument with what it was and what it must be.
    """
    named = {
        name: value
        for name, value in locals().items()
        if name != "function" and value is not None
    }  # fmt: skip
    holder = holder_of(function)
    document = holder.document()
    values = _read(named)
    edits = _edits(document, values)
    _check(_edited(document, edits), values)
    holder.write(edits)
    return function


def _read(named: Mapping[str, Any]) -> dict[str, Any]:
    """Every argument as Nuclio has it.

    Raises:
        InvalidFunction: listing each that cannot be read.
    """
    values, wrong = {}, []
    for name, value in named.items():
        try:
            values[name] = READERS[name](value)
        except ValueError as error:
            wrong.append({"field": name, "message": str(error)})
    if wrong:
        raise _invalid(wrong)
    return values


def _edits(document: Mapping[str, Any], values: Mapping[str, Any]) -> Edits:
    edits = Edits(env={VARIABLES[name]: values[name] for name in VARIABLES if name in values})
    if values.keys() & {"workers", "batch", "batch_timeout", "worker_timeout"}:
        for name, trigger in _worked_triggers(document, values).items():
            edits.fields["spec", "triggers", name] = trigger | _trigger_edits(trigger, values)
    if "gpus" in values:
        edits.fields["spec", "resources"] = _resources(document, values["gpus"])
    edits.fields.update(_scaling(document, values))
    for name, key in (
        ("timeout", "eventTimeout"),
        ("readiness_timeout", "readinessTimeoutSeconds"),
    ):
        if name in values:
            edits.fields["spec", key] = values[name]
    return edits


def _worked_triggers(
    document: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The http trigger, else those that read streams, else a new one for http.

    None is added beside a stream: an MLRun graph that may be called by http as well acknowledges
    no record by itself, and one that fails would be lost.
    """
    triggers = dotted.get(document, ("spec", "triggers")) or {}
    for name, trigger in triggers.items():  # Nuclio allows no second
        if trigger.get("kind", "http") == "http":
            return {name: trigger}
    streams = {name: held for name, held in triggers.items() if held["kind"] in STREAM_KINDS}
    if streams and (lost := sorted(_OF_HTTP & values.keys())):
        message = (
            "has no effect on a function that only reads a stream: leave it out, or declare an "
            "http trigger too"
        )
        raise _invalid([{"field": name, "message": message} for name in lost])
    return streams or {"http": {"kind": "http", "name": "http", "numWorkers": 1}}


def _trigger_edits(trigger: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    if "workers" in values:
        # maxWorkers is numWorkers' old name, which mlrun's with_http() still writes.
        names = ("numWorkers", "maxWorkers") if "maxWorkers" in trigger else ("numWorkers",)
        changed |= dict.fromkeys(names, values["workers"])
    if "worker_timeout" in values:
        changed["workerAvailabilityTimeoutMilliseconds"] = values["worker_timeout"]
    if "batch" in values:
        changed["batch"] = (trigger.get("batch") or {}) | values["batch"]
    if "batch_timeout" in values:
        batch = changed.get("batch") or trigger.get("batch") or {}
        if batch.get("mode") != "enable":
            raise _wrong("batch_timeout", "has no batch to be for: name batch as well")
        changed["batch"] = batch | {"timeout": values["batch_timeout"]}
    return changed


def _resources(document: Mapping[str, Any], gpus: int) -> dict[str, Any]:
    resources = dict(dotted.get(document, ("spec", "resources")) or {})
    limits = dict(resources.get("limits") or {})
    limits.pop(GPU_RESOURCE, None)
    return resources | {"limits": limits | ({GPU_RESOURCE: gpus} if gpus else {})}


def _scaling(document: Mapping[str, Any], values: Mapping[str, Any]) -> dict[dotted.Path, Any]:
    fields: dict[dotted.Path, Any] = {}
    window, least = values.get("scale_to_zero"), values.get("min_replicas")
    if window is not None:
        if window is False and least == 0:
            raise _wrong("min_replicas", "must be 1 or more when scale_to_zero is False, was 0")
        if window is not False and least:
            raise _wrong("min_replicas", f"must be 0 for what scales to zero, was {least}")
        if least is None:
            declared = dotted.get(document, ("spec", "minReplicas")) or 0
            least = max(1, int(declared)) if window is False else 0
        if window is not True:
            resource = {"metricName": _METRIC, "windowSize": window, "threshold": 0}
            fields["spec", "scaleToZero"] = {"scaleResources": [resource]} if window else None
    if least is not None:
        fields["spec", "minReplicas"] = least
    if "max_replicas" in values:
        fields["spec", "maxReplicas"] = values["max_replicas"]
    if {("spec", "minReplicas"), ("spec", "maxReplicas")} & fields.keys():
        # A fixed number would win over both.
        fields["spec", "replicas"] = None
    return fields


def _edited(document: dict[str, Any], edits: Edits) -> dict[str, Any]:
    """The part of the config that is checked, as it will be."""
    for path, value in edits.fields.items():
        dotted.put(document, path, value)
    spec = document["spec"]
    env = {one["name"]: one["value"] for one in spec.get("env") or []} | edits.env
    spec["env"] = [{"name": name, "value": value} for name, value in env.items()]
    checked = {key: spec[key] for key in _CHECKED if key in spec}
    return {"metadata": {"name": "function"}, "spec": _without_none(checked)}


def _without_none(value: Any) -> Any:
    """Without what mlrun writes for "not given"."""
    if isinstance(value, dict):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    return value


def _check(document: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Raises `InvalidFunction`, in the words of the arguments."""
    wrong = _disordered(document["spec"])
    if not wrong:
        try:
            config = FunctionConfig.parse(document)
            ModelSettings.read(config.env)
        except InvalidFunction as error:
            wrong = [_in_arguments(one) for one in error.detail["fields"]]
        else:
            wrong = _undealt(config, values) or _unsplit(config, values)
    if wrong:
        raise _invalid(wrong)


def _disordered(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    least, most = spec.get("minReplicas"), spec.get("maxReplicas")
    if isinstance(least, int) and isinstance(most, int) and least > most > 0:
        message = f"must be max_replicas ({most}) or less, was {least}"
        return [{"field": "min_replicas", "message": message}]
    return []


def _undealt(config: FunctionConfig, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Workers that the cards cannot be dealt to evenly."""
    workers, gpus = config.workers, config.gpus
    if not values.keys() & {"workers", "gpus"} or _even(workers, gpus):
        return []
    below = next(n for n in range(workers, 0, -1) if _even(n, gpus))
    above = next(n for n in range(workers, workers + gpus + 1) if _even(n, gpus))
    message = (
        f"must be a multiple of gpus ({gpus}), so that each card has as many workers, or a divisor "
        f"of it, so that each worker has as many cards, was {workers}; {below} or {above} would do"
    )
    return [{"field": "workers", "message": message}]


def _unsplit(config: FunctionConfig, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Ranks that the cards do not suffice for, or of which some would stay idle."""
    if not values.keys() & {"workers", "gpus", "tensor_parallel"}:
        return []
    message = misdealt(ranks_of(config.env), config.workers, config.gpus)
    words = f"must leave a card to each process: {message}"
    return [{"field": "tensor_parallel", "message": words}] if message else []


def _even(workers: int, gpus: int) -> bool:
    return gpus == 0 or workers % gpus == 0 or gpus % workers == 0


def _in_arguments(found: Mapping[str, Any]) -> dict[str, Any]:
    last = str(found["field"]).rpartition(".")[2]
    message = str(found["message"]).replace("Input should be", "must be")
    return {"field": _ARGUMENTS.get(last, found["field"]), "message": message}


def _wrong(argument: str, message: str) -> InvalidFunction:
    return _invalid([{"field": argument, "message": message}])


def _invalid(fields: list[dict[str, Any]]) -> InvalidFunction:
    text = "; ".join(f"{one['field']} {one['message']}" for one in fields)
    return InvalidFunction(f"stoker.gpu: {text}", fields=fields)
