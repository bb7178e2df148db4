"""Projects, the invocation proxy, logs, health, metrics, rates, and a lost Redis."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from stoker.api import ApiSettings, build_app
from stoker.api.invocation import Invocations
from stoker.api.rates import Answers, ErrorMeter, RateMeter
from stoker.nouns.home import Home
from stoker.nouns.record import (
    Demand,
    FunctionRecord,
    FunctionState,
    Phase,
    ReplicaRecord,
    Revision,
    WorkerRecord,
)
from stoker.store import Store
from stoker.store.catalog import Catalog

MakeClient = Callable[..., httpx.AsyncClient]
Document = Callable[..., dict[str, Any]]


async def test_a_project_posted_without_spec_is_read_back_with_one(
    client: httpx.AsyncClient,
) -> None:
    reply = await client.post("/api/projects", json={"metadata": {"name": "shop"}})
    assert reply.status_code == 201
    for document in (
        reply.json(),
        (await client.get("/api/projects/shop")).json(),
        (await client.get("/api/projects/")).json()["shop"],
    ):
        assert document["metadata"]["name"] == "shop"
        assert document["spec"] == {}


async def test_a_project_lives(client: httpx.AsyncClient) -> None:
    body = {"metadata": {"name": "shop", "labels": {"a": "b"}}, "spec": {"description": "x"}}
    assert (await client.put("/api/projects/shop", json=body)).status_code == 404
    assert (await client.post("/api/projects", json=body)).status_code == 201
    assert (await client.post("/api/projects", json=body)).status_code == 409
    body["spec"] = {"description": "y"}
    assert (await client.put("/api/projects/shop", json=body)).status_code == 204
    body["metadata"] = {"name": "shop"}
    assert (await client.put("/api/projects", json=body)).status_code == 204
    found = (await client.get("/api/projects/shop")).json()
    assert found["spec"] == {"description": "y"}
    reply = await client.request("DELETE", "/api/projects", json={"metadata": {"name": "shop"}})
    assert reply.status_code == 204
    assert (await client.get("/api/projects/shop")).status_code == 404
    assert set((await client.get("/api/projects")).json()) == {"default"}


async def test_a_project_with_functions_is_deleted_only_on_purpose(
    client: httpx.AsyncClient, store: Store, function: Document
) -> None:
    await client.post("/api/functions", json=function())
    body = {"metadata": {"name": "shop"}}
    reply = await client.request("DELETE", "/api/projects/", json=body)
    assert reply.status_code == 412
    strategy = {"X-Nuclio-Delete-Project-Strategy": "cascading"}
    reply = await client.request("DELETE", "/api/projects/", json=body, headers=strategy)
    assert reply.status_code == 204
    assert await store.list_functions() == {}


@pytest.mark.parametrize("name", ["Bad_Name", "", "a" * 64, "../x"])
async def test_a_projects_name_is_checked(client: httpx.AsyncClient, name: str) -> None:
    reply = await client.post("/api/projects", json={"metadata": {"name": name}})
    assert reply.status_code == 400


async def test_the_rest_of_the_dashboard_answers_with_and_without_a_slash(
    client: httpx.AsyncClient,
) -> None:
    for slash in ("", "/"):
        versions = (await client.get(f"/api/versions{slash}")).json()
        assert versions["dashboard"]["label"] == "1.15.3"
        addresses = (await client.get(f"/api/external_ip_addresses{slash}")).json()
        assert addresses == {"externalIPAddresses": {"addresses": ["127.0.0.1"]}}
        for kind in ("api_gateways", "function_templates", "function_events"):
            assert (await client.get(f"/api/{kind}{slash}")).json() == {}
        assert (await client.get(f"/api/frontend_spec{slash}")).status_code == 200
        names = (await client.get(f"/api/namespaces{slash}")).json()
        assert names == {"namespaces": {"names": ["nuclio"]}}
    reply = await client.post("/api/api_gateways", json={"metadata": {"name": "x"}})
    assert reply.status_code == 501
    assert (await client.get("/api/api_gateways/x")).status_code == 404


async def test_unknown_routes_and_methods_wear_the_right_envelope(
    client: httpx.AsyncClient,
) -> None:
    reply = await client.get("/api/nothing")
    assert (reply.status_code, set(reply.json())) == (404, {"error", "errorStackTrace"})
    reply = await client.get("/nothing")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")
    reply = await client.delete("/metrics")
    assert (reply.status_code, reply.json()["error"]["code"]) == (405, "method_not_allowed")
    assert reply.headers["allow"]


async def test_an_unexpected_failure_tells_no_details(
    store: Store, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(store, "list_functions", broken)
    reply = await make_client().get("/api/functions")
    assert reply.status_code == 500
    assert "secret inside" not in reply.text


async def echo(request: Request) -> Response:
    body = {
        "method": request.method,
        "path": request.url.path,
        "query": request.url.query,
        "headers": dict(request.headers),
        "body": (await request.body()).decode(),
    }

    async def chunks() -> Any:
        yield json.dumps(body).encode()

    return StreamingResponse(chunks(), status_code=418, headers={"x-from": "function"})


@pytest.fixture
async def proxy(store: Store, catalog: Catalog, settings: ApiSettings, function: Document) -> Any:
    """The proxy in front of a data port that echoes."""
    methods = ["GET", "POST", "PUT", "DELETE", "PATCH"]
    data_port = httpx.ASGITransport(Starlette(routes=[Route("/{p:path}", echo, methods=methods)]))
    settings = settings.model_copy(update={"gateway_key": "data-key"})
    resource = Invocations(store, settings, transport=data_port)
    app = Starlette(routes=resource.routes())
    writer = httpx.AsyncClient(
        transport=httpx.ASGITransport(build_app(store, catalog, Home.at("/tmp/x"), settings)),
        base_url="http://localhost",
    )
    await writer.post("/api/functions", json=function())
    await writer.aclose()
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
    yield client
    await client.aclose()
    await resource.close()


async def test_an_invocation_is_passed_on_and_its_answer_back(proxy: httpx.AsyncClient) -> None:
    headers = {
        "X-Nuclio-Function-Name": "hello",
        "X-Nuclio-Path": "/some/path?x=1&y=a%20b",
        "X-Custom": "kept",
        "X-API-Key": "control-key",
        "Authorization": "Bearer control-key",
    }
    reply = await proxy.put("/api/function_invocations/", content=b"hi", headers=headers)
    assert reply.status_code == 418
    assert reply.headers["x-from"] == "function"
    seen = reply.json()
    assert (seen["method"], seen["path"], seen["body"]) == ("PUT", "/hello/some/path", "hi")
    assert seen["query"] == "x=1&y=a%20b"
    assert seen["headers"]["x-custom"] == "kept"
    assert seen["headers"]["x-api-key"] == "data-key"
    assert "control-key" not in json.dumps(seen)
    assert not [key for key in seen["headers"] if key.startswith("x-nuclio")]


@pytest.mark.usefixtures("proxy")
async def test_a_client_that_hangs_up_ends_its_call_of_the_function(
    store: Store, settings: ApiSettings
) -> None:
    """The function worked on for nobody, for as long as the call was allowed to take."""
    asked, ended = asyncio.Event(), asyncio.Event()

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            asked.set()
            try:
                return await asyncio.get_running_loop().create_future()
            finally:
                ended.set()

    body = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if body:
            return body.pop()
        await asked.wait()
        return {"type": "http.disconnect"}

    resource = Invocations(store, settings, transport=Slow())
    scope = {
        "type": "http", "method": "GET", "path": "/api/function_invocations", "query_string": b"",
        "headers": [(b"x-nuclio-function-name", b"hello")],
    }  # fmt: skip
    async with asyncio.timeout(10):
        with pytest.raises(ClientDisconnect):
            await resource.invoke(Request(scope, receive))
    assert ended.is_set()
    await resource.close()


async def test_an_invocation_needs_a_function(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/function_invocations")).status_code == 400
    headers = {"X-Nuclio-Function-Name": "nobody"}
    assert (await client.get("/api/function_invocations", headers=headers)).status_code == 404


async def test_an_unreachable_data_port_is_503(
    make_client: MakeClient, function: Document, unused_tcp_port: int
) -> None:
    client = make_client(gateway_url=f"http://127.0.0.1:{unused_tcp_port}")
    await client.post("/api/functions", json=function())
    reply = await client.get(
        "/api/function_invocations", headers={"X-Nuclio-Function-Name": "hello"}
    )
    assert reply.status_code == 503
    assert reply.headers["retry-after"] == "1"


def line(at: float, text: str) -> str:
    return json.dumps({"time": at, "level": "info", "message": text}) + "\n"


@pytest.fixture
async def logged(client: httpx.AsyncClient, home: Home, function: Document) -> httpx.AsyncClient:
    await client.post("/api/functions", json=function())
    folder = home.function_logs("hello")
    folder.mkdir(parents=True)
    now = time.time()
    (folder / "hello-a.0.log").write_text(line(now - 500, "one") + "raw \xff\n" + line(now, "four"))
    (folder / "hello-a.1.log").write_text(line(now - 400, "two"))
    (folder / "hello-b.0.log").write_text(line(now - 300, "three") + "unfinished")
    return client


def words(text: str) -> list[str]:
    return [json.loads(x)["message"] if x.startswith("{") else x for x in text.splitlines()]


async def test_logs_of_all_workers_are_merged_by_time(logged: httpx.AsyncClient) -> None:
    text = (await logged.get("/api/stoker/functions/hello/logs")).text
    assert words(text) == ["one", "raw \xff", "two", "three", "four"]


async def test_logs_are_cut_by_tail_and_since(logged: httpx.AsyncClient) -> None:
    path = "/api/stoker/functions/hello/logs"
    assert words((await logged.get(f"{path}?tailLines=2")).text) == ["three", "four"]
    assert words((await logged.get(f"{path}?since=350s")).text) == ["three", "four"]
    assert words((await logged.get(f"{path}?since=350s&tailLines=1")).text) == ["four"]
    assert (await logged.get(f"{path}?tailLines=0")).text == ""
    assert (await logged.get(f"{path}?since=yesterday")).status_code == 400
    assert (await logged.get(f"{path}?tailLines=x")).status_code == 400


async def test_one_replicas_log_is_its_own(logged: httpx.AsyncClient) -> None:
    reply = await logged.get("/api/functions/hello/logs/hello-b?follow=false")
    assert words(reply.text) == ["three"]
    assert reply.headers["content-type"].startswith("text/plain")
    reply = await logged.get("/api/functions/hello/logs/hello-c?follow=false")
    assert reply.status_code == 400


async def test_a_followed_log_goes_on_with_new_lines_and_new_workers(home: Home) -> None:
    from stoker.api.function_logs import LogQuery, stream

    folder = home.function_logs("hello")
    folder.mkdir(parents=True)
    (folder / "hello-a.0.log").write_text(line(1, "old"))

    async def none() -> set[str]:
        return set()

    lines = stream(home, "hello", LogQuery(follow=True), none)
    async with asyncio.timeout(10):
        assert words((await anext(lines)).decode()) == ["old"]
        with (folder / "hello-a.0.log").open("a") as file:
            file.write(line(2, "new"))
        assert words((await anext(lines)).decode()) == ["new"]
        (folder / "hello-b.0.log").write_text(line(3, "another"))
        assert words((await anext(lines)).decode()) == ["another"]
    await lines.aclose()  # type: ignore[attr-defined]


async def test_a_followed_log_masks_the_secret_of_a_revision_that_came_meanwhile(
    store: Store, home: Home, settings: ApiSettings
) -> None:
    from stoker.api.function_logs import LogQuery, stream
    from stoker.api.view import KnownSecrets

    def with_key(number: int, value: str) -> FunctionRecord:
        env = [{"name": "API_KEY", "value": value}]
        document = {"metadata": {"name": "hello"}, "spec": {"env": env}}
        return FunctionRecord(name="hello", serving=Revision(number=number, document=document))

    first = with_key(1, "earliest")
    await store.put_function(first)
    log = home.function_logs("hello") / "hello-a.0.log"
    log.parent.mkdir(parents=True)
    log.write_text(line(1, "with earliest"))
    lines = stream(home, "hello", LogQuery(follow=True), KnownSecrets(store, first, settings))
    async with asyncio.timeout(10):
        assert words((await anext(lines)).decode()) == ["with ********"]
        await store.put_function(with_key(2, "newest"))
        log.write_text(log.read_text() + line(2, "newest, not earliest"))
        assert words((await anext(lines)).decode()) == ["********, not ********"]
    await lines.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["/api/streams/a", "/api/v1", "/projects", "/api/v1/projects/"])
async def test_no_path_is_redirected_to_itself(client: httpx.AsyncClient, path: str) -> None:
    """A slash was put behind it, and taken off again when the client came back."""
    for asked in (path, path.rstrip("/"), f"{path.rstrip('/')}/"):
        assert (await client.get(asked)).status_code in (200, 404, 501), asked


async def test_readiness_names_what_is_missing(make_client: MakeClient) -> None:
    reply = await make_client(snapshot=lambda: {"leading": False}).get("/readyz")
    assert reply.status_code == 503
    assert set(reply.json()["reasons"]) == {"controller"}
    reply = await make_client(snapshot=lambda: {"leading": True}).get("/readyz")
    assert reply.status_code == 200


async def test_with_redis_down_control_answers_503_at_once_and_heals(
    home: Home,
    catalog: Catalog,
    settings: ApiSettings,
    store: Store,
    function: Document,
    redis_socket: str,
) -> None:
    other = await Store.connect(redis_socket, home_id="test-home")
    app = build_app(other, catalog, home, settings, lambda: {"leading": True})
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        await other.close()
        for method, path in (
            ("GET", "/api/functions"),
            ("POST", "/api/functions"),
            ("PUT", "/api/functions/hello"),
            ("GET", "/api/projects"),
            ("GET", "/api/stoker/top"),
            ("GET", "/api/stoker/ps"),
            ("GET", "/metrics"),
            ("GET", "/readyz"),
        ):
            async with asyncio.timeout(3):
                reply = await client.request(method, path, json=function())
            assert reply.status_code == 503, path
            assert reply.content
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/")).status_code == 200


SNAPSHOT = {
    "leading": True,
    "devices": {
        "SIM-0": {
            "name": "simulated",
            "kind": "sim",
            "capability": None,
            "parent": "",
            "lost": False,
            "capacity_bytes": 100,
            "promised_bytes": 30,
            "foreign_bytes": 10,
            "used_bytes": 40,
            "utilisation": None,
            "replicas": ["hello-a"],
        }
    },
}


async def test_a_config_that_this_version_cannot_read_hides_no_other_function(
    client: httpx.AsyncClient, store: Store, function: Document
) -> None:
    """After an update one of them had the page, and ``stoker ls``, show a 400 and nothing else."""
    await client.post("/api/functions", json=function())
    older = {"metadata": {"name": "older"}, "spec": {"minReplicas": "some"}}
    await store.put_function(
        FunctionRecord(name="older", serving=Revision(number=1, document=older))
    )
    hello, other = (await client.get("/api/stoker/top")).json()["functions"]
    assert (hello["name"], hello["maxReplicas"] > 0) == ("hello", True)
    assert (other["name"], other["maxReplicas"]) == ("older", 0)
    assert "its config cannot be read: invalid function: spec.minReplicas" in other["message"]


async def test_top_adds_up_gateways_replicas_and_devices(
    make_client: MakeClient, store: Store, function: Document
) -> None:
    client = make_client(snapshot=lambda: SNAPSHOT)
    await client.post("/api/functions", json=function())
    await store.report_demand("g1", {"hello": Demand(in_flight=2, waiting=1, arrivals=10)})
    await store.report_demand("g2", {"hello": Demand(in_flight=1, arrivals=5, last_active=7.0)})
    ready = WorkerRecord(index=0, socket="/x", phase=Phase.READY)
    for index in range(2):
        record = ReplicaRecord(
            id=f"hello-{index}", function="hello", revision=1, workers=(ready,), device_bytes=20
        )
        await store.put_replica(record)
    seen = (await client.get("/api/stoker/top")).json()
    assert seen["gateways"] == 2
    (device,) = seen["devices"]
    assert (device["id"], device["total_bytes"], device["replicas"]) == ("SIM-0", 100, ["hello-a"])
    shares = (device["promised_bytes"], device["foreign_bytes"], device["used_bytes"])
    assert shares == (30, 10, 40)
    row = seen["functions"][0]
    assert (row["inFlight"], row["waiting"], row["requests"]) == (3, 1, 15)
    assert row["replicas"] == {"starting": 0, "ready": 2, "asleep": 0, "draining": 0}
    assert row["deviceBytes"] == 40
    assert row["lastActive"] == 7.0


@pytest.mark.parametrize(
    ("state", "phase", "shown", "held"),
    [
        (FunctionState.SCALED_TO_ZERO, Phase.ASLEEP, "asleep", 3),
        (FunctionState.SCALED_TO_ZERO, Phase.DRAINING, "scaledToZero", 3),
        (FunctionState.READY, Phase.READY, "ready", 3),
        (FunctionState.ERROR, Phase.ASLEEP, "error", 3),
    ],
)
async def test_a_sleeper_is_shown_as_one_and_nuclios_state_stays_what_it_is(
    make_client: MakeClient,
    store: Store,
    function: Document,
    state: FunctionState,
    phase: Phase,
    shown: str,
    held: int,
) -> None:
    told = {"hello": {"replicas": {"hello-a": {"held_bytes": held}}}}
    client = make_client(snapshot=lambda: {**SNAPSHOT, "functions": told})
    await client.post("/api/functions", json=function())
    await store.update_function(
        "hello",
        lambda record: record.model_copy(
            update={"state": state, "candidate": None, "serving": record.candidate}
        ),
    )
    worker = WorkerRecord(index=0, socket="/x", phase=phase)
    await store.put_replica(
        ReplicaRecord(
            id="hello-a", function="hello", revision=1, workers=(worker,), device_bytes=20
        )
    )
    (row,) = (await client.get("/api/stoker/top")).json()["functions"]
    assert (row["state"], row["shownState"], row["deviceBytes"]) == (state.value, shown, held)


async def test_ps_shows_a_processs_memory_and_survives_a_dead_one(
    client: httpx.AsyncClient, store: Store
) -> None:
    import os

    workers = (
        WorkerRecord(index=0, socket="/x", pid=os.getpid(), phase=Phase.READY),
        WorkerRecord(index=1, socket="/y", pid=2**22 + 1, phase=Phase.READY),
    )
    record = ReplicaRecord(id="hello-a", function="hello", revision=1, workers=workers)
    await store.put_replica(record)
    rows = (await client.get("/api/stoker/ps")).json()["replicas"][0]["workers"]
    assert rows[0]["rssBytes"] > 1_000_000
    assert rows[0]["pssBytes"] > 1_000_000
    assert (rows[1]["rssBytes"], rows[1]["pssBytes"]) == (None, None)


async def test_metrics_join_gateways_replicas_and_devices(
    make_client: MakeClient, store: Store, function: Document
) -> None:
    client = make_client(snapshot=lambda: SNAPSHOT)
    await client.post("/api/functions", json=function())
    ready = WorkerRecord(index=0, socket="/x", phase=Phase.READY)
    await store.put_replica(
        ReplicaRecord(id="hello-a", function="hello", revision=1, workers=(ready,))
    )
    histogram = {"counts": [1] + [0] * 16, "sum": 0.25}
    counts = {
        "requests": {"200 ": 2, "500 handler_failed": 1, "499 ": 1},
        "stages": {"total": histogram},
        "batch": {"counts": [1] + [0] * 9, "sum": 1},
        "cold_starts": 1,
        "cold_requests": 2,
        "waiting": 0,
        "in_flight": 1,
    }
    snapshot = {
        "functions": {"hello": counts},
        "refused": {},
        "connections": 4,
        "store_failures": 0,
    }
    await store.report_metrics("g1", snapshot)
    await store.report_demand("g1", {"hello": Demand(arrivals=4, last_active=time.time())})
    reply = await client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    lines = reply.text.splitlines()
    assert 'stoker_requests_total{code="200",error="",function="hello",gateway="g1"} 2.0' in lines
    assert 'stoker_replicas{function="hello",state="ready"} 1.0' in lines
    assert 'stoker_workers{function="hello",state="ready"} 1.0' in lines
    assert 'stoker_functions{state="waitingForBuild"} 1.0' in lines
    assert 'stoker_device_promised_bytes{device="SIM-0"} 30.0' in lines
    assert 'stoker_device_foreign_bytes{device="SIM-0"} 10.0' in lines
    assert 'stoker_device_used_bytes{device="SIM-0"} 40.0' in lines
    assert 'stoker_device_lost{device="SIM-0"} 0.0' in lines
    info = 'stoker_device_info{capability="",device="SIM-0",kind="sim",name="simulated"} 1.0'
    assert info in lines
    # Nobody told it: a nought would be a lie.
    assert not any(line.startswith("stoker_device_utilisation{") for line in lines)
    assert 'stoker_cold_starts_total{function="hello",gateway="g1"} 1.0' in lines
    row = (await client.get("/api/stoker/top")).json()["functions"][0]
    assert row["coldStarts"] == 1
    assert row["errorShare"] == 0.25


def test_a_rate_is_growth_over_its_window() -> None:
    now = 0.0
    meter = RateMeter(lambda: now)
    assert meter.observe({"a": 100}) == {"a": None}
    now = 2.0
    assert meter.observe({"a": 120, "b": 5}) == {"a": 10.0, "b": 0.0}
    now = 30.0
    assert meter.observe({"a": 120}) == {"a": 0.0}
    now = 31.0
    assert meter.observe({"a": 20}) == {"a": 0.0}, "a gateway went away"


def test_the_share_of_errors_is_that_of_its_window() -> None:
    now = 0.0
    meter = ErrorMeter(lambda: now)
    just = dict.fromkeys(("a", "idle", "new"), 1.0)
    first = meter.observe({"a": Answers(100, 25), "idle": Answers()}, just)
    assert first == {"a": 0.25, "idle": None}, "who looks first sees all there was"
    now = 2.0
    assert meter.observe({"a": Answers(100, 25)}, just) == {"a": 0.25}, "there is no window yet"
    now = 11.0
    seen = {"a": Answers(110, 35), "new": Answers(2, 1)}
    assert meter.observe(seen, just) == {"a": 1.0, "new": 0.5}
    now = 12.0
    assert meter.observe({"a": Answers(120, 35)}, just) == {"a": 0.5}
    now = 30.0
    assert meter.observe({"a": Answers(120, 35)}, just) == {"a": None}, "nothing was answered"
    now = 31.0
    assert meter.observe({"a": Answers(20, 20)}, just) == {"a": None}, "a gateway went away"


def test_errors_of_long_ago_are_not_shown_as_those_of_now() -> None:
    """The page said 50 % in red, 6 minutes after the last request."""
    now = 1000.0
    meter = ErrorMeter(lambda: now)
    assert meter.observe({"a": Answers(4, 2)}, {"a": 100.0}) == {"a": 0.5}
    assert meter.observe({"a": Answers(4, 2)}, {"a": 360.0}) == {"a": None}
    now = 5000.0
    seen = {"a": Answers(8, 6)}
    assert meter.observe(seen, {"a": 360.0}) == {"a": None}, "nobody had looked for an hour"
    now = 5011.0
    seen = {"a": Answers(9, 7)}
    assert meter.observe(seen, {"a": 360.0}) == {"a": 1.0}, "its request had waited for so long"
