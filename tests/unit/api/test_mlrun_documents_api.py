"""MLRun's projects, artifacts and runs over HTTP, as its client asks for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.types import Message

from stoker.api import ApiSettings, build_app
from stoker.nouns.home import Home
from stoker.store import Store
from stoker.store.catalog import Catalog
from stoker.store.catalog.artifact_search import ArtifactSearch

MakeClient = Callable[..., httpx.AsyncClient]
Document = Callable[..., dict[str, Any]]
V1, V2 = "/api/v1/projects", "/api/v2/projects"


@pytest.fixture
async def shop(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client of a platform with the project shop."""
    created = await client.post(V1, json={"metadata": {"name": "shop"}})
    assert created.status_code == 201
    return client


async def artifact(client: httpx.AsyncClient, key: str, tree: str = "t", **query: Any) -> Any:
    body = {"kind": "artifact", "metadata": {"key": key}, "spec": {"tree": tree}, "status": {}}
    params = {"tree": tree, **query}
    reply = await client.put(f"{V2}/shop/artifacts/{key}", json=body, params=params)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def run(client: httpx.AsyncClient, uid: str, state: str = "completed", **extra: Any) -> None:
    body = {"metadata": {"name": "train", "uid": uid, **extra}, "status": {"state": state}}
    reply = await client.post(f"{V1}/shop/runs/{uid}", json=body)
    assert (reply.status_code, reply.json()) == (200, {})


# projects


async def test_a_project_comes_back_whole_with_what_its_readers_rely_on(
    client: httpx.AsyncClient,
) -> None:
    sent = {
        "kind": "project",
        "metadata": {"name": "shop", "labels": {"team": "blue"}, "annotations": {"a": "b"}},
        "spec": {"description": "x", "functions": [{"name": "f"}], "params": {"p": [1]}, "own": 1},
        "status": {"state": "creating"},
    }
    created = await client.post(V1, params={"wait-for-completion": "false"}, json=sent)
    assert created.status_code == 201
    found = (await client.get(f"{V1}/shop")).json()
    assert found == created.json()
    assert found["metadata"].items() >= sent["metadata"].items()
    assert found["spec"].items() >= sent["spec"].items()
    assert found["status"]["state"] == "online"
    assert found["metadata"]["created"]
    again = await client.post(V1, json=sent)
    assert again.status_code == 409
    assert "shop" in again.json()["detail"]


async def test_saving_replaces_and_keeps_when_it_was_made(shop: httpx.AsyncClient) -> None:
    before = (await shop.get(f"{V1}/shop")).json()
    body = {"metadata": {"name": "shop"}, "spec": {"goals": "more"}}
    saved = (await shop.put(f"{V1}/shop", json=body)).json()
    assert saved["metadata"]["created"] == before["metadata"]["created"]
    assert saved["spec"]["goals"] == "more"
    renamed = await shop.put(f"{V1}/shop", json={"metadata": {"name": "bank"}})
    assert renamed.status_code == 400
    fresh = await shop.put(f"{V1}/bank", json={"metadata": {"name": "bank"}})
    assert fresh.status_code == 200


@pytest.mark.parametrize(
    ("mode", "goals", "functions"),
    [("replace", "more", [2]), ("additive", "more", [1, 2]), (None, "more", [2])],
)
async def test_a_patch_merges(
    shop: httpx.AsyncClient, mode: str | None, goals: str, functions: list[int]
) -> None:
    spec = {"functions": [1], "description": "kept"}
    await shop.put(f"{V1}/shop", json={"metadata": {"name": "shop"}, "spec": spec})
    patch = {"spec": {"functions": [2], "goals": goals}, "metadata": {"labels": {"a": "b"}}}
    headers = {"x-mlrun-patch-mode": mode} if mode else {}
    patched = (await shop.patch(f"{V1}/shop", json=patch, headers=headers)).json()
    assert (
        patched["spec"].items()
        >= {
            "description": "kept",
            "goals": goals,
            "functions": functions,
        }.items()
    )
    assert (await shop.get(V1, params={"format": "name_only", "label": "a=b"})).json() == {
        "projects": ["shop"]
    }


