"""Counters of one gateway: plain integers, because every request passes them."""

from __future__ import annotations

from bisect import bisect_left

from stoker.nouns.metrics import (
    BATCH_BOUNDS,
    LATENCY_BOUNDS,
    FunctionSnapshot,
    GatewaySnapshot,
    HistogramSnapshot,
    StreamSnapshot,
)
from stoker.sdk.routing import Lane


class Histogram:
    """Counts per bucket, not cumulative."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def snapshot(self) -> HistogramSnapshot:
        """The counts so far."""
        return {"counts": list(self.counts), "sum": self.sum}


class StreamMeters:
    """What is counted about one stream that a function reads."""

    __slots__ = ("acked", "dead", "delivered", "lag", "retried")

    def __init__(self) -> None:
        self.delivered = 0
        self.acked = 0
        self.retried = 0
        self.dead = 0
        self.lag = 0

    def snapshot(self) -> StreamSnapshot:
        """The counts so far, and the lag now."""
        return {
            "delivered": self.delivered,
            "acked": self.acked,
            "retried": self.retried,
            "dead": self.dead,
            "lag": self.lag,
        }


class FunctionMeters:
    """What is counted about one function."""

    __slots__ = ("batch", "cold_requests", "handler", "in_batch", "queue", "requests", "streams",
                 "total", "wake")  # fmt: skip

    def __init__(self) -> None:
        self.requests: dict[tuple[int, str], int] = {}
        self.total = Histogram()
        self.queue = Histogram()
        self.wake = Histogram()
        self.in_batch = Histogram()
        self.handler = Histogram()
        self.batch = Histogram(BATCH_BOUNDS)
        self.cold_requests = 0
        self.streams: dict[tuple[str, str], StreamMeters] = {}

    def count(self, status: int, code: str, total_s: float) -> None:
        """One outcome."""
        key = (status, code)
        self.requests[key] = self.requests.get(key, 0) + 1
        self.total.add(total_s)

    def stream(self, name: str, group: str) -> StreamMeters:
        """The meters of a stream that it reads in a consumer group."""
        return self.streams.setdefault((name, group), StreamMeters())

    def snapshot(self, lane: Lane | None) -> FunctionSnapshot:
        """The counts so far, and how the lane stands."""
        return {
            "requests": _by_name(self.requests),
            "stages": {
                "total": self.total.snapshot(),
                "queue": self.queue.snapshot(),
                "wake": self.wake.snapshot(),
                "batch": self.in_batch.snapshot(),
                "handler": self.handler.snapshot(),
            },
            "batch": self.batch.snapshot(),
            "cold_starts": lane.cold_starts if lane else 0,
            "cold_requests": self.cold_requests,
            "waiting": len(lane.room) if lane else 0,
            "in_flight": lane.in_flight if lane else 0,
            "streams": {
                f"{name} {group}": m.snapshot() for (name, group), m in self.streams.items()
            },
        }


class Meters:
    """What a gateway counts. Single writer: its event loop."""

    __slots__ = ("functions", "refused", "store_failures")

    def __init__(self) -> None:
        self.functions: dict[str, FunctionMeters] = {}
        self.refused: dict[tuple[int, str], int] = {}
        self.store_failures = 0

    def of(self, function: str) -> FunctionMeters:
        """The meters of one function."""
        meters = self.functions.get(function)
        if meters is None:
            meters = self.functions[function] = FunctionMeters()
        return meters

    def refuse(self, status: int, code: str) -> None:
        """An answer that belongs to no function."""
        self.refused[status, code] = self.refused.get((status, code), 0) + 1

    def snapshot(self, lanes: dict[str, Lane], connections: int) -> GatewaySnapshot:
        """Everything, as the store and ``/metrics`` take it; functions that are gone, no more."""
        # Names come and go: a gateway that kept them all would grow, and report, for ever.
        self.functions = {name: self.of(name) for name in lanes}
        return {
            "functions": {n: m.snapshot(lanes[n]) for n, m in self.functions.items()},
            "refused": _by_name(self.refused),
            "connections": connections,
            "store_failures": self.store_failures,
        }


def _by_name(counts: dict[tuple[int, str], int]) -> dict[str, int]:
    return {f"{status} {code}": count for (status, code), count in counts.items()}
