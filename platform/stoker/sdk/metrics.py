"""From the snapshots of all gateways to Prometheus metric families."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from stoker.nouns.metrics import (
    BATCH_BOUNDS,
    LATENCY_BOUNDS,
    STAGES,
    FunctionSnapshot,
    GatewaySnapshot,
    HistogramSnapshot,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""The media type of `render`'s text."""

Snapshots = Mapping[str, GatewaySnapshot]
"""By gateway id, as the store's ``read_metrics`` gives them."""


def gateway_families(snapshots: Snapshots) -> Iterator[Metric]:
    """The families of all gateways together, each sample with its ``gateway`` label."""
    yield _requests(snapshots)
    yield _refused(snapshots)
    yield _latency(snapshots)
    yield _batches(snapshots)
    yield _counter(snapshots, "stoker_cold_starts", "Wakes that somebody waited for", "cold_starts")
    yield _counter(
        snapshots, "stoker_cold_requests", "Requests that waited for a wake", "cold_requests"
    )
    yield _gauge(snapshots, "stoker_requests_waiting", "Requests in the waiting room", "waiting")
    yield _gauge(snapshots, "stoker_requests_in_flight", "Requests held by workers", "in_flight")
    yield from _streams(snapshots)
    yield from _gateways(snapshots)


def render(snapshots: Callable[[], Snapshots]) -> bytes:
    """The text exposition of the families."""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(snapshots))
    return generate_latest(registry)


class SnapshotCollector(Collector):
    """Reads snapshots when Prometheus asks, so that counting costs requests nothing more."""

    def __init__(self, snapshots: Callable[[], Snapshots]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client.registry.Collector`."""
        return gateway_families(self._snapshots())

    def describe(self) -> Iterable[Metric]:
        """No families before the first scrape: registering must not read the store."""
        return ()


def _functions(snapshots: Snapshots) -> Iterator[tuple[str, str, FunctionSnapshot]]:
    for gateway, snapshot in sorted(snapshots.items()):
        for function, counts in sorted(snapshot["functions"].items()):
            yield gateway, function, counts


def _requests(snapshots: Snapshots) -> Metric:
    family = CounterMetricFamily(
        "stoker_requests", "Answered requests", labels=("gateway", "function", "code", "error")
    )
    for gateway, function, counts in _functions(snapshots):
        for key, count in sorted(counts["requests"].items()):
            status, _, error = key.partition(" ")
            family.add_metric((gateway, function, status, error), count)
    return family


def _refused(snapshots: Snapshots) -> Metric:
    family = CounterMetricFamily(
        "stoker_refused", "Answers that belong to no function", labels=("gateway", "code", "error")
    )
    for gateway, snapshot in sorted(snapshots.items()):
        for key, count in sorted(snapshot["refused"].items()):
            status, _, error = key.partition(" ")
            family.add_metric((gateway, status, error), count)
    return family


def _latency(snapshots: Snapshots) -> Metric:
    family = HistogramMetricFamily(
        "stoker_request_seconds",
        "Time of a request by stage",
        labels=("gateway", "function", "stage"),
    )
    for gateway, function, counts in _functions(snapshots):
        for stage in STAGES:
            histogram = counts["stages"].get(stage)
            if histogram is not None:
                _add(family, (gateway, function, stage), LATENCY_BOUNDS, histogram)
    return family


def _batches(snapshots: Snapshots) -> Metric:
    family = HistogramMetricFamily(
        "stoker_batch_size", "Size of the batch a request ran in", labels=("gateway", "function")
    )
    for gateway, function, counts in _functions(snapshots):
        _add(family, (gateway, function), BATCH_BOUNDS, counts["batch"])
    return family


def _add(
    family: HistogramMetricFamily,
    labels: tuple[str, ...],
    bounds: Sequence[float],
    histogram: HistogramSnapshot,
) -> None:
    names = [*(str(bound) for bound in bounds), "+Inf"]
    cumulative = accumulate(histogram["counts"])
    buckets = [(name, float(count)) for name, count in zip(names, cumulative, strict=True)]
    family.add_metric(labels, buckets, sum_value=histogram["sum"])


def _counter(snapshots: Snapshots, name: str, text: str, field: str) -> Metric:
    family = CounterMetricFamily(name, text, labels=("gateway", "function"))
    for gateway, function, counts in _functions(snapshots):
        family.add_metric((gateway, function), float(counts[field]))  # type: ignore[literal-required]
    return family


def _gauge(snapshots: Snapshots, name: str, text: str, field: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=("gateway", "function"))
    for gateway, function, counts in _functions(snapshots):
        family.add_metric((gateway, function), float(counts[field]))  # type: ignore[literal-required]
    return family


_STREAM_COUNTERS = {
    "delivered": "Tries of records of streams",
    "acked": "Records of streams that are done with",
    "retried": "Tries of records that failed and were not the last",
    "dead": "Records that went to the dead letters",
}


def _streams(snapshots: Snapshots) -> Iterator[Metric]:
    labels = ("gateway", "function", "stream", "group")
    read = [
        ((gateway, function, *key.rsplit(" ", 1)), counts)
        for gateway, function, snapshot in _functions(snapshots)
        for key, counts in sorted(snapshot.get("streams", {}).items())
    ]
    for field, text in _STREAM_COUNTERS.items():
        family = CounterMetricFamily(f"stoker_stream_{field}", text, labels=labels)
        for place, counts in read:
            family.add_metric(place, float(counts[field]))  # type: ignore[literal-required]
        yield family
    lag = GaugeMetricFamily("stoker_stream_lag", "Records that are not done with", labels=labels)
    for place, counts in read:
        lag.add_metric(place, float(counts["lag"]))
    yield lag


def _gateways(snapshots: Snapshots) -> Iterator[Metric]:
    connections = GaugeMetricFamily(
        "stoker_gateway_connections", "Open client connections", labels=("gateway",)
    )
    failures = CounterMetricFamily(
        "stoker_gateway_store_failures", "Calls to the store that failed", labels=("gateway",)
    )
    for gateway, snapshot in sorted(snapshots.items()):
        connections.add_metric((gateway,), snapshot["connections"])
        failures.add_metric((gateway,), snapshot["store_failures"])
    yield connections
    yield failures
