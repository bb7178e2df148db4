"""Bodies as MLRun's client writes them: NaN, large numbers, large documents, parts left out."""

from __future__ import annotations

import json
import math
import threading
from typing import Any

import httpx
import pytest

from stoker.api import reply
from stoker.api.mlrun import functions
from stoker.store.catalog import json_text

SHOP = "/api/v1/projects/shop"
RUN = f"{SHOP}/runs/u1"


@pytest.fixture
async def shop(client: httpx.AsyncClient) -> httpx.AsyncClient:
    await client.post("/api/v1/projects", json={"metadata": {"name": "shop"}})
    return client


async def send(client: httpx.AsyncClient, method: str, path: str, body: Any) -> httpx.Response:
    """As MLRun's client: by Python's json, in which NaN is a number."""
    sent = await client.request(method, path, content=json.dumps(body))
    assert sent.is_success, sent.text
    return sent


# Numbers


async def test_a_result_that_is_no_number_does_not_end_the_run(shop: httpx.AsyncClient) -> None:
    await send(shop, "POST", RUN, {"metadata": {"name": "train"}, "status": {"results": {}}})
    results = {"loss": math.nan, "worst": -math.inf, "many": 2**70, "half": "\ud800"}
    await send(shop, "PATCH", RUN, {"status.results": results, "status.state": "completed"})
    found = (await shop.get(RUN)).json()["data"]["status"]
    assert found["state"] == "completed"
    assert found["results"] == {"loss": None, "worst": None, "many": 2**70, "half": "\ud800"}
    listed = (await shop.get(f"{SHOP}/runs")).json()["runs"]
    assert listed[0]["status"]["results"]["many"] == 2**70


async def test_a_models_metrics_may_be_no_numbers(shop: httpx.AsyncClient) -> None:
    model = {
        "kind": "model",
        "metadata": {"key": "m", "project": "shop", "tree": "t"},
        "spec": {"db_key": "m", "metrics": {"loss": math.nan}, "parameters": {"seed": 2**70}},
    }
    await send(shop, "PUT", "/api/v2/projects/shop/artifacts/m", model)
    inline = model | {"spec": {"db_key": "n", "inline": 2**70}}
    await send(shop, "PUT", "/api/v2/projects/shop/artifacts/n", inline)
    listed = (await shop.get("/api/v2/projects/shop/artifacts")).json()["artifacts"]
    specs = {one["spec"]["db_key"]: one["spec"] for one in listed}
    assert specs["m"]["metrics"] == {"loss": None}
    assert specs["m"]["parameters"] == {"seed": 2**70}
    assert specs["n"]["inline"] == 2**70


async def test_a_function_and_a_project_keep_their_numbers(shop: httpx.AsyncClient) -> None:
    function = {"kind": "job", "spec": {"parameters": {"seed": 2**70, "cut": math.inf}}}
    await send(shop, "POST", f"{SHOP}/functions/f", function)
    found = (await shop.get(f"{SHOP}/functions/f")).json()["func"]
    assert found["spec"]["parameters"] == {"seed": 2**70, "cut": None}
    await send(shop, "PUT", SHOP, {"spec": {"params": {"seed": 2**70, "cut": math.nan}}})
    assert (await shop.get(SHOP)).json()["spec"]["params"] == {"seed": 2**70, "cut": None}


@pytest.mark.usefixtures("settling")
async def test_a_function_is_deployed_with_any_number(shop: httpx.AsyncClient) -> None:
    build = {"functionSourceCode": "ZGVmIGhhbmRsZXIoYywgZSk6IHJldHVybiAnaGknCg=="}
    more = {"env": [{"name": "SEED", "value": str(2**70)}], "parameters": {"cut": math.nan}}
    config = {"spec.platform": {"attributes": {"seed": 2**70, "cut": math.nan}}}
    spec = {"build": build, "config": config, **more}
    body = {"kind": "remote", "metadata": {"name": "f", "project": "shop"}, "spec": spec}
    await send(shop, "POST", f"{SHOP}/nuclio/f/deploy", {"function": body})


async def test_a_body_that_is_no_json_is_told_so(shop: httpx.AsyncClient) -> None:
    for content in (b'{"a": ', b"[" * 5000, b"NaN", b'{"a": ' + b" " * 300_000):
        refused = await shop.put(SHOP, content=content)
        assert refused.status_code == 400
        assert "the body must be" in refused.json()["detail"]