@pytest.mark.parametrize("name", ["Bad_Name", "-x", "x-", "a" * 64, "", None, 7, "a\nb", "shop\n"])
async def test_names_that_nuclio_refuses_are_refused_in_mlruns_words(
    client: httpx.AsyncClient, name: Any
) -> None:
    reply = await client.post(V1, json={"metadata": {"name": name}})
    assert reply.status_code == 400
    detail = reply.json()["detail"]
    assert detail.startswith("Field 'project.metadata.name' is malformed. '")
    assert "does not match required pattern: ^" in detail
    assert len(detail) < 250
    assert (await client.get(V1, params={"format": "name_only"})).json()["projects"] == ["default"]


async def test_the_formats_of_a_list(shop: httpx.AsyncClient) -> None:
    for wanted, expected in (
        ("name_only", ["default", "shop"]),
        ("minimal", [None, None]),
        ("full", [[], []]),
    ):
        found = (await shop.get(V1, params={"format": wanted})).json()["projects"]
        shown = [one if isinstance(one, str) else one["spec"]["functions"] for one in found]
        assert shown == expected
    pairs = (await shop.get(V1, params={"format": "name_and_creation_time"})).json()["projects"]
    assert [name for name, _created in pairs] == ["default", "shop"]
    refused = await shop.get(V1, params={"format": "leader"})
    assert refused.status_code == 400


async def test_both_apis_know_each_others_projects(client: httpx.AsyncClient) -> None:
    spec = {"description": "x", "functions": [{"name": "f"}]}
    await client.post(V1, json={"metadata": {"name": "made-here"}, "spec": spec})
    nuclio = (await client.get("/api/projects/made-here")).json()
    assert (nuclio["metadata"]["name"], nuclio["spec"]) == ("made-here", {"description": "x"})
    there = {"metadata": {"name": "made-there"}, "spec": {"description": "y"}}
    assert (await client.post("/api/projects", json=there)).status_code == 201
    mlrun = (await client.get(f"{V1}/made-there")).json()
    assert (mlrun["metadata"]["name"], mlrun["spec"]["description"]) == ("made-there", "y")
    assert mlrun["status"]["state"] == "online"
    names = (await client.get(V1, params={"format": "name_only"})).json()["projects"]
    assert names == ["default", "made-here", "made-there"]
    assert (await client.delete(f"{V2}/made-here")).status_code == 204
    assert set((await client.get("/api/projects")).json()) == {"default", "made-there"}


async def test_an_unknown_project_is_named_with_near_ones_everywhere(
    shop: httpx.AsyncClient,
) -> None:
    for method, path in (
        ("GET", f"{V1}/shap"),
        ("GET", f"{V2}/shap/artifacts"),
        ("GET", f"{V2}/shap/artifacts/key"),
        ("PUT", f"{V2}/shap/artifacts/key"),
        ("POST", f"{V1}/shap/runs/u1"),
        ("GET", f"{V1}/shap/runs"),
        ("GET", f"{V1}/shap/logs/u1"),
        ("POST", f"{V1}/shap/secrets"),
        ("GET", f"{V1}/shap/secret-keys"),
        ("GET", f"{V1}/shap/datastore-profiles"),
        ("GET", f"{V1}/shap/background-tasks"),
        ("GET", "/api/v1/project-summaries/shap"),
    ):
        body = {"metadata": {"name": "x", "key": "key"}}
        reply = await shop.request(method, path, json=None if method == "GET" else body)
        assert reply.status_code == 404, path
        said = reply.json()
        assert said["detail"] == "Project shap does not exist; there is shop", path
        assert said["error"]["near"] == ["shop"]


