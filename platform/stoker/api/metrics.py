"""``/metrics``: the gateways' counters, and the controller's gauges beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.canary_metrics import canary_families
from stoker.api.overview import Snapshot, devices_of, phases
from stoker.nouns.record import Demand, FunctionRecord, FunctionState, Phase, ReplicaRecord
from stoker.sdk.metrics import CONTENT_TYPE, Snapshots, gateway_families
from stoker.store import Store


@dataclass(frozen=True, slots=True)
class Metrics:
    """The resource."""

    store: Store
    snapshot: Snapshot | None

    def routes(self) -> list[Route]:
        """Its route."""
        return [Route("/metrics", self.scrape, methods=["GET"])]

    async def scrape(self, _request: Request) -> Response:
        """The text exposition."""
        seen = Seen(
            gateways=cast("Snapshots", await self.store.read_metrics()),
            functions=await self.store.list_functions(),
            replicas=await self.store.list_replicas(),
            devices=devices_of(self.snapshot() if self.snapshot else {}),
            demand=await self.store.read_demand(),
        )
        registry = CollectorRegistry()
        registry.register(seen)
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE})


@dataclass(frozen=True, eq=False)
class Seen(Collector):
    """What one scrape shows, read before it is drawn: drawing must not wait for the store."""

    gateways: Snapshots
    functions: Mapping[str, FunctionRecord]
    replicas: Mapping[str, ReplicaRecord]
    devices: list[dict[str, Any]]
    demand: Mapping[str, Mapping[str, Demand]]

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client.registry.Collector`."""
        yield from gateway_families(self.gateways)
        yield self._functions()
        yield self._replicas()
        yield self._workers()
        yield from self._devices()
        yield from canary_families(self.functions, self.demand)

    def _functions(self) -> Metric:
        family = GaugeMetricFamily("stoker_functions", "Functions by state", labels=("state",))
        states = Counter(record.state for record in self.functions.values())
        for state in FunctionState:
            family.add_metric((state.value,), states[state])
        return family

    def _replicas(self) -> Metric:
        family = GaugeMetricFamily(
            "stoker_replicas", "Replicas by state", labels=("function", "state")
        )
        for name in sorted(self.functions):
            mine = [replica for replica in self.replicas.values() if replica.function == name]
            for phase, count in phases(mine).items():
                family.add_metric((name, phase), count)
        return family

    def _workers(self) -> Metric:
        family = GaugeMetricFamily(
            "stoker_workers", "Worker processes by state", labels=("function", "state")
        )
        counts = Counter(
            (replica.function, worker.phase)
            for replica in self.replicas.values()
            for worker in replica.workers
        )
        for name in sorted(self.functions):
            for phase in Phase:
                if phase.is_live:
                    family.add_metric((name, phase.value), counts[name, phase])
        return family

    def _devices(self) -> Iterator[Metric]:
        for fact, (name, meaning) in _OF_DEVICE.items():
            family = GaugeMetricFamily(name, meaning, labels=("device",))
            for device in self.devices:
                if device[fact] is not None:
                    family.add_metric((str(device["id"]),), device[fact])
            yield family
        yield self._device_names()

    def _device_names(self) -> Metric:
        labels = ("device", "name", "kind", "capability")
        family = GaugeMetricFamily("stoker_device_info", "What a device is", labels=labels)
        for device in self.devices:
            facts = (device["id"], device["name"], device["kind"], device["capability"] or "")
            family.add_metric(facts, 1)
        return family


_OF_DEVICE = {
    "total_bytes": ("stoker_device_bytes", "Memory of a device"),
    "promised_bytes": ("stoker_device_promised_bytes", "Memory given to replicas"),
    "foreign_bytes": ("stoker_device_foreign_bytes", "Memory that other programs hold"),
    "used_bytes": ("stoker_device_used_bytes", "Memory in use, measured"),
    "utilisation": ("stoker_device_utilisation", "Share of the time in which it computes"),
    "lost": ("stoker_device_lost", "1 while the device is not there"),
}
