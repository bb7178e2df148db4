"""Time as the router sees it, so that tests can turn it by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A callback that is due later."""

    def cancel(self) -> None:
        """Never call it."""


class Clock(Protocol):
    """CLOCK_MONOTONIC and timers on it."""

    def now(self) -> float:
        """CLOCK_MONOTONIC, seconds: the clock that deadlines on the wire are given in."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Calls ``callback`` once ``when`` has come."""


class LoopClock:
    """The clock of the running event loop.

    `time.monotonic` rather than ``loop.time``: uvloop's stands still during one turn of the loop
    and counts whole milliseconds, which is too coarse for a request of 100 µs.
    """

    __slots__ = ("_loop", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.now = time.monotonic

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """See `Clock`."""
        return self._loop.call_later(max(0.0, when - self.now()), callback)
