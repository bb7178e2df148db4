"""The parts of a function's declaration: triggers, batches, builds, resources, names.

Unknown fields are kept. What Stoker acts on is typed and checked, so that a value that cannot be
acted on is refused when it is declared and not when it is used.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from stoker.nouns.quantity import parse_bytes, parse_duration
from stoker.nouns.rollout import canary_of
from stoker.nouns.stream_trigger import STREAM_KINDS, StreamTrigger, read_stream_trigger

RESERVED_NAMES = frozenset({"healthz", "readyz", "metrics", "invocations", "v1", "v2"})
"""First path segments of the data port that no function may take."""

ACTING_TRIGGERS = frozenset({"http", "cron", *STREAM_KINDS})
"""The kinds of trigger that do anything here."""

GPU_RESOURCE = "nvidia.com/gpu"
DEFAULT_ASYNC_CONNECTIONS = 1000

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_WHOLE = re.compile(r"[0-9]{1,18}")


def whole_number(value: Any, least: int = 0) -> int:
    """A whole number that a client may have sent as text.

    Raises:
        ValueError: it is none, or below ``least``.
    """
    text = str(value)
    if isinstance(value, bool) or not _WHOLE.fullmatch(text) or int(text) < least:
        raise ValueError(f"must be a whole number of {least} or more, was {value!r}")
    return int(text)


def _duration(value: Any) -> Any:
    if value is not None and value != "":
        parse_duration(value)
    return value


Duration = Annotated[str | int | float | None, AfterValidator(_duration)]


class Part(BaseModel):
    """Nuclio's spelling outside, Python's inside; unknown fields kept."""

    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
        alias_generator=AliasGenerator(alias=to_camel),
        coerce_numbers_to_str=True,
    )


class EnvVar(Part):
    """One environment variable; ``value_from`` (Kubernetes) is kept but not resolved here."""

    name: str = Field(min_length=1)
    value: str = ""

    @field_validator("value", mode="before")
    @classmethod
    def _null_is_empty(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return "true" if value else "false"
        return "" if value is None else value

    @field_validator("name", "value")
    @classmethod
    def _a_process_can_be_given_it(cls, text: str) -> str:
        if "\0" in text:
            # With a "was" of its own, so that a secret value is not repeated to whoever reads.
            raise ValueError("must not hold a NUL character: one was found")
        return text

    @field_validator("name")
    @classmethod
    def _name_has_no_equals(cls, name: str) -> str:
        if "=" in name:
            raise ValueError(f"must not hold '=', was {name!r}")
        return name


class Batch(Part):
    """Nuclio's batching of one trigger."""

    mode: Literal["enable", "disable"] = "disable"
    batch_size: int = Field(default=10, ge=1, le=10_000)
    timeout: Duration = "1s"


class AsyncMode(Part):
    """Connections of an ``async def`` handler: how many events one worker runs at once."""

    max_connections_number: int = Field(default=DEFAULT_ASYNC_CONNECTIONS, ge=1)
    min_connections_number: int = Field(default=1, ge=0)


class Trigger(Part):
    """One trigger.

    ``http``, ``cron`` and ``v3ioStream`` act; other kinds are kept and named in the deploy log.
    """

    kind: str = "http"
    num_workers: int | None = Field(default=None, ge=0, le=512)
    max_workers: int | None = Field(default=None, ge=0, le=512)
    worker_availability_timeout_milliseconds: int | None = Field(default=None, ge=0)
    worker_termination_timeout: Duration = None
    attributes: dict[str, Any] = Field(default_factory=dict)
    batch: Batch | None = None
    mode: str | None = None
    async_: AsyncMode | None = Field(default=None, alias="async")
    url: str | None = None
    explicit_ack_mode: str | None = None
    disabled: bool | None = None

    @field_validator("attributes", mode="before")
    @classmethod
    def _null_is_none_declared(cls, value: Any) -> Any:
        return {} if value is None else value

    @model_validator(mode="after")
    def _attributes_can_be_read(self) -> Trigger:
        if self.kind in STREAM_KINDS:
            self.stream("")
        size = self.attributes.get("maxRequestBodySize")
        if self.kind == "http" and size:
            try:
                whole_number(size, 1)
            except ValueError as exc:
                raise ValueError(f"attributes.maxRequestBodySize {exc}") from exc
        if self.kind == "cron":
            event = self.attributes.get("event") or {}
            headers = event.get("headers") if isinstance(event, dict) else None
            if not isinstance(event, dict) or not isinstance(headers or {}, dict):
                raise ValueError(
                    "attributes.event must be a mapping of body and headers, headers a mapping of "
                    f"text, was {event!r}"
                )
        return self

    @property
    def workers(self) -> int:
        """Workers per replica; ``numWorkers`` wins over the deprecated ``maxWorkers``."""
        return self.num_workers or self.max_workers or 1

    def stream(self, name: str) -> StreamTrigger:
        """The trigger as what reads a stream, when it is of such a kind.

        Raises:
            ValueError: an attribute cannot be read.
        """
        return read_stream_trigger(
            name, self.attributes, url=self.url or "", ack_mode=self.explicit_ack_mode
        )


class Build(Part):
    """Where the code comes from and what must be installed for it."""

    function_source_code: str | None = None
    code_entry_type: str | None = None
    path: str | None = None
    commands: list[str] = Field(default_factory=list)
    requirements: list[str] = Field(default_factory=list)

    @field_validator("commands", "requirements", mode="before")
    @classmethod
    def _null_is_empty(cls, value: Any) -> Any:
        return [] if value is None else value


class ScaleResource(Part):
    """One metric of Nuclio's scale to zero; the longest window counts."""

    metric_name: str = ""
    window_size: Duration = None
    threshold: float = 0


class ScaleToZero(Part):
    """Nuclio's ``scaleToZero`` block."""

    scale_resources: list[ScaleResource] = Field(default_factory=list)


class Resources(Part):
    """Kubernetes resources; ``nvidia.com/gpu`` and ``memory`` act here."""

    limits: dict[str, Any] = Field(default_factory=dict)
    requests: dict[str, Any] = Field(default_factory=dict)

    @field_validator("limits", "requests", mode="before")
    @classmethod
    def _null_is_empty(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("limits")
    @classmethod
    def _limits_can_be_read(cls, limits: dict[str, Any]) -> dict[str, Any]:
        try:
            whole_number(limits.get(GPU_RESOURCE) or 0)
        except ValueError as exc:
            raise ValueError(f'"{GPU_RESOURCE}" {exc}') from exc
        if limits.get("memory"):
            parse_bytes(limits["memory"])
        return limits


def _name(value: str) -> str:
    if len(value) > 63 or not _NAME.fullmatch(value):
        raise ValueError(
            "must be at most 63 of a-z, 0-9 and '-', starting and ending with a letter or digit, "
            f"was {value!r}"
        )
    if value in RESERVED_NAMES:
        raise ValueError(
            f"{value!r} is a reserved route of the data port; "
            f"reserved are {', '.join(sorted(RESERVED_NAMES))}"
        )
    return value


class Metadata(Part):
    """Name, namespace, labels, annotations."""

    name: Annotated[str, AfterValidator(_name)]
    namespace: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    @field_validator("labels", "annotations", mode="before")
    @classmethod
    def _null_is_empty(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("annotations")
    @classmethod
    def _canary_can_be_read(cls, value: dict[str, str]) -> dict[str, str]:
        canary_of(value)
        return value
