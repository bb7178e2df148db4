"""MLRun's deploy and its status: what is written, what is refused, what a waiting client sees."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from stoker.api.mlrun import deploys
from stoker.nouns.home import Home
from stoker.nouns.record import FunctionRecord, FunctionState, LogEntry
from stoker.store import Store
from stoker.store.catalog import Catalog

MakeClient = Callable[..., httpx.AsyncClient]
PROJECT = "/api/v1/projects/shop"
DEPLOY = f"{PROJECT}/nuclio/echo/deploy"
CODE = "def handler(context, event):\n    return 'hi'\n"
GIB = 1024**3


def encoded(code: str = CODE) -> str:
    return base64.b64encode(code.encode()).decode()


def function(name: str = "echo", kind: str = "remote", **spec: Any) -> dict[str, Any]:
    tag = spec.pop("tag", "")
    return {
        "kind": kind,
        "metadata": {"name": name, "project": "shop", "tag": tag},
        "spec": {"build": {"functionSourceCode": encoded()}, "min_replicas": 1, **spec},
    }


@pytest.fixture
async def shop(client: httpx.AsyncClient) -> httpx.AsyncClient:
    await client.post("/api/v1/projects", json={"metadata": {"name": "shop"}})
    return client


async def post(client: httpx.AsyncClient, body: dict[str, Any], **more: Any) -> httpx.Response:
    name = body["metadata"]["name"]
    return await client.post(f"{PROJECT}/nuclio/{name}/deploy", json={"function": body, **more})


async def look(
    client: httpx.AsyncClient, since: float = 1.0, name: str = "echo", **asked: Any
) -> httpx.Response:
    params = {"last_log_timestamp": str(since), **asked}
    return await client.get(f"{PROJECT}/nuclio/{name}/deploy", params=params)


async def wait_settled(client: httpx.AsyncClient, name: str = "echo") -> httpx.Response:
    async with asyncio.timeout(20):
        while True:
            reply = await look(client, name=name)
            if reply.headers["x-mlrun-function-status"] in ("ready", "error", "unhealthy"):
                return reply


# The deploy


@pytest.mark.usefixtures("settling")
async def test_a_deploy_writes_a_revision_and_stores_the_object(
    shop: httpx.AsyncClient, store: Store
) -> None:
    reply = await post(shop, function(env=[{"name": "A", "value": "b"}]))
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-stoker-revision"] == "1"
    assert reply.json()["background_tasks"] == {"background_tasks": []}
    data = reply.json()["data"]
    assert data["spec"]["env"] == [{"name": "A", "value": "b"}]
    assert data["status"]["nuclio_name"] == "shop-echo"
    assert data["status"]["external_invocation_urls"] == ["127.0.0.1:8080/shop-echo/"]
    record = await store.get_function("shop-echo")
    assert record is not None
    assert record.project == "shop"
    assert record.current.config.env["A"] == "b"
    stored = (await shop.get(f"{PROJECT}/functions/echo")).json()["func"]
    assert stored["spec"] == data["spec"]
    by_hash = await shop.get(
        f"{PROJECT}/functions/echo", params={"hash_key": data["metadata"]["hash"]}
    )
    assert by_hash.status_code == 200


@pytest.mark.usefixtures("settling")
async def test_every_deployed_version_is_found_by_its_hash(shop: httpx.AsyncClient) -> None:
    keys = {}
    for value in ("1", "2"):
        reply = await post(shop, function(env=[{"name": "V", "value": value}]))
        keys[value] = reply.json()["data"]["metadata"]["hash"]
    for value, key in keys.items():
        found = await shop.get(f"{PROJECT}/functions/echo", params={"hash_key": key})
        assert found.json()["func"]["spec"]["env"] == [{"name": "V", "value": value}]


@pytest.mark.usefixtures("settling")
async def test_the_projects_secrets_reach_the_function_and_no_listing(
    shop: httpx.AsyncClient, store: Store
) -> None:
    secrets = {"provider": "kubernetes", "secrets": {"MINE": "hushhush"}}
    assert (await shop.post(f"{PROJECT}/secrets", json=secrets)).status_code == 201
    reply = await post(shop, function())
    assert "hushhush" not in reply.text
    record = await store.get_function("shop-echo")
    assert record is not None
    assert record.current.config.env["MINE"] == "hushhush"
    for path in ("/api/functions/shop-echo", "/api/functions", f"{PROJECT}/functions"):
        assert "hushhush" not in (await shop.get(path)).text


@pytest.mark.usefixtures("settling")
async def test_the_credentials_of_a_repository_are_never_shown(
    shop: httpx.AsyncClient, store: Store
) -> None:
    build = {"source": "git://example.org/r#main"}
    body = function(build=build, function_handler="main:handler")
    reply = await post(shop, body, builder_env={"GIT_TOKEN": "hushhush"})
    assert reply.status_code == 200
    record = await store.get_function("shop-echo")
    assert record is not None
    attributes = record.current.document["spec"]["build"]["codeEntryAttributes"]
    assert attributes["password"] == "hushhush"
    for path in ("/api/functions/shop-echo", f"{PROJECT}/functions", f"{PROJECT}/functions/echo"):
        assert "hushhush" not in (await shop.get(path)).text


@pytest.mark.usefixtures("settling")
async def test_a_password_that_the_client_masked_after_a_deploy_is_put_back(
    shop: httpx.AsyncClient, store: Store
) -> None:
    def triggered(password: str) -> dict[str, Any]:
        attributes = {"topics": ["t"], "brokers": ["b"], "sasl": {"password": password}}
        trigger = {"kind": "kafka-cluster", "attributes": attributes}
        return function(config={"spec.triggers.k": trigger})

    assert (await post(shop, triggered("hushhush"))).status_code == 200
    reference = "$ref:/spec/triggers/k/attributes/sasl/password"
    assert (await post(shop, triggered(reference))).status_code == 200
    record = await store.get_function("shop-echo")
    assert record is not None
    kept = record.current.document["spec"]["triggers"]["k"]["attributes"]["sasl"]
    assert kept == {"password": "hushhush"}
    fresh = triggered(reference)
    fresh["metadata"]["name"] = "fresh"
    refused = await post(shop, fresh)
    assert refused.status_code == 400
    assert "spec.triggers.k.attributes.sasl.password: must be the value" in refused.json()["detail"]


@pytest.mark.usefixtures("settling")
async def test_code_may_be_named_by_a_file_of_this_machine(
    shop: httpx.AsyncClient, store: Store, home: Home
) -> None:
    file = home.root / "mine.py"
    file.write_text(CODE)
    assert (await post(shop, function(build={}, source=str(file)))).status_code == 200
    record = await store.get_function("shop-echo")
    assert record is not None
    assert record.current.config.spec.build.function_source_code == encoded()
    for source in ("mine.py", str(home.root / "other.py"), "https://h/x.py"):
        refused = await post(shop, function(build={}, source=source))
        assert refused.status_code == 400
        assert "spec.source: must be" in refused.json()["detail"]


@pytest.mark.usefixtures("settling")
async def test_a_client_before_1_7_deploys_and_asks_by_its_own_paths(
    shop: httpx.AsyncClient,
) -> None:
    reply = await shop.post("/api/v1/build/function", json={"function": function()})
    assert (reply.status_code, reply.json()["ready"]) == (200, False)
    await wait_settled(shop)
    asked = {"name": "echo", "project": "shop", "tag": "", "last_log_timestamp": "1.0"}
    status = await shop.get("/api/v1/build/status", params=asked)
    assert status.headers["x-mlrun-function-status"] == "ready"
    job = await shop.post("/api/v1/build/function", json={"function": function(kind="job")})
    assert job.status_code == 501
    assert "builds no images" in job.json()["detail"]


# What is refused leaves nothing behind


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            function(build={"functionSourceCode": encoded("def handler(a b): pass\n")}),
            "functionSourceCode: SyntaxError in line 1",
        ),
        (function(kind="job"), "kind: must be one of"),
        (function(nuclio_runtime="golang"), "spec.runtime: must be"),
        (function(tag="V1"), "metadata.name: must be at most 63 of a-z"),
        (function(min_replicas=3, max_replicas=1), "minReplicas must be <= maxReplicas"),
        (function(kind="serving"), "spec.graph: must be set"),
        (
            function(kind="serving", graph={"steps": {"a": {"after": ["b"]}, "b": {"after": "a"}}}),
            "form a circle",
        ),
        (
            function(
                kind="serving",
                graph={"steps": {"r": {"class_name": "$remote", "class_args": {"url": "x"}}}},
            ),
            "no function 'shop-x' is deployed here",
        ),
        ({"metadata": {"name": "echo"}, "kind": "remote", "spec": []}, "spec: must be a mapping"),
    ],
)
async def test_a_refused_deploy_names_the_field_and_writes_nothing(
    shop: httpx.AsyncClient, store: Store, catalog: Catalog, body: dict[str, Any], words: str
) -> None:
    reply = await post(shop, body)
    assert reply.status_code == 400
    assert words in reply.json()["detail"]
    assert reply.json()["error"]["fields"]
    assert await store.list_functions() == {}
    assert await catalog.functions.names("shop") == []


async def test_an_application_is_refused_by_name(shop: httpx.AsyncClient) -> None:
    reply = await post(shop, function(kind="application"))
    assert reply.status_code == 501
    assert "kind 'application' runs a container image" in reply.json()["detail"]


def devices(**gib: int) -> Callable[[], dict[str, Any]]:
    return lambda: {"devices": {n: {"capacity_bytes": g * GIB} for n, g in gib.items()}}


@pytest.mark.parametrize(
    ("workers", "gpus", "memory", "words"),
    [
        (8, 1, "4GiB", r"8 workers of 4.0 GiB \(STOKER_GPU_MEMORY is 4GiB\) need 32.0 GiB on its"),
        (8, 1, "4GiB", r"which has 16.0 GiB; with_http\(workers=4\) would fit"),
        (1, 1, "20GiB", r"spec.env.STOKER_GPU_MEMORY: one worker needs 20.0 GiB .* has 16.0 GiB"),
        (2, 1, "20GiB", "no worker of it fits; declare what one worker needs, or take a larger"),
        (1, 2, "", "asks for 2 GPUs; this home has 1"),
        (4, 1, "4GiB", ""),
        (8, 1, "", ""),
        (8, 0, "4GiB", ""),
    ],
)
async def test_workers_that_the_devices_could_never_hold_are_refused_with_the_bytes(
    make_client: MakeClient, workers: int, gpus: int, memory: str, words: str
) -> None:
    client = make_client(snapshot=devices(a=16))
    await client.post("/api/v1/projects", json={"metadata": {"name": "shop"}})
    http = {"kind": "http", "maxWorkers": workers}
    env = [{"name": "STOKER_GPU_MEMORY", "value": memory}] if memory else []
    limits = {"limits": {"nvidia.com/gpu": gpus}} if gpus else {}
    body = function(config={"spec.triggers.http": http}, resources=limits, env=env)
    reply = await post(client, body)
    if not words:
        assert reply.status_code == 200, reply.text
        return
    assert reply.status_code == 400
    assert re.search(words, reply.json()["detail"]), reply.json()["detail"]


async def test_a_worker_that_would_get_several_mig_instances_is_refused(
    make_client: MakeClient,
) -> None:
    told = {n: {"capacity_bytes": 16 * GIB, "kind": "mig"} for n in ("MIG-a", "MIG-b")}
    client = make_client(snapshot=lambda: {"devices": told})
    await client.post("/api/v1/projects", json={"metadata": {"name": "shop"}})

    async def answer(workers: int) -> httpx.Response:
        http = {"kind": "http", "maxWorkers": workers}
        limits = {"limits": {"nvidia.com/gpu": 2}}
        return await post(client, function(config={"spec.triggers.http": http}, resources=limits))

    refused = await answer(1)
    assert refused.status_code == 400
    assert "CUDA shows a process only one" in refused.json()["detail"]
    assert (await answer(2)).status_code == 200


async def test_the_weights_of_a_local_model_count_where_nothing_is_declared(
    make_client: MakeClient, home: Home
) -> None:
    model = home.root / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    with (model / "model.safetensors").open("wb") as weights:
        weights.truncate(3 * GIB)
    client = make_client(snapshot=devices(a=16))
    await client.post("/api/v1/projects", json={"metadata": {"name": "shop"}})

    async def answer(quantization: str, prune: str = "") -> httpx.Response:
        env = [
            {"name": "STOKER_MODEL", "value": str(model)},
            {"name": "STOKER_QUANTIZATION", "value": quantization},
            {"name": "STOKER_PRUNE", "value": prune},
        ]
        http = {"kind": "http", "maxWorkers": 8}
        resources = {"limits": {"nvidia.com/gpu": 1}}
        return await post(
            client, function(env=env, resources=resources, config={"spec.triggers.http": http})
        )

    refused = await answer("none")
    assert refused.status_code == 400
    assert f"8 workers of 3.0 GiB (the weights of {model} in none)" in refused.json()["detail"]
    assert (await answer("none", "magnitude:0.5")).status_code == 400
    assert (await answer("int8")).status_code == 200
    # How much smaller a model of fewer layers is, only its preparation will tell.
    assert (await answer("none", "layers:1")).status_code == 200


@pytest.mark.usefixtures("settling")
async def test_a_name_that_another_projects_function_has_is_refused_and_that_one_stays(
    client: httpx.AsyncClient, store: Store
) -> None:
    """``a-b`` and ``c`` make the same name as ``a`` and ``b-c``."""
    for project in ("a", "a-b"):
        await client.post("/api/v1/projects", json={"metadata": {"name": project}})

    async def posted(project: str, name: str) -> httpx.Response:
        body = function(name) | {"metadata": {"name": name, "project": project}}
        path = f"/api/v1/projects/{project}/nuclio/{name}/deploy"
        return await client.post(path, json={"function": body})

    assert (await posted("a-b", "c")).status_code == 200
    refused = await posted("a", "b-c")
    assert refused.status_code == 409
    assert "function a-b-c exists already, in project a-b" in refused.json()["detail"]
    status = await client.get("/api/v1/projects/a/nuclio/b-c/deploy")
    assert status.status_code == 404
    assert (await client.delete("/api/v2/projects/a/functions/b-c")).status_code == 204
    assert set(await store.list_functions()) == {"a-b-c"}


# The status


@pytest.mark.usefixtures("settling")
async def test_the_status_carries_state_addresses_and_log(shop: httpx.AsyncClient) -> None:
    await post(shop, function(image="mlrun/mlrun"))
    reply = await wait_settled(shop)
    assert reply.headers["x-mlrun-name"] == "shop-echo"
    assert reply.headers["x-mlrun-address"] == "127.0.0.1:8080/shop-echo"
    assert reply.headers["x-mlrun-external-invocation-urls"] == "127.0.0.1:8080/shop-echo/"
    assert reply.headers["x-mlrun-internal-invocation-urls"] == "127.0.0.1:8080/shop-echo"
    assert reply.headers["x-mlrun-container-image"] == ""
    assert "(info) image mlrun/mlrun is kept and has no effect here" in reply.text
    last = float(reply.headers["x-mlrun-last-timestamp"])
    again = await look(shop, last)
    assert again.text == ""
    assert float(again.headers["x-mlrun-last-timestamp"]) == last
    verbose = await look(shop, verbose="yes")
    assert "'level': 'info'" in verbose.text


@pytest.mark.usefixtures("settling")
async def test_an_internal_service_has_no_external_url_that_a_client_would_call_by_https(
    shop: httpx.AsyncClient,
) -> None:
    await post(shop, function(service_type="ClusterIP"))
    reply = await wait_settled(shop)
    assert reply.headers["x-mlrun-external-invocation-urls"] == ""
    assert reply.headers["x-mlrun-address"] == "127.0.0.1:8080/shop-echo"


async def test_each_line_is_told_once_and_a_request_is_held_until_there_is_one(
    shop: httpx.AsyncClient, store: Store
) -> None:
    await post(shop, function(image="x"))
    first = await look(shop)
    assert first.headers["x-mlrun-function-status"] == "waitingForBuild"
    assert len(first.text.splitlines()) == 1
    last = float(first.headers["x-mlrun-last-timestamp"])
    waiting = asyncio.create_task(look(shop, last))
    await asyncio.sleep(0)

    def told(record: FunctionRecord) -> FunctionRecord:
        entry = LogEntry(time=record.logs[-1].time + 1, message="building")
        state = {"state": FunctionState.BUILDING, "logs": (*record.logs, entry)}
        return record.model_copy(update=state)

    await store.update_function("shop-echo", told)
    second = await waiting
    assert second.headers["x-mlrun-function-status"] == "building"
    assert [line.partition(") ")[2] for line in second.text.splitlines()] == ["building"]


async def test_a_request_without_news_is_answered_before_clients_give_up(
    shop: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploys, "HOLD_S", 0.05)
    await post(shop, function())
    reply = await look(shop)
    assert reply.headers["x-mlrun-function-status"] == "waitingForBuild"


async def test_a_failed_deploy_ends_the_wait_with_its_log(
    shop: httpx.AsyncClient, store: Store
) -> None:
    await post(shop, function())
    waiting = asyncio.create_task(wait_settled(shop))

    def failed(record: FunctionRecord) -> FunctionRecord:
        entry = LogEntry(time=9e12, level="error", message="pip install failed")
        return record.model_copy(update={"state": FunctionState.ERROR, "logs": (entry,)})

    await store.update_function("shop-echo", failed)
    reply = await waiting
    assert reply.headers["x-mlrun-function-status"] == "error"
    assert "(error) pip install failed" in reply.text


@pytest.mark.parametrize("state", [FunctionState.ERROR, FunctionState.UNHEALTHY, None])
async def test_an_end_without_new_lines_is_told_at_once(
    shop: httpx.AsyncClient,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    state: FunctionState | None,
) -> None:
    await post(shop, function(image="x"))
    last = float((await look(shop)).headers["x-mlrun-last-timestamp"])

    def ended(record: FunctionRecord) -> FunctionRecord:
        if state:
            return record.model_copy(update={"state": state})
        done = {"state": FunctionState.READY, "serving": record.candidate, "candidate": None}
        return record.model_copy(update=done)

    await store.update_function("shop-echo", ended)
    monkeypatch.setattr(deploys, "HOLD_S", 3600.0)
    async with asyncio.timeout(60):
        reply = await look(shop, last)
    assert reply.headers["x-mlrun-function-status"] == str(state or "ready")
    assert reply.text == ""


@pytest.mark.usefixtures("settling")
@pytest.mark.parametrize("state", [FunctionState.SCALED_TO_ZERO, FunctionState.SCALING_FROM_ZERO])
async def test_a_client_that_waits_is_told_ready_of_a_function_at_zero(
    shop: httpx.AsyncClient, store: Store, state: FunctionState
) -> None:
    await post(shop, function())
    await wait_settled(shop)
    await store.update_function(
        "shop-echo", lambda record: record.model_copy(update={"state": state, "desired_zero": True})
    )
    assert (await look(shop, 1.0)).headers["x-mlrun-function-status"] == "ready"
    # A question about the state alone, as fn.get_url() asks it, gets the state.
    assert (await look(shop, 0.0)).headers["x-mlrun-function-status"] == str(state)


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"name": "ecko"}, 404, "Function not found: no function shop-ecko is deployed"),
        ({"tag": "v2"}, 404, "no function shop-echo-v2 is deployed"),
        ({"last_log_timestamp": "soon"}, 400, "last_log_timestamp must be a number"),
    ],
)
async def test_a_status_that_cannot_be_told(
    shop: httpx.AsyncClient, asked: dict[str, Any], status: int, words: str
) -> None:
    reply = await look(shop, **asked)
    assert reply.status_code == status
    assert words in reply.json()["detail"]


@pytest.mark.parametrize("since", ["nan", "inf", "-5", "9e15"])
@pytest.mark.usefixtures("settling")
async def test_a_strange_time_hides_no_lines(shop: httpx.AsyncClient, since: str) -> None:
    await post(shop, function(image="x"))
    await wait_settled(shop)
    reply = await look(shop, last_log_timestamp=since)
    assert "image x is kept" in reply.text


# Two at once


@pytest.mark.usefixtures("settling")
async def test_of_two_deploys_at_once_the_last_wins_as_a_whole(
    shop: httpx.AsyncClient, store: Store
) -> None:
    def numbered(number: int) -> dict[str, Any]:
        return function(env=[{"name": "N", "value": str(number)}])

    replies = await asyncio.gather(*(post(shop, numbered(number)) for number in range(6)))
    assert {reply.status_code for reply in replies} == {200}
    revisions = {int(r.headers["x-stoker-revision"]): r.json()["data"] for r in replies}
    assert sorted(revisions) == [1, 2, 3, 4, 5, 6]
    last = revisions[6]["spec"]["env"]
    record = await store.get_function("shop-echo")
    assert record is not None
    assert record.current.config.env["N"] == last[0]["value"]
    stored = (await shop.get(f"{PROJECT}/functions/echo")).json()["func"]
    assert stored["spec"]["env"] == last
