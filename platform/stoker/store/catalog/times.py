"""Times: as text in MLRun's documents, as seconds since 1970 in the columns that are searched."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


def parsed(text: object) -> datetime | None:
    """The time that an ISO text or a datetime's ``str`` says; UTC when it names no zone.

    None for anything else: a document with a strange time is kept, only not found by it.
    """
    if not isinstance(text, str) or not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def at(epoch_s: float) -> datetime:
    """The time so many seconds after 1970 began, in UTC."""
    return datetime.fromtimestamp(epoch_s, UTC)


def epoch(text: object) -> float | None:
    """The same in seconds since 1970."""
    found = parsed(text)
    return None if found is None else found.timestamp()
