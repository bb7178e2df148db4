"""A store in memory, with what a gateway asks of it, and a switch to make it unreachable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fake_streams import FakeStreams
from stoker.nouns.errors import StoreUnavailable
from stoker.nouns.event import StoreEvent, Topic
from stoker.nouns.invocation import Invocation, InvocationState
from stoker.nouns.record import (
    Demand,
    FunctionRecord,
    FunctionState,
    ReplicaRecord,
    Revision,
    WorkerRecord,
)


class FakeStore(FakeStreams):
    def __init__(self) -> None:
        super().__init__()
        self.functions: dict[str, FunctionRecord] = {}
        self.replicas: dict[str, ReplicaRecord] = {}
        self.demand: dict[str, Demand] = {}
        self.reports: list[tuple[str, dict[str, Demand]]] = []
        self.metrics: dict[str, Any] = {}
        self.wakes: list[str] = []
        self.woken = asyncio.Event()
        self.available = True
        self.watchers: list[asyncio.Queue[StoreEvent]] = []
        self.invocations: dict[str, Invocation] = {}
        self.keys: dict[str, str] = {}
        self.queue: asyncio.Queue[str] = asyncio.Queue()

    def _reach(self) -> None:
        if not self.available:
            raise StoreUnavailable("Redis is away")

    def announce(self, topic: Topic, name: str = "") -> None:
        for events in self.watchers:
            events.put_nowait(StoreEvent(topic, name))

    async def watch(self) -> AsyncIterator[StoreEvent]:
        events: asyncio.Queue[StoreEvent] = asyncio.Queue()
        self.watchers.append(events)
        yield StoreEvent(Topic.RESYNC)
        while True:
            yield await events.get()

    async def list_functions(self) -> dict[str, FunctionRecord]:
        self._reach()
        return dict(self.functions)

    async def get_function(self, name: str) -> FunctionRecord | None:
        self._reach()
        return self.functions.get(name)

    async def list_replicas(self) -> dict[str, ReplicaRecord]:
        self._reach()
        return dict(self.replicas)

    async def get_replica(self, name: str) -> ReplicaRecord | None:
        self._reach()
        return self.replicas.get(name)

    async def report_demand(self, gateway: str, demand: Mapping[str, Demand]) -> None:
        self._reach()
        self.demand = dict(demand)
        self.reports.append((gateway, dict(demand)))

    async def report_metrics(self, gateway: str, snapshot: dict[str, Any]) -> None:
        self._reach()
        self.metrics[gateway] = snapshot

    async def ask_wake(self, function: str) -> None:
        self._reach()
        self.wakes.append(function)
        self.woken.set()

    async def add_invocation(
        self,
        invocation_id: str,
        function: str,
        request: dict[str, Any],
        body: bytes,
        *,
        idempotency_key: str | None,
    ) -> str:
        self._reach()
        if idempotency_key is not None:
            known = self.keys.setdefault(idempotency_key, invocation_id)
            if known != invocation_id:
                return known
        self.invocations[invocation_id] = Invocation(
            id=invocation_id, function=function, request=request, body=body
        )
        self.queue.put_nowait(invocation_id)
        return invocation_id

    async def claim_invocation(
        self, consumer: str, *, block_s: float, idle_s: float
    ) -> Invocation | None:
        self._reach()
        return self.invocations[await self.queue.get()]

    async def finish_invocation(
        self, invocation_id: str, status: int, headers: dict[str, str], body: bytes
    ) -> None:
        self.invocations[invocation_id] = self.invocations[invocation_id].model_copy(
            update={
                "state": InvocationState.FINISHED,
                "status": status,
                "headers": headers,
                "reply": body,
            }
        )

    async def get_invocation(self, invocation_id: str) -> Invocation | None:
        self._reach()
        return self.invocations.get(invocation_id)


def function(
    name: str = "echo",
    *,
    number: int = 1,
    state: FunctionState = FunctionState.READY,
    message: str = "",
    serving: bool = True,
    candidate: bool = False,
    env: dict[str, str] | None = None,
    spec: dict[str, Any] | None = None,
    trigger: dict[str, Any] | None = None,
    wake_p90_s: float | None = None,
) -> FunctionRecord:
    document = {
        "metadata": {"name": name},
        "spec": {
            **(spec or {}),
            "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
            "triggers": {"http": {"kind": "http", **(trigger or {})}},
        },
    }
    return FunctionRecord(
        name=name,
        state=state,
        message=message,
        serving=Revision(number=number, document=document) if serving else None,
        candidate=Revision(number=number + 1, document=document) if candidate else None,
        last_revision=number + candidate,
        wake_p90_s=wake_p90_s,
    )


def replica(
    name: str = "r1",
    *sockets: str,
    of: str = "echo",
    revision: int = 1,
    draining: bool = False,
) -> ReplicaRecord:
    workers = tuple(WorkerRecord(index=i, socket=path) for i, path in enumerate(sockets))
    return ReplicaRecord(
        id=name, function=of, revision=revision, workers=workers, draining=draining
    )
