"""How long a worker that drains may take over what it has accepted."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import orjson


class Leaving:
    """The time that is left. A later word may shorten it and never lengthens it.

    Args:
        loop: the worker's.
        usual_s: the function's termination timeout, seconds.
        give_up: called once when the time is over.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, usual_s: float, give_up: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._usual_s = usual_s
        self._give_up = give_up
        self._by: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, drain: bytes = b"") -> None:
        """The worker drains; ``drain`` is the frame's payload, empty for the usual time."""
        within_s = self._usual_s
        if drain:
            told = orjson.loads(drain)["within_s"]
            within_s = math.inf if told is None else float(told)
        by = time.monotonic() + within_s
        if self._by is not None and by >= self._by:
            return
        self._by = by
        if self._timer is not None:
            self._timer.cancel()
        if by < math.inf:
            self._timer = self._loop.call_later(within_s, self._give_up)

    @property
    def hook_s(self) -> float:
        """Seconds that are left, but no more than usual; 0 while nothing was begun."""
        if self._by is None:
            return 0.0
        return min(self._usual_s, max(0.0, self._by - time.monotonic()))
