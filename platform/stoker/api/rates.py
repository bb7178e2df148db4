"""Requests per second, from counters that only grow, looked at whenever somebody asks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

WINDOW_S = 10.0
"""Short enough to see a burst end, long enough not to flicker."""
_CLOSEST_S = 0.2
"""Two who ask at the same moment must not push the older samples out."""


class RateMeter:
    """Rates of growth over the last `WINDOW_S` seconds. Single writer: `observe`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, dict[str, int]]] = deque()

    def observe(self, totals: Mapping[str, int]) -> dict[str, float | None]:
        """Takes the totals of now; gives each name's rate, None until there is a second sample.

        A total that shrank (a gateway went away) counts as no growth.
        """
        now = self._clock()
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW_S:
            self._samples.popleft()
        rates = {name: self._rate(name, total, now) for name, total in totals.items()}
        if not self._samples or now - self._samples[-1][0] >= _CLOSEST_S:
            self._samples.append((now, dict(totals)))
        return rates

    def _rate(self, name: str, total: int, now: float) -> float | None:
        if not self._samples:
            return None
        then, totals = self._samples[0]
        if now - then < _CLOSEST_S:
            return None
        return max(0, total - totals.get(name, total)) / (now - then)
