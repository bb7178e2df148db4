"""Restarts: when a crashed worker is replaced, and when that is given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FIRST_DELAY_S = 0.1
GROWTH = 3.0
LONGEST_DELAY_S = 30.0
WINDOW_S = 300.0
GIVE_UP_AFTER = 5
"""Crashes in the window without a served request between them that make a crash loop."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the replacement ``delay_s`` seconds after the last crash, unless ``give_up``."""

    delay_s: float
    give_up: bool


def restart(crashes: Sequence[float], *, now: float, served_since_last: bool) -> Restart:
    """Decides over a replacement.

    The first is immediate: one crash is an accident, and its callers are waiting. From then on the
    delay grows threefold. A worker that served since the last crash is no loop, so it starts anew.

    Args:
        crashes: times of this function's crashes, oldest first, the present one last.
        now: the present time, in the same seconds.
        served_since_last: a request was answered between the previous crash and this one.
    """
    recent = [time for time in crashes if now - time <= WINDOW_S]
    if served_since_last or len(recent) <= 1:
        return Restart(0.0, give_up=False)
    delay = min(FIRST_DELAY_S * GROWTH ** (len(recent) - 2), LONGEST_DELAY_S)
    return Restart(delay, give_up=len(recent) >= GIVE_UP_AFTER)
