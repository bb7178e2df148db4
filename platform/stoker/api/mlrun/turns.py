"""Turns: who changes the same thing waits for the other, so that a change is seen as a whole."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Turns:
    """A lock a name. One process serves the control port, so a lock of its own is enough."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    def of(self, *name: str) -> asyncio.Lock:
        """The lock of that name; it lives as long as somebody holds it or waits for it."""
        return self._locks.setdefault(name, asyncio.Lock())
