"""MLRun's function objects over HTTP: stored whole, read with their present state, deleted."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from stoker.nouns.record import FunctionRecord, FunctionState
from stoker.store import Store

PROJECT = "/api/v1/projects/shop"
ONE = f"{PROJECT}/functions/echo"
CODE = "ZGVmIGhhbmRsZXIoYywgZSk6IHJldHVybiAnaGknCg=="
pytestmark = pytest.mark.usefixtures("settling")


def function(name: str = "echo", kind: str = "remote", **spec: Any) -> dict[str, Any]:
    labels = spec.pop("labels", {})
    return {
        "kind": kind,
        "metadata": {"name": name, "project": "shop", "labels": labels},
        "spec": {"build": {"functionSourceCode": CODE}, "unknown": {"kept": [1, None]}, **spec},
        "status": None,
    }


@pytest.fixture
async def shop(client: httpx.AsyncClient) -> httpx.AsyncClient:
    created = await client.post("/api/v1/projects", json={"metadata": {"name": "shop"}})
    assert created.status_code == 201
    return client


async def deploy(
    client: httpx.AsyncClient, name: str = "echo", tag: str = "", **spec: Any
) -> httpx.Response:
    body = function(name, **spec)
    body["metadata"]["tag"] = tag
    return await client.post(f"{PROJECT}/nuclio/{name}/deploy", json={"function": body})


async def stored(client: httpx.AsyncClient, **asked: Any) -> dict[str, Any]:
    reply = await client.get(ONE, params=asked)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()["func"]
    return found


async def listed(client: httpx.AsyncClient, **asked: Any) -> list[str]:
    reply = await client.get(f"{PROJECT}/functions", params=asked)
    assert reply.status_code == 200, reply.text
    return [f["metadata"]["name"] for f in reply.json()["funcs"]]


async def test_what_was_stored_is_what_comes_back(shop: httpx.AsyncClient) -> None:
    sent = function(env=[{"name": "API_KEY", "value": "hush"}])
    reply = await shop.post(ONE, params={"tag": "v1", "versioned": "True"}, json=sent)
    key = reply.json()["hash_key"]
    for asked in ({"tag": "v1"}, {"hash_key": key}):
        found = await stored(shop, **asked)
        assert found["spec"] == sent["spec"]
        assert found["kind"] == "remote"
        assert found["metadata"]["hash"] == key
    assert (await shop.get(ONE)).status_code == 404


async def test_functions_of_any_kind_are_stored(shop: httpx.AsyncClient) -> None:
    job = function("train", "job", command="train.py")
    job["status"] = {"state": "ready"}
    reply = await shop.post(f"{PROJECT}/functions/train", params={"tag": "latest"}, json=job)
    assert reply.status_code == 200
    found = (await shop.get(f"{PROJECT}/functions/train")).json()["func"]
    assert found["spec"]["command"] == "train.py"
    assert found["status"] == {"state": "ready"}


async def test_the_older_paths_are_served_too(shop: httpx.AsyncClient) -> None:
    assert (await shop.post("/api/v1/func/shop/echo", json=function())).status_code == 200
    assert (await shop.get("/api/v1/func/shop/echo")).json()["func"]["kind"] == "remote"
    found = (await shop.get("/api/v1/funcs", params={"project": "shop"})).json()["funcs"]
    assert len(found) == 1


@pytest.mark.parametrize(
    ("path", "params", "words"),
    [
        (f"{PROJECT}/functions/ecko", {}, "Function not found shop/ecko; near names: echo"),
        (ONE, {"tag": "v9"}, "Function not found shop/echo:v9; its tags are latest"),
        (ONE, {"hash_key": "0"}, "Function not found shop/echo@0; its tags are latest"),
    ],
)
async def test_an_unknown_name_tag_or_hash_is_a_404_that_helps(
    shop: httpx.AsyncClient, path: str, params: dict[str, str], words: str
) -> None:
    await shop.post(ONE, json=function())
    reply = await shop.get(path, params=params)
    assert reply.status_code == 404
    assert reply.json()["detail"] == words


@pytest.mark.parametrize("method", ["store", "deploy"])
async def test_a_project_that_does_not_exist_is_a_404(
    client: httpx.AsyncClient, method: str
) -> None:
    body = function()
    path = f"{PROJECT}/nuclio/echo/deploy" if method == "deploy" else ONE
    reply = await client.post(path, json={"function": body} if method == "deploy" else body)
    assert reply.status_code == 404
    assert "Project shop does not exist" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "must be JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"metadata": {"name": "other"}}', "metadata.name: must be 'echo' as in the URL"),
        (b'{"spec": []}', "spec: must be a mapping, was list"),
    ],
)
async def test_a_body_that_cannot_be_stored_is_refused(
    shop: httpx.AsyncClient, body: bytes, words: str
) -> None:
    reply = await shop.post(ONE, content=body)
    assert reply.status_code == 400
    assert words in reply.json()["detail"]


async def test_listings_mask_what_a_single_read_shows(shop: httpx.AsyncClient) -> None:
    trigger = {"kind": "kafka-cluster", "attributes": {"sasl": {"password": "hush3"}}}
    secret = function(
        env=[{"name": "API_KEY", "value": "hush1"}, {"name": "PLAIN", "value": "seen"}],
        secret_sources=[{"kind": "inline", "source": {"A": "hush2"}}],
        config={"spec.triggers.k": trigger},
    )
    await shop.post(ONE, json=secret)
    text = (await shop.get(f"{PROJECT}/functions")).text
    assert "hush" not in text
    assert "seen" in text
    whole = await stored(shop)
    assert whole["spec"]["env"][0]["value"] == "hush1"


async def test_a_masked_variable_that_is_stored_again_keeps_its_value(
    shop: httpx.AsyncClient,
) -> None:
    await shop.post(ONE, json=function(env=[{"name": "API_KEY", "value": "hush"}]))
    (masked,) = (await shop.get(f"{PROJECT}/functions")).json()["funcs"]
    assert masked["spec"]["env"][0]["value"] == "********"
    assert (await shop.post(ONE, json=masked)).status_code == 200
    assert (await stored(shop))["spec"]["env"][0]["value"] == "hush"
    sources = [{"kind": "inline", "source": {"A": "********"}}]
    refused = await shop.post(ONE, json=function(secret_sources=sources))
    assert refused.status_code == 400
    assert "spec.secret_sources: must hold the values" in refused.json()["detail"]


async def test_listings_select_and_page(shop: httpx.AsyncClient) -> None:
    for name in ("a1", "a2", "b1"):
        body = function(name, "serving" if name == "b1" else "remote", labels={"n": name})
        await shop.post(f"{PROJECT}/functions/{name}", json=body)
    assert await listed(shop) == ["a1", "a2", "b1"]
    assert await listed(shop, name="~a") == ["a1", "a2"]
    assert await listed(shop, kind="serving") == ["b1"]
    assert await listed(shop, label="n=a2") == ["a2"]
    assert await listed(shop, since="2100-01-01T00:00:00") == []
    first = (await shop.get(f"{PROJECT}/functions", params={"page": 1, "page-size": 2})).json()
    assert [f["metadata"]["name"] for f in first["funcs"]] == ["a1", "a2"]
    token = first["pagination"]["page-token"]
    second = (await shop.get(f"{PROJECT}/functions", params={"page-token": token})).json()
    assert [f["metadata"]["name"] for f in second["funcs"]] == ["b1"]
    assert second["pagination"]["page-token"] is None
    minimal = (await shop.get(f"{PROJECT}/functions", params={"format": "minimal"})).json()
    assert "build" not in minimal["funcs"][0].get("spec", {})


async def test_the_status_is_that_of_what_is_deployed_now(
    shop: httpx.AsyncClient, store: Store
) -> None:
    assert (await deploy(shop)).status_code == 200
    await until_settled(shop)
    status = (await stored(shop))["status"]
    assert status["state"] == "ready"
    assert status["nuclio_name"] == "shop-echo"
    assert status["address"] == "127.0.0.1:8080/shop-echo"
    assert status["external_invocation_urls"] == ["127.0.0.1:8080/shop-echo/"]

    def asleep(record: FunctionRecord) -> FunctionRecord:
        zero = {"state": FunctionState.SCALED_TO_ZERO, "desired_zero": True}
        return record.model_copy(update=zero)

    await store.update_function("shop-echo", asleep)
    assert (await stored(shop))["status"]["state"] == "scaledToZero"
    assert await listed(shop, tag="latest", state="scaledToZero") == ["echo"]
    assert await listed(shop, tag="latest", state="ready") == []
    await store.delete_function("shop-echo")
    gone = (await stored(shop))["status"]
    assert (gone["state"], gone["address"], gone["external_invocation_urls"]) == ("", "", [])


async def test_a_deleted_function_ends_what_is_deployed_under_every_tag(
    shop: httpx.AsyncClient, store: Store
) -> None:
    await deploy(shop)
    await deploy(shop, tag="v2")
    assert set(await store.list_functions()) == {"shop-echo", "shop-echo-v2"}
    reply = await shop.delete("/api/v2/projects/shop/functions/echo")
    assert (reply.status_code, reply.content) == (204, b"")
    assert await store.list_functions() == {}
    assert (await shop.get(ONE)).status_code == 404
    assert (await shop.delete(ONE)).status_code == 204  # what is gone is gone


async def until_settled(client: httpx.AsyncClient, name: str = "echo") -> httpx.Response:
    path = f"{PROJECT}/nuclio/{name}/deploy"
    async with asyncio.timeout(20):
        while True:
            reply = await client.get(path, params={"last_log_timestamp": "1.0"})
            if reply.headers["x-mlrun-function-status"] in ("ready", "error", "unhealthy"):
                return reply
