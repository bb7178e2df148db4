"""The platform at a glance: what ``stoker ls``, ``ps``, ``top`` and the dashboard page show."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from stoker.api import settle, submit
from stoker.api.function_logs import LogQuery, stream
from stoker.api.rates import Answers, ErrorMeter, RateMeter
from stoker.api.reply import Json
from stoker.api.settings import ApiSettings
from stoker.api.view import (
    KnownSecrets,
    canary_of,
    function_document,
    invocation_address,
    record_secrets,
)
from stoker.nouns.errors import BadRequest, StokerError
from stoker.nouns.home import Home
from stoker.nouns.record import (
    Demand,
    FunctionRecord,
    FunctionState,
    Phase,
    ReplicaRecord,
    WorkerRecord,
)
from stoker.nouns.recording import RecordingSpec
from stoker.nouns.secrecy import mask_text
from stoker.store import Store

Snapshot = Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Overview:
    """The resource ``/api/stoker``."""

    store: Store
    home: Home
    settings: ApiSettings
    snapshot: Snapshot | None = None
    meter: RateMeter = field(default_factory=RateMeter)
    errors: ErrorMeter = field(default_factory=ErrorMeter)

    def routes(self) -> list[Route]:
        """Its routes."""
        one = "/api/stoker/functions/{name}"
        return [
            Route("/api/stoker/top", self.top, methods=["GET"]),
            Route("/api/stoker/ps", self.ps, methods=["GET"]),
            Route(one + "/deployment", self.deployment, methods=["GET"]),
            Route(one + "/logs", self.logs, methods=["GET"]),
        ]

    async def top(self, _request: Request) -> Response:
        """Every function with its replicas, traffic and rates; the devices."""
        functions = await self.store.list_functions()
        replicas = await self.store.list_replicas()
        gateways = await self.store.read_demand()
        demand = {name: total_demand(gateways, name) for name in functions}
        rates = self.meter.observe({name: seen.arrivals for name, seen in demand.items()})
        metrics = await self.store.read_metrics()
        cold, answered = cold_starts(metrics), answers(metrics)
        failing = self.errors.observe(
            {name: answered.get(name, Answers()) for name in functions},
            {name: idle_s(seen) for name, seen in demand.items()},
        )
        facts = self.snapshot() if self.snapshot else {}
        rows = [
            self._row(record, replicas, demand[name], rates[name])
            | {"deviceBytes": held(facts, record, replicas)}
            | {"coldStarts": cold.get(name, 0), "errorShare": failing[name]}
            for name, record in sorted(functions.items())
        ]
        return Json(
            {
                "version": self.settings.version,
                "gateways": len(gateways),
                "functions": rows,
                "devices": devices_of(facts),
                "leading": bool(facts.get("leading")),
            }
        )

    async def ps(self, _request: Request) -> Response:
        """Every replica with its workers and their memory, in bytes."""
        replicas = sorted(
            (await self.store.list_replicas()).values(), key=lambda r: (r.function, r.created_at)
        )
        rows = await asyncio.to_thread(lambda: [_replica(replica) for replica in replicas])
        return Json({"replicas": rows})

    async def deployment(self, request: Request) -> Response:
        """The function as JSON lines, one at every change, until ``revision`` has settled."""
        name = request.path_params["name"]
        asked = request.query_params.get("revision", "0")
        if not asked.isdigit():
            raise BadRequest(f"revision must be a whole number, was {asked!r}")
        record = await submit.find(self.store, name)
        revision = int(asked) or record.last_revision
        return StreamingResponse(self._changes(name, revision), media_type="application/x-ndjson")

    async def logs(self, request: Request) -> Response:
        """All replicas' log lines, merged by time."""
        name = request.path_params["name"]
        record = await submit.find(self.store, name)
        query = LogQuery.of(request.query_params, follow=False)
        secrets = KnownSecrets(self.store, record, self.settings)
        lines = stream(self.home, name, query, secrets)
        return StreamingResponse(lines, media_type="application/x-ndjson")

    async def _changes(self, name: str, revision: int) -> Any:
        settled = settle.deployed(revision)
        changes = settle.records(self.store, name)
        try:
            async for record in changes:
                if record is None:
                    yield b'{"deleted":true}\n'
                    return
                done = await settled(record)
                document = function_document(record, self.settings) | {"settled": done}
                yield json.dumps(document).encode() + b"\n"
                if done:
                    return
        finally:
            await changes.aclose()

    def _row(
        self,
        record: FunctionRecord,
        replicas: Mapping[str, ReplicaRecord],
        demand: Demand,
        rate: float | None,
    ) -> dict[str, Any]:
        mine = [replica for replica in replicas.values() if replica.function == record.name]
        return {
            "name": record.name,
            "project": record.project,
            "state": record.state.value,
            "shownState": shown_state(record, mine),
            "message": mask_text(record.message, record_secrets(record)),
            "url": f"http://{invocation_address(record.name, self.settings)}",
            "revision": record.current.number,
            "servingRevision": record.serving.number if record.serving else None,
            "canary": canary_of(record),
            "replicas": phases(mine),
            "inFlight": demand.in_flight,
            "waiting": demand.waiting,
            "oldestWaitS": demand.oldest_wait_s,
            "requests": demand.arrivals,
            "ratePerS": rate,
            "lastActive": demand.last_active,
            "wakeP90S": record.wake_p90_s,
            "lastScaleEvent": record.last_scale_event,
            "lastScaleTime": record.last_scale_time,
            "updatedAt": record.updated_at,
        } | declared(record)


