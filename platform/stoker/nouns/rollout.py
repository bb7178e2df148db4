"""A canary: a new revision that proves itself on a share of the live traffic before it serves.

Declared with a deploy, as the annotation ``stoker.io/canary`` of the function's metadata (JSON), so
that real Nuclio takes the same document and ignores it.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

CANARY_ANNOTATION = "stoker.io/canary"


class CanaryBounds(BaseModel):
    """What a canary may not cross; beyond one of these it is rolled back.

    Attributes:
        error_rate: share of its requests that may fail (5xx, 0 to 1) beyond the share that fails at
            the serving revision in the same time.
        latency_ratio: its 95th percentile of latency over the serving revision's; None: not judged.
        latency_ms: its 95th percentile, milliseconds; None: not judged.
        differing: share of mirrored requests (0 to 1) whose answers may differ; None: not judged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    error_rate: float = Field(default=0.01, ge=0, le=1)
    latency_ratio: float | None = Field(default=1.5, gt=0)
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
        bounds: what it may not cross.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(default=0.05, gt=0, le=1)
    length_s: float = Field(default=300.0, gt=0)
    min_requests: int = Field(default=50, ge=1)
    sticky: str = ""
    mirror: float = Field(default=0.0, ge=0, le=1)
    bounds: CanaryBounds = CanaryBounds()
