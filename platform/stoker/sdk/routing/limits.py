"""The numbers of one revision that the hot path needs, read from its config once."""

from __future__ import annotations

from dataclasses import dataclass

from stoker.nouns.function import (
    DEFAULT_MAX_BODY_BYTES,
    DEFAULT_QUEUE_LIMIT,
    DEFAULT_READINESS_S,
    DEFAULT_WORKER_WAIT_S,
    FunctionConfig,
)
from stoker.nouns.model_name import is_trial, model_name


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a request.

    Attributes:
        event_timeout_s: the deadline of a request that brings none; None is no limit.
        worker_wait_s: the longest wait while workers are warm but busy.
        readiness_s: the longest wait while the function wakes.
        max_body_bytes: the largest request body.
        queue_limit: how many may wait at once.
        model: the model name that ``/v1`` and ``/v2`` route by, besides the function's name.
        serves_model: a model was declared, so the function is listed by ``/v1/models``; not one
            that is only there to be measured.
        disabled: its user switched it off: it answers nobody.
    """

    event_timeout_s: float | None = None
    worker_wait_s: float = DEFAULT_WORKER_WAIT_S
    readiness_s: float = DEFAULT_READINESS_S
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES
    queue_limit: int = DEFAULT_QUEUE_LIMIT
    model: str = ""
    serves_model: bool = False
    disabled: bool = False

    @classmethod
    def of(cls, config: FunctionConfig) -> Limits:
        """The limits that a config declares."""
        env = config.env
        model = model_name(config)
        return cls(
            event_timeout_s=config.event_timeout_s,
            worker_wait_s=config.worker_wait_s,
            readiness_s=config.readiness_s,
            max_body_bytes=config.max_body_bytes,
            queue_limit=config.queue_limit,
            model=model,
            serves_model=bool(model or env.get("STOKER_MODEL")) and not is_trial(config),
            disabled=config.spec.disable,
        )
