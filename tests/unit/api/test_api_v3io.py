"""The v3io stream web API, asked and read by v3io's own encoders and decoders."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest

pytest.importorskip("v3io")

from v3io.dataplane import output, request
from v3io.dataplane.response import Response

from stoker.nouns.errors import QueueFull
from stoker.nouns.stream import MAX_RECORD_BYTES
from stoker.store import Store, keys

pytestmark = pytest.mark.mlrun

MakeClient = Callable[..., httpx.AsyncClient]
STREAM = "shop/orders/"


class V3ioClient:
    """What `v3io.dataplane.Client` sends, over the app: its requests, its answers."""

    def __init__(self, http: httpx.AsyncClient, *, key: str = "any", before: str = "") -> None:
        self.http = http
        self.key = key
        self.before = before

    async def send(self, encode: Any, decoded: Any = None, **arguments: Any) -> Response:
        arguments = {"stream_path": STREAM, **arguments}
        asked = request.Request("projects", self.key, None, encode, arguments, decoded)
        reply = await self.http.request(
            asked.method,
            f"http://127.0.0.1:8070{self.before}{asked.encode_path()}",
            headers=asked.headers,
            content=asked.body,
        )
        return Response(decoded, reply.status_code, reply.headers, reply.content)

    async def create(self, shards: int = 2, **arguments: Any) -> Response:
        return await self.send(request.encode_create_stream, shard_count=shards, **arguments)

    async def describe(self, **arguments: Any) -> Response:
        return await self.send(
            request.encode_describe_stream, output.DescribeStreamOutput, **arguments
        )

    async def put(self, *records: dict[str, Any]) -> Response:
        return await self.send(
            request.encode_put_records, output.PutRecordsOutput, records=list(records)
        )

    async def seek(self, shard: int, kind: str, **arguments: Any) -> Response:
        return await self.send(
            request.encode_seek_shard,
            output.SeekShardOutput,
            stream_path=f"{STREAM}{shard}/",
            seek_type=kind,
            **arguments,
        )

    async def get(self, shard: int, location: str, limit: int | None = None) -> Response:
        return await self.send(
            request.encode_get_records,
            output.GetRecordsOutput,
            stream_path=f"{STREAM}{shard}/",
            location=location,
            limit=limit,
        )

    async def all_of(self, shard: int) -> list[bytes]:
        sought = await self.seek(shard, "EARLIEST")
        got = await self.get(shard, sought.output.location)
        return [record.data for record in got.output.records]


@pytest.fixture
def v3io(client: httpx.AsyncClient) -> V3ioClient:
    return V3ioClient(client)


def error(reply: Response) -> tuple[int, str]:
    """The status, and the exception's name."""
    return reply.status_code, orjson.loads(reply.body)["ErrorMessage"].partition(":")[0]


async def test_a_stream_is_created_once_and_described(v3io: V3ioClient) -> None:
    assert (await v3io.create(3, retention_period_hours=48)).status_code == 204
    again = await v3io.create(3)
    # mlrun's OutputStream takes 409, storey's StreamTarget too; older ones look for the name.
    assert error(again) == (409, "ResourceInUseException")
    described = await v3io.describe()
    assert described.status_code == 200
    assert described.output.shard_count == 3
    assert described.output.retention_period_hours == 48
    assert error(await v3io.describe(stream_path="shop/none/")) == (
        404,
        "ResourceNotFoundException",
    )


async def test_the_asynchronous_client_begins_its_paths_with_two_slashes(
    client: httpx.AsyncClient, v3io: V3ioClient
) -> None:
    assert (await V3ioClient(client, before="/").create()).status_code == 204
    assert (await v3io.describe()).output.shard_count == 2


