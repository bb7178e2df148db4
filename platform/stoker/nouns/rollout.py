"""A canary: a new revision that proves itself on a share of the live traffic before it serves.

Declared with a deploy, as the annotation ``stoker.io/canary`` of the function's metadata (JSON), so
that real Nuclio takes the same document and ignores it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from stoker.nouns.recording import checked_path

CANARY_ANNOTATION = "stoker.io/canary"


class CanaryBounds(BaseModel):
    """What a canary may not cross; beyond one of these it is rolled back.

    Attributes:
        error_rate: share of its requests that may fail (5xx, 0 to 1) beyond the share that fails at
            the serving revision in the same time.
        latency_ratio: its 95th percentile of latency over the serving revision's; None: not judged.
        latency_margin_ms: milliseconds by which it may exceed the serving revision's all the same.
            The default is what a busy machine makes of two that are alike: of handlers that do next
            to nothing a ratio alone would judge the noise. No margin where the ratio is below 1.
        latency_ms: its 95th percentile, milliseconds; None: not judged.
        differing: share of mirrored requests (0 to 1) whose answers may differ; None: not judged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    error_rate: float = Field(default=0.01, ge=0, le=1)
    latency_ratio: float | None = Field(default=1.5, gt=0)
    latency_margin_ms: float = Field(default=5.0, ge=0)
    latency_ms: float | None = Field(default=None, gt=0)
    differing: float | None = Field(default=None, ge=0, le=1)


class CanarySpec(BaseModel):
    """How a new revision is tried out.

    Attributes:
        share: of the requests that it gets, above 0 and at most 1.
        length_s: seconds without a breach after which it is promoted.
        min_requests: none of its rates is judged before it has answered so many; a canary that has
            not answered them when its time is up waits for them.
        sticky: a request header; requests with the same value of it go to the same revision. Empty:
            each request is dealt by itself.
        mirror: share of the serving revision's requests (0 to 1) that are also sent to the canary,
            whose answers are compared and thrown away.
        tolerance: of that comparison (`stoker.decide.compare`): of numbers relative, of vectors 1
            minus the cosine. Another precision needs more than the default.
        ignore: paths into JSON answers that it leaves out (``id``, ``rows[*].time``).
        bounds: what it may not cross.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    share: float = Field(default=0.05, gt=0, le=1)
    length_s: float = Field(default=300.0, gt=0)
    min_requests: int = Field(default=50, ge=1)
    sticky: str = ""
    mirror: float = Field(default=0.0, ge=0, le=1)
    tolerance: float = Field(default=1e-6, ge=0)
    ignore: tuple[str, ...] = ()
    bounds: CanaryBounds = CanaryBounds()

    @field_validator("ignore")
    @classmethod
    def _are_paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(checked_path, value))


def canary_of(annotations: Mapping[str, str]) -> CanarySpec | None:
    """The canary that a function's annotations declare; None when there is none.

    Raises:
        ValueError: it is declared and cannot be read; says which field, and why.
    """
    declared = annotations.get(CANARY_ANNOTATION)
    if not declared:
        return None
    try:
        return CanarySpec.model_validate_json(declared)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in one['loc']) or 'the whole'}: {one['msg']}"
            for one in error.errors()
        )
        raise ValueError(
            f'{CANARY_ANNOTATION} must be JSON like {{"share": 0.05}}: {wrong}'
        ) from error


class Verb(StrEnum):
    """What a client may ask of a canary."""

    PROMOTE = "promote"
    ABORT = "abort"


class Asked(BaseModel):
    """That a client asked for the end of a canary: who, when (epoch seconds), and why."""

    model_config = ConfigDict(frozen=True)

    verb: Verb
    who: str
    at: float
    why: str = ""


class Step(StrEnum):
    """What may happen to a canary."""

    STARTED = "started"
    RESUMED = "resumed"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"


class RolloutEvent(BaseModel):
    """One step of a rollout, as its history keeps it.

    Attributes:
        step: what happened.
        revision: the canary's number.
        stable: the number of the revision that served beside it.
        at: epoch seconds.
        who: the client that asked for it, or ``stoker`` where the declared bounds did.
        why: for people.
        evidence: what was known then, as `stoker.decide.canary.shown` shows it.
    """

    model_config = ConfigDict(frozen=True)

    step: Step
    revision: int
    stable: int
    at: float
    who: str
    why: str
    evidence: dict[str, Any] = Field(default_factory=dict)
