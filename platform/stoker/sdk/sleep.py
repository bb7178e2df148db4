"""What in a worker can leave the device and come back, while its process lives on.

`load_model` registers what it loads. A function that holds something on the device by itself says
how it leaves and returns::

    from stoker.sdk import on_sleep

    on_sleep(sleep=lambda: engine.to("cpu"), wake=lambda: engine.to("cuda"))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Step = Callable[[], object]


class _Pair(NamedTuple):
    sleep: Step
    wake: Step


class Sleepers:
    """The registered pairs of one process, in the order of their registration."""

    def __init__(self) -> None:
        self._pairs: list[_Pair] = []

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def add(self, sleep: Step, wake: Step) -> None:
        """Registers a pair."""
        self._pairs.append(_Pair(sleep, wake))

    def sleep(self) -> None:
        """Takes everything off the device, the latest first. Raises what a step raises."""
        for pair in reversed(self._pairs):
            pair.sleep()

    def wake(self) -> None:
        """Brings everything back, the earliest first. Raises what a step raises."""
        for pair in self._pairs:
            pair.wake()


SLEEPERS = Sleepers()
"""This process's. Written by user code through `on_sleep`, run by the worker between requests."""


def on_sleep(*, sleep: Step, wake: Step) -> None:
    """Says how something of this function leaves the device, and how it comes back.

    Both run on the worker's own thread while it has no request. After ``wake`` the function must
    answer exactly as before ``sleep``. One that raises costs the worker: it is replaced.

    Args:
        sleep: gives the device's memory back.
        wake: takes it again.
    """
    SLEEPERS.add(sleep, wake)