@pytest.mark.parametrize("strategy", ["restrict", "restricted", "check", None])
async def test_a_project_with_something_in_it_is_deleted_only_on_purpose(
    shop: httpx.AsyncClient, store: Store, function: Document, strategy: str | None
) -> None:
    await artifact(shop, "model")
    await run(shop, "u1")
    await shop.post("/api/functions", json=function())
    headers = {"x-mlrun-deletion-strategy": strategy} if strategy else {}
    refused = await shop.delete(f"{V2}/shop", headers=headers)
    assert refused.status_code == 412
    assert refused.json()["detail"] == (
        "Project shop can not be deleted since related resources found: "
        "artifacts (1), runs (1), functions (1)"
    )
    assert await store.list_functions() != {}
    cascade = {"x-mlrun-deletion-strategy": "cascade"}
    assert (await shop.delete(f"{V2}/shop", headers=cascade)).status_code == 204
    assert await store.list_functions() == {}
    assert (await shop.get(f"{V1}/shop")).status_code == 404
    assert (await shop.delete(f"{V1}/shop", headers=headers)).status_code == 204


async def test_checking_whether_a_project_may_be_deleted_deletes_nothing(
    shop: httpx.AsyncClient,
) -> None:
    check = {"x-mlrun-deletion-strategy": "check"}
    assert (await shop.delete(f"{V2}/shop", headers=check)).status_code == 204
    assert (await shop.get(f"{V1}/shop")).status_code == 200
    wrong = await shop.delete(f"{V2}/shop", headers={"x-mlrun-deletion-strategy": "burn"})
    assert wrong.status_code == 400
    assert (await shop.delete(f"{V2}/shop")).status_code == 204
    assert (await shop.get(f"{V1}/shop")).status_code == 404


async def test_summaries(shop: httpx.AsyncClient) -> None:
    await artifact(shop, "model")
    await run(shop, "u1")
    one = (await shop.get("/api/v1/project-summaries/shop")).json()
    assert (one["name"], one["files_count"], one["runs_completed_recent_count"]) == ("shop", 1, 1)
    listed = (await shop.get("/api/v1/project-summaries")).json()["project_summaries"]
    assert [summary["name"] for summary in listed] == ["default", "shop"]


# artifacts


async def test_an_artifact_is_stored_read_listed_and_deleted(shop: httpx.AsyncClient) -> None:
    stored = await artifact(shop, "model", tag="v1")
    assert stored["metadata"]["tag"] == "v1"
    found = await shop.get(f"{V2}/shop/artifacts/model", params={"tag": "v1", "format": "full"})
    assert found.json() == stored
    minimal = await shop.get(f"{V2}/shop/artifacts/model", params={"format": "minimal"})
    assert minimal.json().keys() == {"kind", "metadata", "spec", "status"}
    assert minimal.json()["spec"] == {"db_key": "model"}
    listed = (await shop.get(f"{V2}/shop/artifacts", params={"tag": "v1"})).json()
    assert listed["artifacts"] == [stored]
    tags = (await shop.get(f"{V1}/shop/artifact-tags")).json()
    assert tags == {"project": "shop", "tags": ["latest", "v1"]}
    uid = {"object-uid": stored["metadata"]["uid"]}
    assert (await shop.delete(f"{V2}/shop/artifacts/model", params=uid)).status_code == 204
    assert (await shop.get(f"{V2}/shop/artifacts/model")).status_code == 404


async def test_creating_by_post_names_the_artifact_in_its_body(shop: httpx.AsyncClient) -> None:
    metadata = {"key": "model", "tag": "v1", "tree": "t1", "iter": 2}
    body = {"kind": "model", "metadata": metadata, "spec": {}, "status": {}}
    created = await shop.post(f"{V2}/shop/artifacts", json=body)
    assert created.status_code == 201
    assert created.json()["metadata"].items() >= metadata.items()
    assert (await shop.post(f"{V2}/shop/artifacts", json=body)).status_code == 409
    wrong = await shop.post(f"{V2}/shop/artifacts", json={"kind": "model"})
    assert (wrong.status_code, "artifact.key" in wrong.json()["detail"]) == (400, True)


