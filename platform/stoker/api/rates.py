"""Requests per second and the share that failed, from counters that only grow.

They are looked at whenever somebody asks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

WINDOW_S = 10.0
"""Short enough to see a burst end, long enough not to flicker."""
_CLOSEST_S = 0.2
"""Two who ask at the same moment must not push the older samples out."""


class Answers(NamedTuple):
    """How many answers a function gave, and how many of them were 5xx."""

    given: int = 0
    failed: int = 0


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


class ErrorMeter:
    """Which share of the answers were 5xx, over the window of a `RateMeter`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._given = RateMeter(clock)
        self._failed = RateMeter(clock)

    def observe(self, totals: Mapping[str, Answers]) -> dict[str, float | None]:
        """Takes the totals of now; gives each name's share, None where nothing was answered.

        Who looks first has no window yet, and is told the share of all answers there were: nothing
        would be shown else by what asks only once, as ``stoker ls`` does.
        """
        given = self._given.observe({name: one.given for name, one in totals.items()})
        failed = self._failed.observe({name: one.failed for name, one in totals.items()})
        return {
            name: _share(one.failed, one.given)
            if given[name] is None
            else _share(failed[name] or 0.0, given[name] or 0.0)
            for name, one in totals.items()
        }


def _share(failed: float, given: float) -> float | None:
    return min(1.0, failed / given) if given else None
