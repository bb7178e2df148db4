"""Streams as people see them on the control port."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from stoker.nouns.errors import QueueFull
from stoker.nouns.stream import NewRecord
from stoker.store import Store, keys

NAME = "projects/shop/orders"
URL = f"/api/streams/{NAME}"
Document = Callable[..., dict[str, Any]]

TRIGGER = {
    "kind": "v3ioStream",
    "attributes": {
        "containerName": "projects",
        "streamPath": "shop/orders",
        "consumerGroup": "readers",
    },
}


@pytest.fixture
async def orders(store: Store) -> Store:
    """Two shards; in the first, of three records one is done, one given up, one not read yet."""
    await store.create_stream(NAME, 2, 24)
    await store.subscribe(NAME, 2, "readers", from_start=True)
    await store.hold_lease(keys.stream_lease(NAME, 0, "readers"), "g0", 10)
    await store.put_records(
        NAME, 0, [NewRecord(b"one"), NewRecord(b"two", "k"), NewRecord(b"\xff")]
    )
    taken = await store.take_records(NAME, 0, "readers", owner="g0", limit=2)
    assert taken is not None
    await store.ack_records(NAME, 0, "readers", [1])
    await store.bury_record(
        NAME, "readers", taken.records[1], reason="500: it raised", function="shop-score"
    )
    return store


async def test_a_listing_says_how_far_each_group_is_and_who_reads(
    client: httpx.AsyncClient, orders: Store, function: Document, settling: None
) -> None:
    await client.post("/api/functions", json=function("score", triggers={"s": TRIGGER}))
    (row,) = (await client.get("/api/streams")).json()["streams"]
    assert (row["name"], row["container"], row["path"]) == (NAME, "projects", "shop/orders")
    assert (row["shards"], row["records"], row["retentionHours"]) == (2, 3, 24)
    (group,) = row["groups"]
    assert group == {"name": "readers", "lag": 1, "pending": 0, "dead": 1, "functions": ["score"]}


async def test_a_reader_that_has_not_begun_is_behind_by_all_that_it_will_read(
    client: httpx.AsyncClient, orders: Store, function: Document, settling: None
) -> None:
    for name, seek in (("all", "earliest"), ("new", "latest")):
        own = TRIGGER["attributes"] | {"consumerGroup": name, "seekTo": seek}
        trigger = TRIGGER | {"attributes": own}
        await client.post("/api/functions", json=function(name, triggers={"s": trigger}))
    (row,) = (await client.get("/api/streams")).json()["streams"]
    lags = {group["name"]: group["lag"] for group in row["groups"]}
    assert lags == {"all": 3, "new": 0, "readers": 1}


async def test_one_stream_is_shown_shard_by_shard(client: httpx.AsyncClient, orders: Store) -> None:
    first, second = (await client.get(URL)).json()["shardStates"]
    assert (first["first"], first["last"], first["records"]) == (1, 3, 3)
    assert first["groups"][0]["consumer"] == "g0"
    assert second["records"] == 0
    missing = await client.get("/api/streams/projects/none")
    assert missing.status_code == 404
    assert "projects/none" in missing.json()["error"]["message"]


async def test_a_misspelt_stream_is_refused_with_near_names(
    client: httpx.AsyncClient, orders: Store
) -> None:
    missing = (await client.get("/api/streams/projects/shop/ordrs")).json()["error"]
    assert missing["near"] == [NAME]
    assert missing["message"].endswith(f"near names: {NAME}")


async def test_nobody_gave_up_what_nobody_reads(client: httpx.AsyncClient, store: Store) -> None:
    await store.create_stream(NAME, 1, 24)
    refused = await client.get(f"{URL}/dead")
    assert refused.status_code == 404
    assert "nobody reads 'projects/shop/orders'" in refused.json()["error"]["message"]


async def test_records_are_shown_as_text_or_as_base64(
    client: httpx.AsyncClient, orders: Store
) -> None:
    shown = (await client.get(f"{URL}/records", params={"from": 2, "limit": 5})).json()
    assert [record.get("text") for record in shown["records"]] == ["two", None]
    assert shown["records"][0]["key"] == "k"
    assert shown["records"][1]["base64"] == "/w=="
    assert shown["next"] == 4
    empty = (await client.get(f"{URL}/records", params={"shard": 1})).json()
    assert empty == {"records": [], "next": 1}


@pytest.mark.parametrize("query", [{"shard": 2}, {"shard": "x"}, {"from": "-1"}, {"limit": 0}])
async def test_a_bad_question_is_refused(
    client: httpx.AsyncClient, orders: Store, query: dict[str, Any]
) -> None:
    reply = await client.get(f"{URL}/records", params=query)
    assert reply.status_code == 400
    assert next(iter(query)) in reply.json()["error"]["message"]


async def test_dead_letters_tell_what_why_and_when(
    client: httpx.AsyncClient, orders: Store
) -> None:
    shown = (await client.get(f"{URL}/dead")).json()
    assert (shown["group"], shown["total"]) == ("readers", 1)
    (letter,) = shown["dead"]
    assert (letter["text"], letter["shard"], letter["sequence"]) == ("two", 0, 2)
    assert (letter["reason"], letter["function"]) == ("500: it raised", "shop-score")
    after = await client.get(f"{URL}/dead", params={"after": letter["id"]})
    assert after.json()["dead"] == []


async def test_a_group_is_named_where_there_are_several(
    client: httpx.AsyncClient, orders: Store
) -> None:
    await orders.subscribe(NAME, 2, "others", from_start=True)
    asked = await client.get(f"{URL}/dead")
    assert asked.status_code == 400
    assert "others, readers" in asked.json()["error"]["message"]
    unknown = await client.get(f"{URL}/dead", params={"group": "x"})
    assert unknown.status_code == 404
    assert (await client.get(f"{URL}/dead", params={"group": "others"})).json()["total"] == 0


@pytest.mark.parametrize("chosen", [True, "its id"])
async def test_dead_letters_are_replayed(
    client: httpx.AsyncClient, orders: Store, chosen: Any
) -> None:
    (letter,) = (await client.get(f"{URL}/dead")).json()["dead"]
    body = {"dead": [letter["id"]] if chosen == "its id" else chosen}
    reply = await client.post(f"{URL}/replay", json=body)
    assert reply.json() == {"group": "readers", "replayed": 1}
    taken = await orders.take_records(NAME, 0, "readers", owner="g0", limit=9)
    assert taken is not None
    assert [record.data for record in taken.records] == [b"\xff", b"two"]
    assert (await client.get(f"{URL}/dead")).json()["total"] == 0


async def test_one_record_is_replayed_by_its_sequence_number(
    client: httpx.AsyncClient, orders: Store
) -> None:
    reply = await client.post(f"{URL}/replay", json={"sequence": 1, "shard": 0})
    assert reply.json()["replayed"] == 1
    taken = await orders.take_records(NAME, 0, "readers", owner="g0", limit=9)
    assert taken is not None
    assert [record.data for record in taken.records] == [b"\xff", b"one"]
    assert (await client.post(f"{URL}/replay", json={"sequence": 99})).status_code == 404


@pytest.mark.parametrize(
    ("asked", "begins"),
    [
        ({"from": "earliest"}, {"0": 1, "1": 1}),
        ({"from": 2, "shard": 0}, {"0": 2}),
        ({"since": 0}, {"0": 1, "1": 1}),
        ({"since": "2020-01-01T00:00:00+00:00"}, {"0": 1, "1": 1}),
        ({"since": "2120-01-01T00:00:00+00:00"}, {"0": 4, "1": 1}),
    ],
)
async def test_a_group_reads_again_from_a_place_or_a_time_on(
    client: httpx.AsyncClient, orders: Store, asked: dict[str, Any], begins: dict[str, int]
) -> None:
    reply = await client.post(f"{URL}/replay", json=asked)
    assert reply.json() == {"group": "readers", "rewound": begins}
    taken = await orders.take_records(NAME, 0, "readers", owner="g0", limit=9)
    assert taken is not None
    first = begins["0"]
    assert [record.sequence for record in taken.records] == list(range(first, 4))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"dead": True, "from": 1},
        {"dead": []},
        {"dead": ["x"]},
        {"dead": "all"},
        {"from": "latest"},
        {"since": "yesterday"},
        {"since": "2020-01-01T00:00:00"},
        {"sequence": 0},
        {"from": 1, "shard": 5},
    ],
)
async def test_a_replay_that_cannot_be_meant_is_refused(
    client: httpx.AsyncClient, orders: Store, asked: dict[str, Any]
) -> None:
    reply = await client.post(f"{URL}/replay", json=asked)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "bad_request"


async def test_a_stream_is_deleted(client: httpx.AsyncClient, orders: Store) -> None:
    assert (await client.delete(URL)).status_code == 204
    assert (await client.get("/api/streams")).json() == {"streams": []}
    assert (await client.delete(URL)).status_code == 404


async def test_the_deploy_log_says_what_a_stream_trigger_does_here(
    client: httpx.AsyncClient, function: Document
) -> None:
    async def log(name: str, *triggers: dict[str, Any], **spec: Any) -> str:
        document = function(name, triggers=dict(zip("abc", triggers, strict=False)), **spec)
        assert (await client.post("/api/functions", json=document)).status_code == 202
        status = (await client.get(f"/api/functions/{name}")).json()["status"]
        return "\n".join(line["message"] for line in status["logs"])

    static = {"attributes": TRIGGER["attributes"] | {"workerAllocationMode": "static"}}
    explicit = TRIGGER | {"explicitAckMode": "explicitOnly"}
    graph = {"env": [{"name": "SERVING_SPEC_ENV", "value": "{}"}]}
    assert await log("plain", TRIGGER) == ""
    assert await log("static", explicit | static) == ""
    assert "taken as static" in await log("pool", explicit)
    assert "no effect on a graph" in await log("both", explicit | static, {"kind": "http"}, **graph)
    foreign = await log("foreign", TRIGGER | {"url": "https://webapi.example.com"})
    assert "webapi.example.com" in foreign
    assert "no Kafka is read here" in await log("kafka", {"kind": "kafka-cluster"})
    wrong = TRIGGER | {"attributes": {"containerName": "projects"}}
    reply = await client.post("/api/functions", json=function("wrong", triggers={"s": wrong}))
    assert reply.status_code == 400
    assert "streamPath" in reply.json()["error"]


async def test_a_group_that_nobody_reads_in_is_forgotten_and_holds_no_producer_up(
    client: httpx.AsyncClient, orders: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "STREAM_RECORDS", 3)
    await orders.put_records(NAME, 0, [NewRecord(b"four")])  # the first two are done with
    await orders.put_records(NAME, 0, [NewRecord(b"five")])
    with pytest.raises(QueueFull):
        await orders.put_records(NAME, 0, [NewRecord(b"six")])
    reply = await client.delete(f"{URL}/groups/readers")
    assert (reply.status_code, reply.json()) == (200, {"group": "readers", "dead": 1})
    await orders.put_records(NAME, 0, [NewRecord(b"six")])
    assert (await client.get(URL)).json()["groups"] == []
    assert await orders.count_dead(NAME, "readers") == 0
    assert (await client.delete(f"{URL}/groups/readers")).status_code == 404


async def test_a_group_that_a_function_reads_in_is_not_forgotten(
    client: httpx.AsyncClient, orders: Store, function: Document, settling: None
) -> None:
    await client.post("/api/functions", json=function("score", triggers={"s": TRIGGER}))
    reply = await client.delete(f"{URL}/groups/readers")
    assert reply.status_code == 409
    assert "read by score" in reply.json()["error"]["message"]
    (group,) = (await client.get(URL)).json()["groups"]
    assert (group["name"], group["lag"], group["dead"]) == ("readers", 1, 1)
