"""The error handler of last resort of a graph that reads a stream."""

from __future__ import annotations

from typing import Any


class Failed:
    """Does what MLRun does with an error that nobody handles, and has the record tried again."""

    def __init__(self, context: Any = None, name: str | None = None) -> None:
        self._context = context
        self.name = name

    async def do(self, event: Any) -> Any:
        """Logs the error, tells the graph's error stream, and says that the record failed."""
        error = event.error
        reason = f"{type(error).__name__}: {error}"
        source = getattr(event, "origin_state", "")
        self._context.logger.error(f"step {source} failed: {reason}")
        self._context.push_error(event, reason, source=source)
        platform = getattr(self._context, "platform", None)
        for original in getattr(event, "_original_events", None) or [event]:
            if platform is not None:
                await platform.record_failed(original, f"step {source}: {reason}")
        return event
