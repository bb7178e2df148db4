"""Ends a worker whose handler holds on past its deadline, even if it holds the interpreter too."""

from __future__ import annotations

import faulthandler
import heapq
import signal
import time


class Guard:
    """One piece of work that must end in time."""

    __slots__ = ("kill_at", "released")

    def __init__(self, kill_at: float) -> None:
        self.kill_at = kill_at
        self.released = False

    def __lt__(self, other: Guard) -> bool:
        return self.kill_at < other.kill_at


class Watchdog:
    """Arms the kernel's timer for the earliest end among the work being done.

    When it fires, faulthandler writes every thread's traceback to the log from C, without the
    interpreter's lock, and the signal's default action then ends the process. Nothing in Python
    could do that to a handler stuck in native code. User code that takes SIGALRM for itself takes
    this protection away from itself.
    """

    def __init__(self, log_descriptor: int) -> None:
        self._guards: list[Guard] = []
        self._armed: float | None = None
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        faulthandler.register(signal.SIGALRM, file=log_descriptor, all_threads=True, chain=True)

    def guard(self, kill_at: float) -> Guard:
        """The process dies at ``kill_at`` (CLOCK_MONOTONIC seconds) unless released before."""
        guard = Guard(kill_at)
        heapq.heappush(self._guards, guard)
        self._arm()
        return guard

    def release(self, guard: Guard) -> None:
        """The work ended."""
        guard.released = True
        guards = self._guards
        while guards and guards[0].released:
            heapq.heappop(guards)
        self._arm()

    def _arm(self) -> None:
        wanted = self._guards[0].kill_at if self._guards else None
        if wanted == self._armed:
            return
        self._armed = wanted
        delay = 0.0 if wanted is None else max(1e-3, wanted - time.monotonic())
        signal.setitimer(signal.ITIMER_REAL, delay)