@pytest.mark.parametrize(
    ("path", "query", "body", "message"),
    [
        ("bad key", {}, {}, "Field 'artifact.key' is malformed"),
        ("key", {"tag": "bad tag!"}, {}, "Field 'artifact.metadata.tag' is malformed"),
        ("key", {"iter": "one"}, {}, "iter must be a whole number of at least 0, was 'one'"),
        ("key", {}, {"metadata": {"project": "bank"}}, "Conflicting project name"),
        ("key", {}, {"spec": {"db_key": "a b"}}, "Field 'artifact.db_key' is malformed"),
    ],
)
async def test_artifacts_that_are_refused(
    shop: httpx.AsyncClient, path: str, query: Any, body: Any, message: str
) -> None:
    reply = await shop.put(f"{V2}/shop/artifacts/{path}", params=query, json=body)
    assert reply.status_code == 400
    assert reply.json()["detail"].startswith(message)
    assert (await shop.get(f"{V2}/shop/artifacts")).json()["artifacts"] == []


async def test_a_listing_goes_on_from_its_token_with_its_own_conditions(
    shop: httpx.AsyncClient,
) -> None:
    for number in range(5):
        await artifact(shop, f"key{number}", tag="v1")
    await artifact(shop, "other")
    root = f"{V2}/shop/artifacts"
    query: dict[str, Any] = {"tag": "v1", "page": 1, "page-size": 2}
    seen = []
    while True:
        reply = (await shop.get(root, params=query)).json()
        seen.append([one["metadata"]["key"] for one in reply["artifacts"]])
        if not (token := reply["pagination"]["page-token"]):
            break
        query = {"page-token": token, "page-size": 200}
    assert seen == [["key4", "key3"], ["key2", "key1"], ["key0"]]
    assert reply["pagination"] == {"page": 3, "page-size": 2, "page-token": None}
    back = (await shop.get(root, params={"page-token": query["page-token"], "page": 1})).json()
    assert [one["metadata"]["key"] for one in back["artifacts"]] == seen[0]
    whole = (await shop.get(root, params={"tag": "v1"})).json()
    assert len(whole["artifacts"]) == 5
    assert set(whole["pagination"].values()) == {None}
    limited = (await shop.get(root, params={"limit": 3})).json()
    assert len(limited["artifacts"]) == 3


@pytest.mark.parametrize("token", ["x", "eHh4", "WzEsMiwzXQ==", "W1tdLCAwLCAwXQ=="])
async def test_a_token_that_is_none(shop: httpx.AsyncClient, token: str) -> None:
    reply = await shop.get(f"{V2}/shop/artifacts", params={"page-token": token})
    assert reply.status_code == 400
    assert "page-token must be one that a listing gave" in reply.json()["detail"]


async def test_tags_are_put_on_and_taken_off_over_http(shop: httpx.AsyncClient) -> None:
    stored = await artifact(shop, "model")
    one = {"key": "model", "uid": stored["metadata"]["uid"], "kind": "artifact", "iter": 0}
    body = {"kind": "artifact", "identifiers": [one]}
    tagged = await shop.put(f"{V1}/shop/tags/prod", json=body)
    assert tagged.json() == {"name": "prod", "project": "shop"}
    found = await shop.get(f"{V2}/shop/artifacts/model", params={"tag": "prod"})
    assert found.json()["metadata"]["tag"] == "prod"
    await shop.post(f"{V1}/shop/tags/only", json=body)
    assert (await shop.get(f"{V1}/shop/artifact-tags")).json()["tags"] == ["only"]
    gone = await shop.request("DELETE", f"{V1}/shop/tags/only", json=body)
    assert gone.status_code == 204
    assert (await shop.get(f"{V1}/shop/artifact-tags")).json()["tags"] == []
    for wrong, status in (
        ({"kind": "artifact", "identifiers": [{}]}, 400),
        ({"kind": "artifact"}, 400),
        ({"kind": "function", "identifiers": [one]}, 404),
    ):
        assert (await shop.put(f"{V1}/shop/tags/x", json=wrong)).status_code == status
    assert (await shop.put(f"{V1}/shop/tags/a b", json=body)).status_code == 400


