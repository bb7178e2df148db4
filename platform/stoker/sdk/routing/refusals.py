"""What a call is told when it gets no answer, and when to try again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stoker.nouns.errors import (
    DeadlineExceeded,
    FunctionUnhealthy,
    NoCapacity,
    QueueFull,
    WorkerLost,
)
from stoker.nouns.record import FunctionRecord, FunctionState
from stoker.nouns.secrecy import mask_text, secret_values

if TYPE_CHECKING:
    from stoker.sdk.routing.lane import Lane

DEFAULT_WAKE_S = 5.0
"""``Retry-After`` of a function that has never been woken yet, seconds."""
BUSY_RETRY_S = 1.0
"""``Retry-After`` when workers are there, but all busy, seconds."""


def queue_full(lane: Lane) -> QueueFull:
    """The room is full."""
    retry = BUSY_RETRY_S if lane.warm else _wake_s(lane.record)
    waiting, limit = len(lane.room), lane.limits.queue_limit
    message = f"{waiting} requests wait for {lane.name} already; the limit is {limit}"
    return QueueFull(message, retry_after_s=retry)


def room_full(lane: Lane) -> QueueFull:
    """The bodies that wait already take all the memory that they may."""
    retry = BUSY_RETRY_S if lane.warm else _wake_s(lane.record)
    message = f"{lane.room.held} bytes of requests wait for {lane.name} already"
    return QueueFull(message, retry_after_s=retry)


def no_capacity(lane: Lane) -> NoCapacity:
    """It waited for too long: for a busy worker, or for a wake."""
    if lane.warm:
        waited = lane.limits.worker_wait_s
        message = f"all {lane.warm} workers of {lane.name} were busy for {waited:g} s"
        return NoCapacity(message, retry_after_s=BUSY_RETRY_S)
    message = f"{lane.name} did not become ready within {lane.limits.readiness_s:g} s"
    why = _obstacle(lane.record)
    return NoCapacity(f"{message}: {why}" if why else message, retry_after_s=_wake_s(lane.record))


def unhealthy(record: FunctionRecord) -> FunctionUnhealthy:
    """The function cannot start."""
    reason = _said(record) or "no reason was recorded"
    return FunctionUnhealthy(f"{record.name} cannot start: {reason}", state=record.state.value)


def disabled(record: FunctionRecord) -> FunctionUnhealthy:
    """Its user switched it off."""
    return FunctionUnhealthy(f"{record.name} is disabled", state=record.state.value)


def late() -> DeadlineExceeded:
    """The deadline has come."""
    return DeadlineExceeded("the deadline passed before there was an answer")


def lost(name: str) -> WorkerLost:
    """The worker died, and running the request again may do harm."""
    return WorkerLost(f"the worker of {name} died at this request")


def _obstacle(record: FunctionRecord) -> str:
    """What keeps it from zero, as the controller last wrote it; empty where it wrote nothing.

    Beside a candidate, the state and its message are the candidate's.
    """
    own = record.serving is None or record.candidate is None
    waits = own and record.state is FunctionState.SCALING_FROM_ZERO
    return _said(record) if waits else ""


def _said(record: FunctionRecord) -> str:
    # The reason may quote an exception, and an exception may quote a secret of the environment.
    secrets = [
        value
        for revision in record.revisions
        for value in secret_values(revision.document).values()
    ]
    return mask_text(record.message, secrets)


def _wake_s(record: FunctionRecord) -> float:
    return record.wake_p90_s or DEFAULT_WAKE_S
