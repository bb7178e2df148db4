"""CPU time of a set of processes: what a request costs, however busy the machine is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psutil


class Spent:
    """CPU seconds per group of processes since it was made."""

    def __init__(self, groups: Mapping[str, Sequence[psutil.Process]]) -> None:
        self._groups = groups
        self._start = self._now()

    def per_request(self, requests: int) -> dict[str, float]:
        """Microseconds per request, by group."""
        now = self._now()
        return {name: 1e6 * (now[name] - self._start[name]) / requests for name in now}

    def _now(self) -> dict[str, float]:
        return {name: sum(map(_seconds, group)) for name, group in self._groups.items()}


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
