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
LATELY_S = 180.0
"""Longer than a request waits for a wake by default, so that its 503 still belongs to it."""
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
    """Which share of the answers were 5xx, over the last `WINDOW_S`. Single writer: `observe`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, dict[str, Answers]]] = deque()

    def observe(
        self, totals: Mapping[str, Answers], idle_s: Mapping[str, float]
    ) -> dict[str, float | None]:
        """Takes the totals of now; gives each name's share, None where nothing was answered.

        Until somebody has looked for a whole window it is the share of all answers that there were:
        what asks only once, as ``stoker ls`` does, would be shown nothing else. Not of who had no
        request for `LATELY_S`: what failed long ago would look as if it failed now.

        Args:
            totals: by name.
            idle_s: seconds since each had its last request.
        """
        start = self._clock() - WINDOW_S
        while len(self._samples) > 1 and self._samples[1][0] <= start:
            self._samples.popleft()
        whole = bool(self._samples) and self._samples[0][0] <= start
        before = self._samples[0][1] if whole else {}
        watched = whole and self._samples[0][0] > start - WINDOW_S
        if not self._samples or start + WINDOW_S - self._samples[-1][0] >= _CLOSEST_S:
            self._samples.append((start + WINDOW_S, dict(totals)))
        return {
            name: _share(before.get(name, Answers()), one)
            if watched or idle_s[name] <= LATELY_S
            else None
            for name, one in totals.items()
        }


def _share(before: Answers, now: Answers) -> float | None:
    given = now.given - before.given
    return min(1.0, max(0, now.failed - before.failed) / given) if given > 0 else None