async def test_records_go_where_their_producer_says_and_are_read_back(v3io: V3ioClient) -> None:
    """v3io-py's own test of streams (tests/test_client.py, TestStream.test_stream)."""
    await v3io.create(8)
    put = await v3io.put(
        {"shard_id": 1, "data": "first shard record #1"},
        {"shard_id": 1, "data": "first shard record #2", "client_info": bytearray(b"some info")},
        {"shard_id": 10, "data": "invalid shard record #1"},
        {"shard_id": 2, "data": "second shard record #1"},
        {"data": "some shard record #1"},
    )
    assert put.output.failed_record_count == 1
    assert [record.error_code is None for record in put.output.records] == [
        *(True, True, False, True, True)
    ]
    assert [record.sequence_number for record in put.output.records][:2] == [1, 2]
    sought = await v3io.seek(1, "EARLIEST")
    got = await v3io.get(1, sought.output.location)
    assert [r.data for r in got.output.records] == [
        b"first shard record #1",
        b"first shard record #2",
    ]
    assert got.output.records[1].client_info == b"some info"
    assert got.output.records_behind_latest == 0
    grown = await v3io.send(request.encode_update_stream, shard_count=16)
    assert grown.status_code == 204
    assert (await v3io.put({"shard_id": 10, "data": "x"})).output.failed_record_count == 0
    shrunk = await v3io.send(request.encode_update_stream, shard_count=8)
    assert error(shrunk) == (400, "InvalidArgumentException")


async def test_records_of_one_key_stay_together_and_the_others_go_round(v3io: V3ioClient) -> None:
    await v3io.create(4)
    put = await v3io.put(*({"data": str(n), "partition_key": "k"} for n in range(6)))
    assert len({record.shard_id for record in put.output.records}) == 1
    assert [record.sequence_number for record in put.output.records] == [1, 2, 3, 4, 5, 6]
    put = await v3io.put(*({"data": str(n)} for n in range(8)))
    shards = [record.shard_id for record in put.output.records]
    assert sorted(shards) == [0, 0, 1, 1, 2, 2, 3, 3]


async def test_reading_begins_where_it_is_told_to(v3io: V3ioClient) -> None:
    await v3io.create(1)
    await v3io.put(*({"data": str(n)} for n in range(5)))
    third = (await v3io.seek(0, "SEQUENCE", starting_sequence_number=3)).output.location
    step = await v3io.get(0, third, limit=2)
    assert [r.data for r in step.output.records] == [b"2", b"3"]
    assert step.output.records_behind_latest == 1
    rest = await v3io.get(0, step.output.next_location)
    assert [r.data for r in rest.output.records] == [b"4"]
    end = (await v3io.seek(0, "LATEST")).output.location
    empty = await v3io.get(0, end)
    assert empty.output.records == []
    assert empty.output.next_location == end
    arrived = step.output.records[0]
    at = {"timestamp_sec": arrived.arrival_time_sec, "timestamp_nsec": arrived.arrival_time_nsec}
    assert (await v3io.seek(0, "TIME", **at)).status_code == 200
    missing = await v3io.seek(0, "SEQUENCE", starting_sequence_number=9)
    assert error(missing) == (400, "InvalidArgumentException")
    assert error(await v3io.seek(7, "EARLIEST")) == (404, "ResourceNotFoundException")


async def test_a_stream_is_deleted_as_the_client_does_it(
    client: httpx.AsyncClient, v3io: V3ioClient, store: Store
) -> None:
    """It lists the stream, deletes every shard as an object, then the stream."""
    await v3io.create(2)
    listed = await v3io.send(
        request.encode_get_container_contents,
        output.GetContainerContentsOutput,
        path=STREAM,
        get_all_attributes=None,
        directories_only=None,
        limit=None,
        marker=None,
    )
    assert listed.status_code == 200
    names = [entry.key for entry in listed.output.contents]
    assert names == ["shop/orders/0", "shop/orders/1"]
    for name in names:
        gone = await v3io.send(request.encode_delete_object, path=name)
        assert gone.status_code == 204
        assert await store.get_stream("projects/shop/orders") is not None
    assert (await v3io.send(request.encode_delete_object, path=STREAM)).status_code == 204
    assert await store.get_stream("projects/shop/orders") is None
    again = await v3io.send(request.encode_delete_object, path=STREAM)
    assert again.status_code == 404


