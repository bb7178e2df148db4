"""A function as its user declares it: Nuclio's ``nuclio.io/v1`` Function, checked and read.

Unknown fields are kept, never lost. What Stoker acts on is typed here and in
`stoker.nouns.parts`; the properties below are the only place that turns Nuclio's spelling
(`maxWorkers`, duration strings, …) into numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from stoker.nouns.errors import InvalidFunction
from stoker.nouns.parts import (
    GPU_RESOURCE,
    AsyncMode,
    Batch,
    Build,
    Duration,
    EnvVar,
    Metadata,
    Part,
    Resources,
    ScaleToZero,
    Trigger,
    whole_number,
)
from stoker.nouns.quantity import parse_bytes, parse_device_memory, parse_duration
from stoker.nouns.recording import RECORD_VARIABLE, check_recording
from stoker.nouns.rollout import CanarySpec, canary_of
from stoker.nouns.stream_trigger import (
    STREAM_KIND,
    STREAM_KINDS,
    AckMode,
    StreamTrigger,
    check_acknowledged_apart,
)

PROJECT_LABEL = "nuclio.io/project-name"
MLRUN_CLASS_LABEL = "mlrun/class"
DEFAULT_MAX_BODY_BYTES = 4 * 1024 * 1024
DEFAULT_WORKER_WAIT_S = 10.0
DEFAULT_READINESS_S = 120.0
DEFAULT_IDLE_WINDOW_S = 60.0
DEFAULT_QUEUE_LIMIT = 1024
GRAPH_VARIABLE = "SERVING_SPEC_ENV"
"""Where MLRun's serving runtime finds its graph: a function that has it runs one."""

_RUNTIME = re.compile(r"python(:3\.\d+)?")
_HANDLER = re.compile(r"[\w.\-]+:[A-Za-z_]\w*")
_READABLE_ENV: dict[str, Callable[[str], float]] = {
    "STOKER_QUEUE_LIMIT": lambda value: whole_number(value, 1),
    "STOKER_GPU_MEMORY": parse_device_memory,
    "STOKER_SLEEP_AFTER": parse_duration,
    RECORD_VARIABLE: check_recording,
}
"""Variables that the platform itself reads, and how."""


def _falsy_to_none(value: Any) -> Any:
    return value or None


