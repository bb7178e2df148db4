"""Nuclio's /api/functions, against a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from stoker.nouns.record import FunctionState, LogEntry, Phase, ReplicaRecord, WorkerRecord
from stoker.store import Store

Document = Callable[..., dict[str, Any]]
MakeClient = Callable[..., httpx.AsyncClient]


async def test_a_deployed_function_is_stored_whole_and_waits_for_its_build(
    client: httpx.AsyncClient, store: Store, function: Document
) -> None:
    body = function() | {"madeUp": {"a": 1}}
    body["spec"]["platform"] = {"attributes": {"x": [1, 2]}}
    reply = await client.post("/api/functions", json=body)
    assert (reply.status_code, reply.content) == (202, b"")
    record = await store.get_function("hello")
    assert record is not None
    assert record.candidate is not None
    assert record.candidate.number == record.last_revision == 1
    assert record.state is FunctionState.WAITING_FOR_BUILD
    assert record.project == "shop"
    shown = (await client.get("/api/functions/hello")).json()
    assert shown["madeUp"] == {"a": 1}
    assert shown["spec"]["platform"] == {"attributes": {"x": [1, 2]}}
    assert shown["status"]["state"] == "waitingForBuild"


async def test_the_project_header_becomes_the_label(
    client: httpx.AsyncClient, function: Document
) -> None:
    body = function()
    del body["metadata"]["labels"]
    await client.post("/api/functions", json=body, headers={"x-nuclio-project-name": "bank"})
    shown = (await client.get("/api/functions/hello")).json()
    assert shown["metadata"]["labels"]["nuclio.io/project-name"] == "bank"


async def test_a_second_function_of_the_same_name_is_refused(
    client: httpx.AsyncClient, function: Document
) -> None:
    await client.post("/api/functions", json=function())
    reply = await client.post("/api/functions", json=function())
    assert reply.status_code == 409
    assert set(reply.json()) == {"error", "errorStackTrace"}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"metadata": {"name": "No_Good"}}, "metadata.name"),
        ({"metadata": {"name": "metrics"}}, "metadata.name"),
        ({"metadata": {}}, "metadata.name"),
        ({"spec": {"runtime": "golang"}}, "spec.runtime"),
        ({"spec": {"eventTimeout": "soon"}}, "spec.eventTimeout"),
        ({"spec": {"build": {"functionSourceCode": "not base64!"}}}, "functionSourceCode"),
        (
            {"spec": {"env": [{"name": "STOKER_QUEUE_LIMIT", "value": "many"}]}},
            "STOKER_QUEUE_LIMIT",
        ),
        (
            {
                "spec": {
                    "triggers": {
                        "h": {"kind": "http", "attributes": {"maxRequestBodySize": "4 MB"}}
                    }
                }
            },
            "spec.triggers.h: attributes.maxRequestBodySize",
        ),
    ],
)
async def test_a_wrong_field_is_named(
    client: httpx.AsyncClient, function: Document, change: dict[str, Any], names: str
) -> None:
    reply = await client.post("/api/functions", json=function() | change)
    assert reply.status_code == 400
    assert names in reply.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
async def test_a_body_that_is_no_object_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    for method, path in (
        ("POST", "/api/functions"),
        ("PUT", "/api/functions/x"),
        ("PATCH", "/api/functions/x"),
        ("DELETE", "/api/functions"),
        ("POST", "/api/projects"),
    ):
        reply = await client.request(method, path, content=body)
        assert reply.status_code == 400, (method, path)


async def test_a_redeploy_is_the_next_revision_while_the_last_one_serves(
    client: httpx.AsyncClient, store: Store, function: Document, settling: None
) -> None:
    wait = {"X-Nuclio-Wait-Function-Action": "true"}
    await client.post("/api/functions", json=function(), headers=wait)
    before = (await client.get("/api/functions/hello")).json()["status"]
    assert before["state"] == "ready"
    body = function(description="newer")
    reply = await client.put("/api/functions/hello", json=body, headers=wait)
    assert (reply.status_code, reply.headers["x-stoker-revision"]) == (202, "2")
    record = await store.get_function("hello")
    assert record is not None
    assert record.serving is not None
    assert record.serving.number == 2
    after = (await client.get("/api/functions/hello")).json()["status"]
    assert after["externalInvocationUrls"] == before["externalInvocationUrls"]


async def test_a_put_without_labels_keeps_the_project(
    client: httpx.AsyncClient, store: Store, function: Document
) -> None:
    await client.post("/api/functions", json=function())
    body = function()
    del body["metadata"]
    assert (await client.put("/api/functions/hello", json=body)).status_code == 202
    record = await store.get_function("hello")
    assert record is not None
    assert record.project == "shop"


async def test_a_put_of_an_unknown_function_creates_it_as_nuclio_does(
    client: httpx.AsyncClient, store: Store, function: Document
) -> None:
    assert (await client.put("/api/functions/hello", json=function())).status_code == 202
    assert await store.get_function("hello") is not None


async def test_a_put_under_another_name_is_refused(
    client: httpx.AsyncClient, function: Document
) -> None:
    reply = await client.put("/api/functions/other", json=function())
    assert reply.status_code == 400
    assert "metadata.name" in reply.json()["error"]


async def test_urls_have_no_scheme_and_survive_zero(
    client: httpx.AsyncClient, store: Store, function: Document, settling: None
) -> None:
    wait = {"X-Nuclio-Wait-Function-Action": "true"}
    await client.post("/api/functions", json=function(minReplicas=0), headers=wait)
    body = {"desiredState": "scaledToZero"}
    reply = await client.patch("/api/functions/hello", json=body, headers=wait)
    assert reply.status_code == 202
    status = (await client.get("/api/functions/hello")).json()["status"]
    assert status["state"] == "scaledToZero"
    assert status["externalInvocationUrls"] == ["127.0.0.1:8080/hello"]
    assert status["internalInvocationUrls"] == ["127.0.0.1:8080/hello"]
    assert status["httpPort"] == 8080
    reply = await client.patch("/api/functions/hello", json={"desiredState": "ready"}, headers=wait)
    assert reply.status_code == 202
    assert (await client.get("/api/functions/hello")).json()["status"]["state"] == "ready"


async def test_waking_asks_the_store_for_a_wake(
    client: httpx.AsyncClient, store: Store, function: Document
) -> None:
    await client.post("/api/functions", json=function(minReplicas=0))
    watch = store.watch()
    await anext(watch)
    await client.patch("/api/functions/hello", json={"desiredState": "ready"})
    async with asyncio.timeout(5):
        topics = {(await anext(watch)).topic.value for _ in range(2)}
    assert "wake" in topics
    await watch.aclose()  # type: ignore[attr-defined]


async def test_a_function_that_must_have_a_replica_cannot_go_to_zero(
    client: httpx.AsyncClient, function: Document
) -> None:
    await client.post("/api/functions", json=function())
    reply = await client.patch("/api/functions/hello", json={"desiredState": "scaledToZero"})
    assert reply.status_code == 412
    assert "minReplicas" in reply.json()["error"]


async def test_an_unknown_desired_state_is_refused(
    client: httpx.AsyncClient, function: Document
) -> None:
    await client.post("/api/functions", json=function())
    reply = await client.patch("/api/functions/hello", json={"desiredState": "asleep"})
    assert reply.status_code == 400


async def test_delete_takes_a_body_and_a_trailing_slash_and_may_be_repeated(
    client: httpx.AsyncClient, store: Store, function: Document
) -> None:
    await client.post("/api/functions/", json=function())
    for _ in range(2):
        reply = await client.request(
            "DELETE", "/api/functions/", json={"metadata": {"name": "hello"}}
        )
        assert (reply.status_code, reply.content) == (204, b"")
    assert await store.get_function("hello") is None


async def test_the_first_revision_of_a_new_function_is_past_its_namesakes_replicas(
    client: httpx.AsyncClient, store: Store, function: Document
) -> None:
    await store.put_replica(ReplicaRecord(id="hello-old", function="hello", revision=7))
    reply = await client.post("/api/functions", json=function())
    assert reply.headers["x-stoker-revision"] == "8"


async def test_a_missing_function_is_404_with_near_names(
    client: httpx.AsyncClient, function: Document
) -> None:
    await client.post("/api/functions", json=function())
    reply = await client.get("/api/functions/helo")
    assert reply.status_code == 404
    assert "hello" in reply.json()["error"]
    assert (
        await client.patch("/api/functions/x", json={"desiredState": "ready"})
    ).status_code == 404
    assert (await client.get("/api/functions/x/replicas")).status_code == 404


async def test_lists_are_filtered_by_headers(client: httpx.AsyncClient, function: Document) -> None:
    await client.post("/api/functions", json=function("a-fn"))
    headers = {"x-nuclio-project-name": "bank"}
    await client.post("/api/functions", json=function("b-fn"), headers=headers)

    async def names(**headers: str) -> set[str]:
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        return set((await client.get("/api/functions/", headers=sent)).json())

    assert await names() == {"a-fn", "b-fn"}
    assert await names(x_nuclio_project_name="bank") == {"b-fn"}
    assert await names(x_nuclio_function_name="a-fn") == {"a-fn"}
    assert await names(x_nuclio_function_namespace="nuclio") == {"a-fn", "b-fn"}
    assert await names(x_nuclio_function_namespace="elsewhere") == set()


async def test_an_export_deploys_elsewhere(client: httpx.AsyncClient, function: Document) -> None:
    await client.post("/api/functions", json=function())
    exported = (await client.get("/api/functions/hello?export=true")).json()
    assert set(exported) == {"metadata", "spec"}
    assert "namespace" not in exported["metadata"]
    await client.request("DELETE", "/api/functions", json=exported)
    assert (await client.post("/api/functions", json=exported)).status_code == 202


async def test_replicas_are_named(
    client: httpx.AsyncClient, store: Store, function: Document
) -> None:
    await client.post("/api/functions", json=function())
    worker = WorkerRecord(index=0, socket="/x", phase=Phase.READY)
    for name, owner in (("hello-a", "hello"), ("other-a", "other")):
        record = ReplicaRecord(id=name, function=owner, revision=1, workers=(worker,))
        await store.put_replica(record)
    reply = await client.get("/api/functions/hello/replicas")
    assert reply.json() == {"names": ["hello-a"]}


async def test_a_failed_deploy_ends_the_wait_and_shows_why(
    client: httpx.AsyncClient, store: Store, function: Document
) -> None:
    watching = asyncio.Event()

    failed = {
        "state": FunctionState.UNHEALTHY,
        "message": "init_context raised",
        "logs": (LogEntry(time=1.0, level="error", message="Traceback …"),),
    }

    async def fail() -> None:
        async for event in store.watch():
            watching.set()
            if event.name == "hello":
                await store.update_function("hello", lambda r: r.model_copy(update=failed))
                return

    task = asyncio.create_task(fail())
    await watching.wait()
    headers = {"X-Nuclio-Wait-Function-Action": "true"}
    async with asyncio.timeout(5):
        reply = await client.post("/api/functions", json=function(), headers=headers)
    await task
    assert reply.status_code == 202
    status = (await client.get("/api/functions/hello")).json()["status"]
    assert (status["state"], status["message"]) == ("unhealthy", "init_context raised")
    assert status["logs"][0]["message"] == "Traceback …"


async def test_what_has_no_effect_here_is_said_in_the_deploy_log(
    client: httpx.AsyncClient, function: Document
) -> None:
    body = function(triggers={"k": {"kind": "kafka"}}, nodeSelector={"a": "b"}, volumes=[], env=[])
    await client.post("/api/functions", json=body)
    logs = (await client.get("/api/functions/hello")).json()["status"]["logs"]
    assert [entry["level"] for entry in logs] == ["warn", "warn"]
    assert "Kafka" in logs[0]["message"]
    assert "nodeSelector" in logs[1]["message"]


async def test_the_deployment_is_streamed_until_it_settles(
    make_client: MakeClient, function: Document, settling: None
) -> None:
    client = make_client()
    reply = await client.post("/api/functions", json=function())
    revision = reply.headers["x-stoker-revision"]
    async with asyncio.timeout(5):
        reply = await client.get(f"/api/stoker/functions/hello/deployment?revision={revision}")
    last = reply.text.splitlines()[-1]
    assert '"settled": true' in last
    assert '"state": "ready"' in last