@pytest.mark.parametrize(
    ("kind", "name", "strategy", "status", "left"),
    [
        ("artifact", "f.txt", "metadata-only", 204, True),
        ("artifact", "f.txt", "data-force", 204, False),
        ("artifact", "f.txt", "data-optional", 204, False),
        ("dataset", "f.parquet", "data-force", 204, False),
        ("dataset", "f.csv", "data-force", 501, True),
        ("dataset", "f.csv", "data-optional", 204, True),
        ("model", "f.txt", "data-force", 501, True),
    ],
)
async def test_an_artifacts_file_goes_with_it_when_that_is_asked_for(
    shop: httpx.AsyncClient,
    home: Home,
    kind: str,
    name: str,
    strategy: str,
    status: int,
    left: bool,
) -> None:
    file = home.root / name
    file.write_text("data")
    body = {"kind": kind, "metadata": {}, "spec": {"target_path": str(file)}}
    await shop.put(f"{V2}/shop/artifacts/key", json=body)
    path, query = f"{V2}/shop/artifacts/key", {"deletion_strategy": strategy}
    assert (await shop.delete(path, params=query)).status_code == status
    assert file.exists() is left
    assert (await shop.get(path)).status_code == (404 if status == 204 else 200)


@pytest.mark.parametrize("target", ["s3://bucket/key", "relative/file", "", "/not/there"])
async def test_data_that_cannot_be_deleted_keeps_its_artifact(
    shop: httpx.AsyncClient, target: str
) -> None:
    path = f"{V2}/shop/artifacts/key"
    await shop.put(path, json={"metadata": {}, "spec": {"target_path": target}})
    refused = await shop.delete(path, params={"deletion_strategy": "data-force"})
    assert refused.status_code in (404, 501)
    assert (await shop.get(path)).status_code == 200


async def test_a_body_that_is_cut_off_leaves_nothing_behind(
    store: Store,
    catalog: Catalog,
    home: Home,
    settings: ApiSettings,
    shop: httpx.AsyncClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = build_app(store, catalog, home, settings)
    path = f"{V2}/shop/artifacts/key"
    scope = {
        "type": "http",
        "method": "PUT",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-length", b"1000")],
    }
    messages: list[Message] = [
        {"type": "http.request", "body": b'{"metadata": {', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert await catalog.artifacts.list_all(ArtifactSearch("shop")) == []
    assert sent[0]["status"] == 400
    assert caplog.records == []


async def test_a_body_over_the_limit_is_refused_and_one_under_it_comes_back_whole(
    make_client: MakeClient,
) -> None:
    client = make_client(body_limit_bytes=3_000_000)
    await client.post(V1, json={"metadata": {"name": "shop"}})
    path = f"{V2}/shop/artifacts/big"
    body = {"metadata": {}, "spec": {"inline": "x" * 2_500_000}}
    assert (await client.put(path, json=body)).status_code == 200
    assert (await client.get(path)).json()["spec"]["inline"] == body["spec"]["inline"]
    body["spec"]["inline"] += "x" * 1_000_000
    refused = await client.put(path, json=body)
    assert refused.status_code == 413
    assert refused.json()["detail"] == "the body must be at most 3000000 bytes"
    assert len((await client.get(path)).json()["spec"]["inline"]) == 2_500_000


# runs


async def test_a_run_is_stored_updated_read_listed_and_deleted(shop: httpx.AsyncClient) -> None:
    await run(shop, "u1", state="running", labels={"workflow": "w1"})
    one = f"{V1}/shop/runs/u1"
    updates = {"status.state": "completed", "status.results": {"y": 1}}
    assert (await shop.patch(one, json=updates)).json() == {}
    found = (await shop.get(one)).json()["data"]
    assert (found["status"]["state"], found["status"]["results"]) == ("completed", {"y": 1})
    root = f"{V1}/shop/runs"
    for query, number in (
        ({"label": "workflow=w1"}, 1),
        ({"states": ["completed", "error"]}, 1),
        ({"state": "error"}, 0),
        ({"name": "~TRA", "iter": "no", "sort": "yes"}, 1),
        ({"start_time_from": "2999-01-01T00:00:00+00:00"}, 0),
        ({"end_time_to": "2999-01-01"}, 1),
        ({"uid": ["u1", "u2"]}, 1),
        ({"last": 1}, 1),
        ({"partition-by": "project_and_name", "partition-sort-by": "updated"}, 1),
    ):
        listed = (await shop.get(root, params=query)).json()["runs"]
        assert len(listed) == number, query
    everywhere = await shop.get(f"{V1}/*/runs")
    assert len(everywhere.json()["runs"]) == 1
    assert (await shop.delete(one)).json() == {}
    assert (await shop.get(one)).status_code == 404


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"start_time_from": "yesterday"}, "start_time_from must be a time in ISO 8601"),
        ({"partition-by": "name"}, "sort parameter must be provided"),
        ({"partition-by": "name", "partition-sort-by": "size"}, "partition-sort-by must be one"),
        ({"page": "0"}, "page must be a whole number of at least 1"),
    ],
)
async def test_listings_that_are_refused(
    shop: httpx.AsyncClient, query: dict[str, str], message: str
) -> None:
    reply = await shop.get(f"{V1}/shop/runs", params=query)
    assert reply.status_code == 400
    assert reply.json()["detail"].startswith(message)