class FunctionSpec(Part):
    """The ``spec`` of a function."""

    handler: str = "main:handler"
    runtime: str = "python"
    description: str = ""
    disable: bool = False
    env: list[EnvVar] = Field(default_factory=list)
    resources: Resources = Field(default_factory=Resources)
    replicas: int | None = Field(default=None, ge=0)
    min_replicas: int | None = Field(default=None, ge=0)
    max_replicas: int | None = Field(default=None, ge=0)
    scale_to_zero: Annotated[ScaleToZero | None, BeforeValidator(_falsy_to_none)] = None
    event_timeout: Duration = None
    readiness_timeout_seconds: int | None = Field(default=None, ge=0)
    triggers: dict[str, Trigger] = Field(default_factory=dict)
    build: Build = Field(default_factory=Build)

    @field_validator("env", mode="before")
    @classmethod
    def _null_is_no_env(cls, value: Any) -> Any:
        return [] if value is None else value

    @field_validator("env")
    @classmethod
    def _what_we_read_can_be_read(cls, env: list[EnvVar]) -> list[EnvVar]:
        for variable in env:
            read = _READABLE_ENV.get(variable.name)
            if read is not None and variable.value:
                try:
                    read(variable.value)
                except ValueError as exc:
                    raise ValueError(f"{variable.name} {exc}") from exc
        return env

    @field_validator("triggers", mode="before")
    @classmethod
    def _null_is_no_triggers(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("resources", "build", mode="before")
    @classmethod
    def _null_is_default(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("runtime")
    @classmethod
    def _known_runtime(cls, value: str) -> str:
        if not _RUNTIME.fullmatch(value or "python"):
            raise ValueError(
                f'must be "python" or "python:3.x" (Stoker runs Python functions), was {value!r}'
            )
        return value or "python"

    @field_validator("handler")
    @classmethod
    def _handler_names_a_function(cls, value: str) -> str:
        if value == "":
            return "main:handler"
        if ":" not in value:
            value = f"{value}:handler"
        if not _HANDLER.fullmatch(value):
            raise ValueError(f'must be "module:function" or "module.sub:function", was {value!r}')
        return value

    @model_validator(mode="after")
    def _replicas_are_ordered(self) -> FunctionSpec:
        low, high = self.min_replicas, self.max_replicas
        if low is not None and high is not None and high > 0 and low > high:
            raise ValueError(f"minReplicas must be <= maxReplicas, was {low} > {high}")
        if sum(1 for trigger in self.triggers.values() if trigger.kind == "http") > 1:
            raise ValueError("triggers: at most one may be of kind http")
        read = [
            (stream.stream, stream.group)
            for name, trigger in self.triggers.items()
            if trigger.kind in STREAM_KINDS
            for stream in (trigger.stream(name),)
        ]
        for place in set(read):
            if read.count(place) > 1:
                raise ValueError(
                    f"triggers: only one may read the stream {place[0]!r} in the consumer group "
                    f"{place[1]!r}, was {read.count(place)}"
                )
        return self


class FunctionConfig(Part):
    """A whole function: what ``function.yaml`` holds and the Nuclio dashboard API carries."""

    api_version: str = "nuclio.io/v1"
    kind: str = "Function"
    metadata: Metadata
    spec: FunctionSpec = Field(default_factory=FunctionSpec)

    @field_validator("kind")
    @classmethod
    def _kind_is_function(cls, value: str) -> str:
        if value not in ("Function", "NuclioFunction", ""):
            raise ValueError(f'must be "Function", was {value!r}')
        return "Function"

    @model_validator(mode="after")
    def _acknowledgements_are_told_apart(self) -> FunctionConfig:
        check_acknowledged_apart(self.stream_triggers.values())
        return self

    @classmethod
    def parse(cls, document: Any) -> FunctionConfig:
        """Checks a document read from YAML or JSON.

        Raises:
            InvalidFunction: naming every field that is wrong, what it was and what it must be.
        """
        if not isinstance(document, dict):
            raise InvalidFunction(
                "a function must be a mapping with metadata and spec, was "
                f"{type(document).__name__}",
                fields=[],
            )
        try:
            return cls.model_validate(document)
        except ValidationError as exc:
            fields = [_field_error(error) for error in exc.errors()]
            text = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
            raise InvalidFunction(f"invalid function: {text}", fields=fields) from exc

    def document(self) -> dict[str, Any]:
        """The function as a JSON document with Nuclio's spelling, unknown fields included."""
        return self.model_dump(by_alias=True, mode="json", exclude_unset=True)

    @property
    def name(self) -> str:
        """The function's name, the first path segment of its URL."""
        return self.metadata.name

    @property
    def project(self) -> str:
        """The project by Nuclio's label; ``default`` when there is none."""
        return self.metadata.labels.get(PROJECT_LABEL, "default")

    @property
    def is_mlruns(self) -> bool:
        """Whether MLRun deployed it: it labels its functions with their kind."""
        return MLRUN_CLASS_LABEL in self.metadata.labels

    @property
    def canary(self) -> CanarySpec | None:
        """How a revision of it is tried out before it serves; None: it is not."""
        return canary_of(self.metadata.annotations)

    @property
    def env(self) -> dict[str, str]:
        """The declared environment."""
        return {variable.name: variable.value for variable in self.spec.env}

    @property
    def http_trigger_name(self) -> str:
        """The http trigger's name; ``default-http`` when none is declared."""
        for name, trigger in self.spec.triggers.items():
            if trigger.kind == "http":
                return name
        return "default-http"

    @property
    def http_trigger(self) -> Trigger:
        """The http trigger; Nuclio adds one with a single worker when none is declared."""
        return self.spec.triggers.get(self.http_trigger_name) or Trigger()

    @property
    def declares_http(self) -> bool:
        """Whether it has an http trigger of its own, not only Nuclio's default one."""
        return any(trigger.kind == "http" for trigger in self.spec.triggers.values())

    @property
    def worker_trigger(self) -> tuple[str, str]:
        """Kind and name of the trigger that workers are told they stand behind.

        MLRun's serving runtime asks once, when it starts: behind a stream it answers nobody and
        acknowledges by itself. So a function is told of a stream only if it declares nothing else.
        """
        streams = self.stream_triggers
        if streams and not self.declares_http:
            return STREAM_KIND, next(iter(streams))
        return "http", self.http_trigger_name

    @property
    def workers(self) -> int:
        """Worker processes per replica."""
        return max(trigger.workers for trigger in self._with_workers)

    @property
    def _with_workers(self) -> list[Trigger]:
        """The triggers whose workers a replica has: http's, else those that read streams."""
        if self.declares_http:
            return [self.http_trigger]
        return [self.spec.triggers[name] for name in self.stream_triggers] or [self.http_trigger]

    @property
    def gpus(self) -> int:
        """GPUs per replica."""
        return int(self.spec.resources.limits.get(GPU_RESOURCE) or 0)

    @property
    def memory_limit_bytes(self) -> int | None:
        """``resources.limits.memory`` of one replica, in bytes; None is no limit."""
        limit = self.spec.resources.limits.get("memory")
        return parse_bytes(limit) if limit else None

    @property
    def batch(self) -> Batch | None:
        """The batching, when it is enabled."""
        batch = self.http_trigger.batch
        return batch if batch and batch.mode == "enable" else None

    @property
    def permits(self) -> int:
        """Requests that one worker may hold at once.

        One; with batching twice the batch size, so that the next batch is complete when this one
        finishes; with an async trigger, its connections.
        """
        if self.batch:
            return 2 * self.batch.batch_size
        trigger = self.http_trigger
        if trigger.mode == "async":
            return (trigger.async_ or AsyncMode()).max_connections_number
        return 1

    @property
    def min_replicas(self) -> int:
        """The least number of replicas; 0 lets the function scale to zero (the default is 1)."""
        if self.spec.min_replicas is not None:
            return self.spec.min_replicas
        if self.spec.replicas is not None:
            return self.spec.replicas
        return 1

    @property
    def max_replicas(self) -> int:
        """The greatest number of replicas: declared, else the larger of ``minReplicas`` and 1."""
        return max(self.spec.max_replicas or 0, self.min_replicas, 1)

    @property
    def sleep_after_s(self) -> float | None:
        """Seconds without demand after which a replica leaves its device but lives on.

        ``STOKER_SLEEP_AFTER``; None: it never sleeps, and goes to zero from warm.
        """
        declared = self.env.get("STOKER_SLEEP_AFTER")
        return parse_duration(declared) if declared else None

    @property
    def idle_window_s(self) -> float:
        """Seconds without demand after which a replica is surplus: the longest declared window."""
        resources = self.spec.scale_to_zero.scale_resources if self.spec.scale_to_zero else []
        windows = [parse_duration(r.window_size) for r in resources if r.window_size]
        return max(windows, default=DEFAULT_IDLE_WINDOW_S)

    @property
    def event_timeout_s(self) -> float | None:
        """Seconds one event may take; None is no limit."""
        return parse_duration(self.spec.event_timeout) if self.spec.event_timeout else None

    @property
    def worker_wait_s(self) -> float:
        """Seconds a request waits for a free worker before 503."""
        millis = self.http_trigger.worker_availability_timeout_milliseconds
        return millis / 1000 if millis else DEFAULT_WORKER_WAIT_S

    @property
    def readiness_s(self) -> float:
        """Seconds a replica may take from its start to ready."""
        return float(self.spec.readiness_timeout_seconds or DEFAULT_READINESS_S)

    @property
    def termination_s(self) -> float:
        """Seconds a draining worker may take to finish its work (Nuclio's default is 10)."""
        timeouts = [trigger.worker_termination_timeout for trigger in self._with_workers]
        return max((parse_duration(timeout) for timeout in timeouts if timeout), default=10.0)

    @property
    def patience_s(self) -> float:
        """Seconds that accepted work may take when its replica goes for the platform's sake."""
        return max(self.termination_s, self.event_timeout_s or 0.0)

    @property
    def max_body_bytes(self) -> int:
        """The largest request body, in bytes."""
        declared = self.http_trigger.attributes.get("maxRequestBodySize")
        return int(declared) if declared else DEFAULT_MAX_BODY_BYTES

    @property
    def queue_limit(self) -> int:
        """Requests that may wait for this function in one gateway: ``STOKER_QUEUE_LIMIT``."""
        return int(self.env.get("STOKER_QUEUE_LIMIT") or DEFAULT_QUEUE_LIMIT)

    @property
    def cron_triggers(self) -> dict[str, Trigger]:
        """The triggers of kind cron, by name."""
        return {n: t for n, t in self.spec.triggers.items() if t.kind == "cron"}

    @property
    def stream_triggers(self) -> dict[str, StreamTrigger]:
        """The enabled triggers that read streams, by name."""
        found = {
            name: trigger.stream(name)
            for name, trigger in self.spec.triggers.items()
            if trigger.kind in STREAM_KINDS and not trigger.disabled
        }
        if self.acks_graph_at_return:
            found = {name: replace(one, ack=AckMode.DISABLE) for name, one in found.items()}
        return found

    @property
    def acks_graph_at_return(self) -> bool:
        """Whether a graph's records are acknowledged when its handler returns, whatever it says.

        Told of its http trigger, MLRun's runtime never acknowledges a record by itself.
        """
        return self.declares_http and GRAPH_VARIABLE in self.env


def _field_error(error: Any) -> dict[str, Any]:
    where = ".".join(str(part) for part in error["loc"]) or "(whole)"
    message = str(error["msg"]).removeprefix("Value error, ")
    was = error.get("input")
    if "was " not in message and isinstance(was, (str, int, float, bool, type(None))):
        message = f"{message}, was {was!r}"
    return {"field": where, "message": message}