# Large documents


async def test_a_large_body_is_not_parsed_on_the_event_loop(
    shop: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    real = json_text.parsed

    def watched(text: bytes) -> Any:
        threads.append(threading.current_thread())
        return real(text)

    monkeypatch.setattr(reply.json_text, "parsed", watched)
    values = [{"n": n} for n in range(40_000)]
    document = {"metadata": {"name": "large"}, "status": {"results": {"values": values}}}
    await send(shop, "POST", RUN, document)
    assert threads
    assert threading.main_thread() not in threads
    assert (await shop.get(RUN)).json()["data"]["status"]["results"]["values"] == values


async def test_secrets_are_masked_and_put_back_away_from_the_event_loop(
    shop: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    masking, restoring = functions.masked_function, functions.restored_function

    def masked(function: dict[str, Any]) -> dict[str, Any]:
        threads.append(threading.current_thread())
        return masking(function)

    def restored(*given: dict[str, Any]) -> dict[str, Any]:
        threads.append(threading.current_thread())
        return restoring(*given)

    monkeypatch.setattr(functions, "masked_function", masked)
    monkeypatch.setattr(functions, "restored_function", restored)
    env = [{"name": "API_KEY", "value": "hushhush"}]
    await send(shop, "POST", f"{SHOP}/functions/f", {"kind": "job", "spec": {"env": env}})
    assert "hushhush" not in (await shop.get(f"{SHOP}/functions")).text
    assert len(threads) == 2
    assert threading.main_thread() not in threads


# Projects whose parts are left out


@pytest.mark.parametrize("body", [{"spec": {"description": "d"}}, {"metadata": None}, {}])
async def test_a_project_has_the_name_of_its_path(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    saved = await client.put("/api/v1/projects/nameless", json=body)
    assert saved.status_code == 200, saved.text
    assert saved.json()["metadata"]["name"] == "nameless"
    listed = await client.get("/api/v1/projects", params={"format": "name_only"})
    assert "nameless" in listed.json()["projects"]
    assert (await client.get("/api/v1/project-summaries")).status_code == 200


async def test_a_patch_cannot_take_the_name_away(shop: httpx.AsyncClient) -> None:
    for gone in ({"metadata": None}, {"metadata": {"name": None}}):
        changed = await shop.patch(SHOP, json=gone)
        assert changed.status_code == 200, changed.text
        assert changed.json()["metadata"]["name"] == "shop"
    listed = await shop.get("/api/v1/projects", params={"format": "name_only"})
    assert "shop" in listed.json()["projects"]


@pytest.mark.parametrize("field", ["metadata", "spec", "status"])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "POST"])
async def test_parts_of_a_project_that_are_no_objects_are_refused(
    shop: httpx.AsyncClient, method: str, field: str
) -> None:
    path = "/api/v1/projects" if method == "POST" else SHOP
    refused = await shop.request(method, path, json={"metadata": {"name": "shop"}, field: "x"})
    assert refused.status_code == 400
    assert f"project.{field} must be an object, was str" in refused.json()["detail"]
    assert (await shop.get("/api/v1/projects")).status_code == 200


# Images


@pytest.mark.parametrize("kind", ["job", "dask", "mpijob", "spark", "databricks", "local"])
async def test_building_an_image_is_not_supported_and_neither_is_following_it(
    shop: httpx.AsyncClient, kind: str
) -> None:
    body = {"kind": kind, "metadata": {"name": "trainer", "project": "shop"}, "spec": {}}
    refused = await shop.post("/api/v1/build/function", json={"function": body})
    assert refused.status_code == 501
    assert "builds no images" in refused.json()["detail"]
    asked = {"name": "trainer", "project": "shop"}
    assert (await shop.get("/api/v1/build/status", params=asked)).status_code == 404
    await send(shop, "POST", f"{SHOP}/functions/trainer", body)
    followed = await shop.get("/api/v1/build/status", params=asked)
    assert followed.status_code == 501
    assert kind in followed.json()["detail"]


# A model router without a project


async def test_a_router_that_knows_no_project_finds_no_endpoints(client: httpx.AsyncClient) -> None:
    found = await client.get("/api/v1/projects//model-endpoints")
    assert found.status_code == 200
    assert found.json() == {"endpoints": []}
