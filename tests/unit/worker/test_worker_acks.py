"""Records in a worker: the event that they become, and their explicit acknowledgement."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, cast

import nuclio_sdk
import orjson
from nuclio_sdk.event import TriggerInfo

from stoker.nouns.wire import Kind, RequestMeta
from stoker.worker.acks import FAILED, Acks
from stoker.worker.connection import Connection
from stoker.worker.event import make_event
from stoker.worker.ticket import Ticket


class FakeConnection:
    """Notes what is sent, and on which thread."""

    def __init__(self) -> None:
        self.sent: list[tuple[Kind, int, dict[str, Any]]] = []
        self.threads: set[int] = set()
        self.told = asyncio.Event()

    def send_kind(self, kind: Kind, stream: int, payload: bytes) -> None:
        self.sent.append((kind, stream, orjson.loads(payload)))
        self.threads.add(threading.get_ident())
        self.told.set()


def meta(offset: int = 7, *, shard: int = 1, explicit: bool = True) -> RequestMeta:
    return {
        "id": f"projects/orders:{shard}:{offset}",
        "method": "",
        "path": "/",
        "headers": {"x-stoker-try": "2"},
        "deadline": None,
        "trigger": "stream",
        "record": {
            "kind": "v3io-stream",
            "topic": "shop/orders",
            "shard": shard,
            "shards": 4,
            "offset": offset,
            "time": 1700000000.25,
            "explicit": explicit,
        },
    }


def ticket(to: FakeConnection, **fields: Any) -> Ticket:
    return cast(Ticket, SimpleNamespace(connection=cast(Connection, to), meta=meta(**fields)))


def event(**fields: Any) -> nuclio_sdk.Event:
    return make_event(meta(**fields), b'{"a": 1}', TriggerInfo("v3io-stream", "stream"))


async def test_a_record_becomes_the_event_that_nuclio_makes_of_it() -> None:
    made = event()
    assert (made.topic, made.shard_id, made.num_shards, made.offset) == ("shop/orders", 1, 4, 7)
    assert (made.trigger.kind, made.trigger.name) == ("v3io-stream", "stream")
    # It carries no content type, so nothing is parsed; mlrun's runtime parses it itself.
    assert (made.body, made.content_type, made.method, made.path) == (b'{"a": 1}', "", "", "/")
    assert made.timestamp.isoformat() == "2023-11-14T22:13:20.250000"
    assert made.headers["X-Stoker-Try"] == "2"


async def test_an_acknowledgement_goes_to_who_brought_the_record() -> None:
    acks, one, other = Acks(asyncio.get_running_loop()), FakeConnection(), FakeConnection()
    acks.note(ticket(one))
    acks.note(ticket(other, shard=2))
    await acks.control(
        nuclio_sdk.QualifiedOffset.from_event(event()).compile_explicit_ack_message()
    )
    assert one.sent == [(Kind.ACK, 0, {"trigger": "stream", "shard": 1, "offset": 7})]
    assert other.sent == []
    # Another gateway reads the shard by now.
    acks.note(ticket(other))
    await acks.control(event(offset=9).compile_explicit_ack_message())
    assert [ack["offset"] for _, _, ack in other.sent] == [9]


async def test_a_failure_goes_the_same_way_and_never_with_an_endless_reason() -> None:
    acks, one = Acks(asyncio.get_running_loop()), FakeConnection()
    acks.note(ticket(one))
    attributes = {"topic": "shop/orders", "partition": 1, "offset": 7, "reason": "x" * 9999}
    await acks.control({"kind": FAILED, "attributes": attributes})
    ((kind, stream, told),) = one.sent
    assert (kind, stream, told["offset"], len(told["reason"])) == (Kind.NACK, 0, 7, 2000)


async def test_older_graphs_name_every_stream_by_a_slash() -> None:
    acks, one = Acks(asyncio.get_running_loop()), FakeConnection()
    acks.note(ticket(one))
    offset = nuclio_sdk.QualifiedOffset("/", 1, 5)
    await acks.control(offset.compile_explicit_ack_message())
    assert [ack["offset"] for _, _, ack in one.sent] == [5]


async def test_what_nobody_brought_or_nobody_waits_for_is_dropped() -> None:
    acks, one = Acks(asyncio.get_running_loop()), FakeConnection()
    await acks.control(event().compile_explicit_ack_message())
    acks.note(ticket(one, explicit=False))
    await acks.control(event().compile_explicit_ack_message())
    acks.note(ticket(one))
    await acks.control(event(shard=3).compile_explicit_ack_message())
    await acks.control({"kind": "drainDone", "attributes": {}})
    assert one.sent == []


async def test_it_may_be_awaited_on_another_thread() -> None:
    acks, one = Acks(asyncio.get_running_loop()), FakeConnection()
    acks.note(ticket(one))
    message = event().compile_explicit_ack_message()
    await asyncio.to_thread(lambda: asyncio.run(acks.control(message)))
    async with asyncio.timeout(10):
        await one.told.wait()
    assert one.threads == {threading.get_ident()}


async def test_an_event_that_is_no_record_is_acknowledged_in_vain_and_not_in_error() -> None:
    """storey commits shard by shard and stops at the first error: no record after it was done."""
    acks, caller = Acks(asyncio.get_running_loop()), FakeConnection()
    acks.note(ticket(caller))
    by_http = make_event(
        {"id": "1", "method": "POST", "path": "/", "headers": {}, "deadline": None},
        b"{}",
        TriggerInfo("http", "http"),
    )
    for one in (by_http, event()):
        offset = nuclio_sdk.QualifiedOffset.from_event(one)
        await acks.control(offset.compile_explicit_ack_message())
    assert [payload["offset"] for _, _, payload in caller.sent] == [7]