@pytest.mark.parametrize(
    ("function", "body"),
    [
        ("CreateStream", {"ShardCount": 0}),
        ("CreateStream", {"ShardCount": "two"}),
        ("CreateStream", {"ShardCount": 1, "RetentionPeriodHours": -1}),
        ("PutRecords", {}),
        ("PutRecords", {"Records": []}),
        ("PutRecords", {"Records": "x"}),
        ("PutRecords", {"Records": ["x"]}),
        ("PutRecords", {"Records": [{}]}),
        ("PutRecords", {"Records": [{"Data": "not base64!"}]}),
        ("PutRecords", {"Records": [{"Data": "eA==", "ShardId": "0"}]}),
        ("PutRecords", {"Records": [{"Data": "eA==", "PartitionKey": 7}]}),
        ("PutRecords", {"Records": [{"Data": "eA==", "ClientInfo": "?"}]}),
        ("PutRecords", {"Records": [{"Data": "eA=="}] * 1001}),
    ],
)
async def test_what_cannot_be_understood_is_refused_in_v3ios_words(
    client: httpx.AsyncClient, v3io: V3ioClient, function: str, body: Any
) -> None:
    await v3io.create()
    path = "/projects/other/" if function == "CreateStream" else "/projects/shop/orders/"
    reply = await client.post(path, json=body, headers={"X-v3io-function": function})
    assert reply.status_code == 400
    assert reply.json()["ErrorMessage"].startswith("InvalidArgumentException: ")
    assert reply.json()["ErrorCode"] < 0


async def test_a_body_that_is_no_json_or_too_large_is_refused(
    make_client: MakeClient, client: httpx.AsyncClient, v3io: V3ioClient
) -> None:
    await v3io.create()
    headers = {"X-v3io-function": "PutRecords"}
    cut = await client.post("/projects/shop/orders/", content=b'{"Records": [', headers=headers)
    assert cut.json()["ErrorMessage"].startswith("InvalidArgumentException")
    large = base64.b64encode(b"x" * (MAX_RECORD_BYTES + 1)).decode()
    too_large = await client.post(
        "/projects/shop/orders/", json={"Records": [{"Data": large}]}, headers=headers
    )
    assert too_large.status_code == 400

    async def pieces() -> Any:
        for _ in range(3):
            yield b"x" * 1000

    small = make_client(body_limit_bytes=2000)
    reply = await small.post("/projects/shop/orders/", content=pieces(), headers=headers)
    assert reply.status_code == 413
    assert reply.json()["ErrorMessage"].startswith("ServiceUnavailable")


async def test_a_full_shard_fails_the_whole_put_for_mlrun_looks_at_nothing_but_the_status(
    v3io: V3ioClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "STREAM_RECORDS", 1)
    await v3io.create(1)
    await store.subscribe("projects/shop/orders", 1, "g", from_start=True)
    assert (await v3io.put({"data": "1"})).status_code == 200
    full = await v3io.put({"data": "2"})
    assert error(full) == (429, "ServiceUnavailable")
    assert QueueFull.code in full.headers["x-stoker-error"]


async def test_what_v3io_has_and_stoker_has_not_is_501_and_named(
    client: httpx.AsyncClient, v3io: V3ioClient
) -> None:
    reply = await client.put("/projects/table/key", headers={"X-v3io-function": "PutItem"}, json={})
    assert reply.status_code == 501
    assert "PutItem" in reply.json()["ErrorMessage"]
    stored = await v3io.send(request.encode_put_object, path="a/b.txt", body=b"x", append=False)
    assert stored.status_code == 501


async def test_with_keys_the_access_key_is_one_of_them(make_client: MakeClient) -> None:
    client = make_client(api_keys=("right",))
    assert (await V3ioClient(client, key="right").create()).status_code == 204
    assert (await V3ioClient(client, key="wrong").describe()).status_code == 401
    headers = {"X-v3io-function": "CreateStream"}
    # Not under the names that are answered without a key either.
    for path in ("/page/dashboard.js", "/healthz", "//page/dashboard.js"):
        reply = await client.post(path, json={"ShardCount": 1}, headers=headers)
        assert reply.status_code in (401, 404, 405), path
    reply = await client.get("/api/streams", headers={"X-API-Key": "right"})
    assert [stream["name"] for stream in reply.json()["streams"]] == ["projects/shop/orders"]


async def test_a_page_of_another_site_cannot_put_records(
    client: httpx.AsyncClient, v3io: V3ioClient
) -> None:
    await v3io.create()
    reply = await client.post(
        "/projects/shop/orders/",
        json={"Records": [{"Data": "eA=="}]},
        headers={"X-v3io-function": "PutRecords", "Origin": "http://evil.example"},
    )
    assert reply.status_code == 403
    assert await v3io.all_of(0) == []
