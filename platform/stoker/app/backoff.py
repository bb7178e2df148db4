"""How long to wait before a process of the platform is started again."""

from __future__ import annotations

from collections.abc import Sequence

WINDOW_S = 60.0
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 10.0


def delay_s(deaths: Sequence[float], *, now: float) -> float:
    """The first death in a while is answered at once; then the wait doubles, up to 10 s.

    Never given up: a platform without one of its processes is no platform, and what kept that one
    from running (a full disk, a Redis elsewhere) may pass.

    >>> delay_s([100.0], now=100.0), delay_s([99.0, 100.0], now=100.0)
    (0.0, 0.1)
    """
    recent = sum(1 for death in deaths if now - death <= WINDOW_S)
    if recent <= 1:
        return 0.0
    return float(min(FIRST_DELAY_S * 2 ** (recent - 2), LONGEST_DELAY_S))
