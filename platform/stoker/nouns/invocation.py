"""A durable invocation: what ``Prefer: respond-async`` leaves behind."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class InvocationState(StrEnum):
    """Where a durable invocation stands."""

    QUEUED = "queued"
    """Nobody runs it yet."""
    RUNNING = "running"
    """A gateway has claimed it; another takes over when that one falls silent."""
    FINISHED = "finished"
    """The reply is kept, until the record's time to live ends."""


class Invocation(BaseModel):
    """One accepted request, run at least once, and its reply when there is one.

    Attributes:
        request: method, path and headers, as the gateway wants them back.
        body: the request's body.
        attempts: how often it has been claimed; above 1 an earlier run may have had effects.
        created_at: epoch seconds.
        finished_at: epoch seconds; 0 until finished.
        status: HTTP status of the reply; None until finished.
        headers: headers of the reply.
        reply: body of the reply.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    function: str
    state: InvocationState = InvocationState.QUEUED
    request: dict[str, Any] = Field(default_factory=dict)
    body: bytes = b""
    attempts: int = 0
    created_at: float = 0.0
    finished_at: float = 0.0
    status: int | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    reply: bytes = b""
