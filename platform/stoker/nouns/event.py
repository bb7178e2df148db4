"""Changes that the store announces to whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Topic(StrEnum):
    """What changed."""

    RESYNC = "resync"
    """The watcher may have missed changes (start, or a loss of connection): read everything."""
    LOST = "lost"
    """The connection to the store is gone; a RESYNC follows when it is back."""
    FUNCTION = "function"
    """A function was written or deleted; ``name`` is its name."""
    REPLICA = "replica"
    """A replica was written or removed; ``name`` is its id."""
    WAKE = "wake"
    """A request waits and no worker is warm; ``name`` is the function."""


@dataclass(frozen=True, slots=True)
class StoreEvent:
    """One announced change. Level-triggered: on receipt, read the named thing."""

    topic: Topic
    name: str = ""
