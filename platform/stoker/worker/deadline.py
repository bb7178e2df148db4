"""Which deadline the code that runs now is under."""

from __future__ import annotations

from contextvars import ContextVar

DEADLINE: ContextVar[float | None] = ContextVar("stoker_deadline", default=None)
"""The deadline of the request being handled, CLOCK_MONOTONIC seconds."""
