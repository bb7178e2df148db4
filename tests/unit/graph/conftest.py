"""A graph in this process: mlrun's runtime, a gateway, workers that do as they are told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("mlrun")

import mlrun
import nuclio_sdk
from mlrun.serving.server import v2_serving_init
from nuclio_sdk.event import TriggerInfo

from fake_store import FakeStore, function, replica
from fake_worker import FakeWorker
from stoker.gateway import Gateway, GatewaySettings
from stoker.sdk.graph.rewrite import localized
from stoker.sdk.graph.targets import read_spec, targets
from stoker.store import Store
from stoker.worker import switchboard
from stoker.worker.calls import GatewayPlatform
from stoker.worker.event import make_event
from stoker.worker.neighbours import Neighbours
from stoker.worker.ticket import Ticket

BOUND_S = 20.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.mlrun)
            for warning in ("DeprecationWarning", "FutureWarning", "PendingDeprecationWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{warning}"))


class Silent:
    """A logger that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda message, *_, **__: self.lines.append(f"{name}: {message}")


class Caller:
    """The connection that a request came by, as far as its ticket looks at it."""

    def __init__(self) -> None:
        self.tickets: dict[int, Ticket] = {}


class Graph:
    """A graph that runs in this loop, as it would in a worker."""

    def __init__(self, context: nuclio_sdk.Context, logger: Silent) -> None:
        self.context = context
        self.logger = logger
        self.count = 0

    def ticket(self, deadline_s: float | None = BOUND_S) -> Ticket:
        self.count += 1
        deadline = None if deadline_s is None else time.monotonic() + deadline_s
        headers = {"content-type": "application/json", "host": "graph"}
        meta = {"id": f"q{self.count}", "method": "POST", "path": "/", "headers": headers}
        caller = cast(Any, Caller())
        return Ticket(caller, 1, cast(Any, {**meta, "deadline": deadline}), b"", 0.0, deadline)

    async def ask(
        self,
        body: Any = None,
        ticket: Ticket | None = None,
        path: str = "/",
        kind: str = "application/json",
    ) -> Any:
        """What the graph's handler returns: a nuclio Response, or an async generator."""
        ticket = ticket or self.ticket()
        headers = {**ticket.meta["headers"], "content-type": kind}
        meta = cast(Any, {**ticket.meta, "path": path, "headers": headers})
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        event = make_event(meta, data, self.context.trigger, ticket)
        loop = asyncio.get_running_loop()
        ticket.task = task = loop.create_task(self._handle(event))
        # As the worker's runner ends a request whose deadline has come.
        left_s = BOUND_S if ticket.deadline is None else ticket.deadline - time.monotonic()
        expiry = loop.call_later(left_s, ticket.expire)
        try:
            return await task
        except asyncio.CancelledError:
            if not ticket.ended:
                raise
            return nuclio_sdk.Response(status_code=408, body="the request ended")
        finally:
            expiry.cancel()

    async def _handle(self, event: Any) -> Any:
        result = self.context.mlrun_handler(self.context, event)
        return await result if asyncio.iscoroutine(result) else result

    async def end(self) -> None:
        async with asyncio.timeout(BOUND_S):
            outcome = self.context.platform._on_signal("termination")
            if outcome is not None:
                await outcome


class Stage:
    """A gateway on loopback, a store in memory, fake workers, and graphs that reach them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.store = FakeStore()
        self.monkeypatch = monkeypatch
        self.neighbours: list[Neighbours] = []
        self.workers: dict[str, FakeWorker] = {}
        self.graphs: list[Graph] = []
        self.gateway: Gateway | None = None
        self.key = ""

    async def start(self, key: str = "") -> None:
        async def connect(_url: str) -> FakeStore:
            return self.store

        async def close() -> None:
            return

        self.monkeypatch.setattr(switchboard.Store, "connect", connect)
        self.store.close = close  # type: ignore[attr-defined]
        self.key = key
        keys = frozenset({key} if key else ())
        settings = GatewaySettings(port=0, grace_s=0.0, api_keys=keys)
        self.gateway = Gateway(cast(Store, self.store), settings)
        await self.gateway.start()

    @property
    def url(self) -> str:
        assert self.gateway is not None
        return f"http://127.0.0.1:{self.gateway.port}"

    async def function(self, name: str = "p-echo", permits: int = 1, **record: Any) -> FakeWorker:
        """Deploys a function that one fake worker serves."""
        assert self.gateway is not None
        worker = await FakeWorker.start(str(self.folder / name), permits)
        self.workers[name] = worker
        self.store.functions[name] = function(name, **record)
        self.store.replicas[name] = replica(name, worker.path, of=name)
        router = self.gateway.router
        router.put_function(self.store.functions[name])
        router.put_replica(self.store.replicas[name])
        async with asyncio.timeout(BOUND_S):
            while router.lanes[name].warm < 1:
                await asyncio.sleep(0)
        return worker

    def reach(self) -> Neighbours:
        """As a worker has it."""
        count = len(self.neighbours)
        made = Neighbours("fake", f"w{count}", gateway_url=self.url, gateway_key=self.key)
        self.neighbours.append(made)
        return made

    async def run(
        self,
        build: Callable[[Any], Any],
        *,
        engine: str = "async",
        stock: bool = False,
        streaming: bool = False,
        namespace: dict[str, Any] | None = None,
    ) -> Graph:
        """Starts a graph: ``build`` gets the flow and adds its steps."""
        made = mlrun.new_function("graph", kind="serving", project="p", image="none")
        build(made.set_topology("flow", engine=engine))
        if streaming:
            made.set_streaming()
        spec = read_spec(made.serving_spec)
        spec = spec if stock else localized(spec)
        self.monkeypatch.setenv("SERVING_SPEC_ENV", json.dumps(spec))
        neighbours = self.reach()
        await neighbours.prepare(targets(spec))
        logger = Silent()
        context = nuclio_sdk.Context(
            logger=logger,
            platform=GatewayPlatform(neighbours, "p"),
            worker_id=0,
            trigger=TriggerInfo("http", "http"),
        )
        v2_serving_init(context, namespace or {})
        graph = Graph(context, logger)
        self.graphs.append(graph)
        return graph

    def told(self, reporter: str) -> dict[str, int]:
        """Calls in flight by function, as a reporter last told them."""
        reports = [demand for name, demand in self.store.reports if name == reporter]
        return {name: demand.in_flight for name, demand in reports[-1].items()} if reports else {}

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(BOUND_S):
            while not condition():
                await asyncio.sleep(0.001)

    async def close(self) -> None:
        for worker in self.workers.values():
            worker.release()
        for graph in self.graphs:
            await graph.end()
        for neighbours in self.neighbours:
            await neighbours.close()
        if self.gateway is not None:
            await self.gateway.stop()
        for worker in self.workers.values():
            await worker.stop()


@pytest.fixture
async def stage(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    monkeypatch.delenv("MLRUN_DBPATH", raising=False)
    made = Stage(tmp_path_factory.mktemp("g"), monkeypatch)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def keyed_stage(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    """With a gateway that asks for a key."""
    monkeypatch.delenv("MLRUN_DBPATH", raising=False)
    made = Stage(tmp_path_factory.mktemp("g"), monkeypatch)
    await made.start("sesame-42")
    yield made
    await made.close()
