"""What a gateway counts, as plain data: written by gateways, merged and rendered elsewhere."""

from __future__ import annotations

from typing import NotRequired, TypedDict

STAGES = ("total", "queue", "wake", "batch", "handler")
"""Where a request's time goes. ``total``: from the last byte read to the answer handed to the
client's socket; ``queue``: waiting for a worker, in the gateway and in the worker's inbox;
``wake``: waiting while nothing was warm; ``batch``: waiting for the batch to fill; ``handler``."""

LATENCY_BOUNDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds of the latency buckets, seconds; one more bucket holds what is above."""

BATCH_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Upper bounds of the batch size buckets; one more bucket holds what is above."""


class HistogramSnapshot(TypedDict):
    """``counts`` per bucket (not cumulative), one longer than the bounds; ``sum`` of the values."""

    counts: list[int]
    sum: float


class StreamSnapshot(TypedDict):
    """One stream that a function reads, in one gateway.

    ``delivered``: tries of records; ``acked``: records done with; ``retried``: tries that failed
    and were not the last; ``dead``: records that were given up; ``lag``: records in the shards that
    this gateway reads which are not done with.
    """

    delivered: int
    acked: int
    retried: int
    dead: int
    lag: int


class FunctionSnapshot(TypedDict):
    """One function in one gateway.

    ``requests`` is keyed by ``"<status> <error code>"``, the error code empty where there was none;
    the status 499 stands for a client that left before its answer. ``streams`` is keyed by
    ``"<stream> <consumer group>"``.
    """

    requests: dict[str, int]
    stages: dict[str, HistogramSnapshot]
    batch: HistogramSnapshot
    cold_starts: int
    cold_requests: int
    waiting: int
    in_flight: int
    streams: NotRequired[dict[str, StreamSnapshot]]


class GatewaySnapshot(TypedDict):
    """One gateway: totals since it started, and how things stand now.

    ``refused`` counts answers that belong to no function, keyed like ``requests``.
    """

    functions: dict[str, FunctionSnapshot]
    refused: dict[str, int]
    connections: int
    store_failures: int
