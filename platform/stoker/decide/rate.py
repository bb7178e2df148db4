"""How often a function is asked for, forgetting slowly."""

from __future__ import annotations

import math
from dataclasses import dataclass

MEMORY_S = 600.0
"""After so many seconds an arrival counts 1/e: long enough to tell a function that is asked for
once in minutes from one that is asked for once in an hour."""
SILENCE = 2.0
"""Expected arrivals that may fail to come before silence counts as news: at a steady rate that
happens once in seven times, and a function that nobody asks for any more is known for it soon."""
YOUNGEST_S = 5.0
"""A function seen for less is taken to have been seen for so long: two requests a millisecond apart
are no two thousand a second."""


@dataclass(frozen=True, slots=True)
class ArrivalRate:
    """An exponentially decayed count of arrivals.

    Attributes:
        weight: arrivals, each worth less by its age, as of ``at``.
        at: seconds of the last arrivals that were counted.
        since: seconds since when arrivals are counted at all.
    """

    since: float
    weight: float = 0.0
    at: float = 0.0

    def after(self, arrivals: int, now: float) -> ArrivalRate:
        """With ``arrivals`` more, of now."""
        if arrivals <= 0:
            return self
        return ArrivalRate(self.since, self._decayed(now) + arrivals, now)

    def per_second(self, now: float) -> float:
        """Arrivals a second.

        What was seen for less than `MEMORY_S` is divided by what could be seen, so that a function
        that is new is not taken for a rare one.

        >>> rate = ArrivalRate(since=0.0).after(10, now=10.0)
        >>> round(rate.per_second(10.0), 2), round(rate.per_second(310.0), 4)
        (1.01, 0.0067)
        """
        seen = max(YOUNGEST_S, now - self.since)
        rate = self._decayed(now) / (MEMORY_S * -math.expm1(-seen / MEMORY_S))
        silent = now - self.at
        return min(rate, SILENCE / silent) if silent > 0 else rate

    def _decayed(self, now: float) -> float:
        return self.weight * math.exp(-max(0.0, now - self.at) / MEMORY_S)