def declared(record: FunctionRecord) -> dict[str, Any]:
    """What is shown of its config. One that cannot be read hides no other function: it says so."""
    try:
        config = record.current.config
        recording = RecordingSpec.of(config.env)
    except (StokerError, ValueError) as error:
        nothing = dict.fromkeys(("minReplicas", "maxReplicas", "workersPerReplica", "gpus"), 0)
        message = mask_text(f"its config cannot be read: {error}", record_secrets(record))
        return nothing | {"recordedShare": None, "message": message}
    return {
        "minReplicas": config.min_replicas,
        "maxReplicas": config.max_replicas,
        "workersPerReplica": config.workers,
        "recordedShare": recording.share if recording else None,
        "gpus": config.gpus,
    }


def shown_state(record: FunctionRecord, replicas: list[ReplicaRecord]) -> str:
    """The state in a word for people: Nuclio has none for a function that sleeps."""
    asleep = any(replica.phase is Phase.ASLEEP for replica in replicas)
    at_zero = record.state is FunctionState.SCALED_TO_ZERO
    return Phase.ASLEEP.value if asleep and at_zero else record.state.value


def held(
    facts: Mapping[str, Any], record: FunctionRecord, replicas: Mapping[str, ReplicaRecord]
) -> int:
    """Bytes of all devices that the function's replicas hold, the contexts of sleepers as well.

    Of a replica that the controller does not know: what it was promised.
    """
    known = facts.get("functions", {}).get(record.name, {}).get("replicas", {})
    return sum(
        known[one.id]["held_bytes"]
        if one.id in known
        else (0 if one.phase is Phase.ASLEEP else one.device_bytes)
        for one in replicas.values()
        if one.function == record.name
    )


def phases(replicas: list[ReplicaRecord]) -> dict[str, int]:
    """How many of the replicas are in each live phase."""
    live = [replica.phase for replica in replicas]
    return {phase.value: live.count(phase) for phase in Phase if phase.is_live}


def total_demand(gateways: Mapping[str, Mapping[str, Demand]], name: str) -> Demand:
    """One function's traffic over all gateways."""
    seen = [demand[name] for demand in gateways.values() if name in demand]
    return Demand(
        in_flight=sum(demand.in_flight for demand in seen),
        waiting=sum(demand.waiting for demand in seen),
        oldest_wait_s=max((demand.oldest_wait_s for demand in seen), default=0.0),
        arrivals=sum(demand.arrivals for demand in seen),
        last_active=max((demand.last_active for demand in seen), default=0.0),
    )


def idle_s(demand: Demand) -> float:
    """Seconds since the last request; infinite where no gateway has seen one."""
    return time.time() - demand.last_active if demand.last_active else math.inf


_DEVICE_FACTS = (
    "name", "kind", "capability", "parent", "lost",
    "promised_bytes", "foreign_bytes", "used_bytes", "utilisation", "replicas",
)  # fmt: skip


def devices_of(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The controller's devices: what they are, and their bytes.

    ``promised_bytes`` are replicas', ``foreign_bytes`` other programs'; ``used_bytes`` is measured.
    """
    return [
        {"id": name, "total_bytes": device["capacity_bytes"]}
        | {fact: device[fact] for fact in _DEVICE_FACTS}
        for name, device in sorted(facts.get("devices", {}).items())
    ]


def cold_starts(gateways: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Wakes that somebody waited for, by function, since the gateways started."""
    found: dict[str, int] = {}
    for snapshot in gateways.values():
        for name, counts in snapshot.get("functions", {}).items():
            found[name] = found.get(name, 0) + int(counts.get("cold_starts", 0))
    return found


def answers(gateways: Mapping[str, Mapping[str, Any]]) -> dict[str, Answers]:
    """What each function has answered, since the gateways started."""
    found: dict[str, Answers] = {}
    for snapshot in gateways.values():
        for name, counts in snapshot.get("functions", {}).items():
            seen = found.get(name, Answers())
            by_status = counts.get("requests", {}).items()
            found[name] = Answers(
                seen.given + sum(count for _, count in by_status),
                seen.failed + sum(count for status, count in by_status if status[:1] == "5"),
            )
    return found


def _replica(replica: ReplicaRecord) -> dict[str, Any]:
    return {
        "id": replica.id,
        "function": replica.function,
        "revision": replica.revision,
        "phase": replica.phase.value,
        "devices": list(replica.devices),
        "deviceBytes": replica.device_bytes,
        "createdAt": replica.created_at,
        "workers": [_worker(worker) for worker in replica.workers],
    }


def _worker(worker: WorkerRecord) -> dict[str, Any]:
    rss, pss = _memory(worker.pid)
    return {
        "index": worker.index,
        "pid": worker.pid,
        "phase": worker.phase.value,
        "startedAt": worker.started_at,
        "devices": list(worker.devices),
        "rssBytes": rss,
        "pssBytes": pss,
    }


def _memory(pid: int) -> tuple[int | None, int | None]:
    """Resident and proportional set size; None where the process or the right to look is gone."""
    if pid <= 0:
        return None, None
    try:
        process = psutil.Process(pid)
        rss = int(process.memory_info().rss)
    except psutil.Error:
        return None, None
    try:
        return rss, int(process.memory_full_info().pss)
    except (psutil.Error, AttributeError):
        return rss, None