async def test_clients_before_1_8_reach_the_same_runs_by_their_old_paths(
    shop: httpx.AsyncClient,
) -> None:
    body = {"metadata": {"name": "old"}, "status": {"state": "completed"}}
    assert (await shop.post("/api/v1/run/shop/u1", json=body)).status_code == 200
    assert (await shop.post("/api/v1/log/shop/u1", content=b"text")).status_code == 200
    assert (await shop.get("/api/v1/log/shop/u1")).content == b"text"
    assert len((await shop.get("/api/v1/runs", params={"project": "shop"})).json()["runs"]) == 1
    assert (await shop.get(f"{V1}/shop/runs/u1")).json()["data"]["metadata"]["name"] == "old"


async def test_a_run_of_a_client_cannot_be_aborted_from_here(shop: httpx.AsyncClient) -> None:
    await run(shop, "u1", state="running", labels={"kind": "handler"})
    refused = await shop.post(f"{V1}/shop/runs/u1/abort", json={})
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith("Run of kind handler can not be aborted")
    assert (await shop.get(f"{V1}/shop/runs/u1")).json()["data"]["status"]["state"] == "running"
    assert (await shop.delete(f"{V1}/shop/runs/u1")).status_code == 400
    many = await shop.delete(f"{V1}/shop/runs", params={"state": "running"})
    assert many.status_code == 400
    await shop.patch(f"{V1}/shop/runs/u1", json={"status.state": "aborted"})
    over = await shop.post(f"{V1}/shop/runs/u1/abort", json={})
    assert over.status_code == 409
    assert (await shop.delete(f"{V1}/shop/runs", params={"days_ago": "1"})).status_code == 200
    assert (await shop.get(f"{V1}/shop/runs")).json()["runs"] == []


async def test_a_log_tells_the_state_of_its_run(shop: httpx.AsyncClient) -> None:
    logs = f"{V1}/shop/logs/u1"
    assert (await shop.get(logs)).status_code == 404
    await run(shop, "u1", state="running")
    assert (await shop.get(f"{logs}/size")).status_code == 404
    for body in (b"first ", "zweitß".encode()):
        await shop.post(logs, params={"append": "yes"}, content=body)
    read = await shop.get(logs, params={"offset": 6, "size": 1024})
    assert read.content == "zweitß".encode()
    assert read.headers["x-mlrun-run-state"] == "running"
    assert (await shop.get(f"{logs}/size")).json() == {"size": 13}
    assert (await shop.get(logs, params={"offset": 13})).content == b""
    await shop.post(logs, params={"append": "no"}, content=b"anew")
    assert (await shop.get(logs, params={"size": -1})).content == b"anew"
    await run(shop, "u1", state="odd\nstate é")
    assert (await shop.get(logs)).headers["x-mlrun-run-state"] == "unknown"


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff"])
async def test_a_body_that_is_no_object_is_refused(shop: httpx.AsyncClient, body: bytes) -> None:
    for method, path in (("POST", f"{V1}/shop/runs/u1"), ("PUT", f"{V2}/shop/artifacts/a")):
        reply = await shop.request(method, path, content=body)
        assert reply.status_code == 400
        assert "JSON" in json.dumps(reply.json()["detail"])
