"""Records of streams on their way to workers: pinned to one, acknowledged after the answer."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from fake_store import function
from stoker.nouns.errors import StokerError, WorkerLost
from stoker.nouns.wire import Kind, RecordMeta, split_meta
from stoker.sdk.routing import Call, Link

Floor = Any
Wire = Any


class Asker:
    """A caller that notes its outcome."""

    def __init__(self) -> None:
        self.response: bytes | None = None
        self.error: StokerError | None = None

    def on_response(self, call: Call, meta: Any, body: bytes) -> None:
        self.response = body

    def on_head(self, call: Call, meta: Any) -> None: ...

    def on_chunk(self, call: Call, data: bytes) -> None: ...

    def on_end(self, call: Call) -> None: ...

    def on_error(self, call: Call, error: StokerError) -> None:
        self.error = error


class Keeper:
    """A debtor that notes what it hears."""

    def __init__(self) -> None:
        self.acks: list[int] = []
        self.nacks: list[tuple[int, str]] = []
        self.refused = 0
        self.lost = 0

    def on_ack(self, link: Link, offset: int) -> None:
        self.acks.append(offset)

    def on_nack(self, link: Link, offset: int, reason: str) -> None:
        self.nacks.append((offset, reason))

    def on_refused(self, link: Link) -> None:
        self.refused += 1

    def on_link_lost(self, link: Link) -> None:
        self.lost += 1


def record(
    offset: int = 1, *, shard: int = 0, keeper: Keeper | None = None, pin: Link | None = None
) -> tuple[Call, Asker]:
    asker = Asker()
    meta: RecordMeta = {
        "kind": "v3io-stream",
        "topic": "orders",
        "shard": shard,
        "shards": 2,
        "offset": offset,
        "time": 1.5,
        "explicit": keeper is not None,
    }
    name = f"{shard}-{offset}"
    call = Call(
        asker, name, "", "/", {}, b"x", trigger="stream", record=meta, debtor=keeper, pin=pin
    )
    return call, asker


def link_of(floor: Floor, name: str) -> Link:
    return floor.router.lanes["echo"].links[name, 0]


def ack(wire: Wire, offset: int, shard: int = 0) -> None:
    wire.say(Kind.ACK, 0, {"trigger": "stream", "shard": shard, "offset": offset})


async def test_a_worker_is_told_where_a_record_comes_from(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a")
    call, _ = record(7)
    floor.router.submit("echo", call)
    ((_, _, payload),) = [frame for frame in wire.frames if frame[0] == Kind.REQUEST]
    meta: dict[str, Any] = orjson.loads(split_meta(payload)[0])
    assert meta["trigger"] == "stream"
    assert meta["record"] == call.record


async def test_an_acknowledgement_comes_after_the_answer(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a")
    keeper = Keeper()
    call, asker = record(keeper=keeper)
    floor.router.submit("echo", call)
    wire.respond(call.stream)
    assert asker.response is not None
    # The permit is free again, the acknowledgement still to come.
    floor.ask("next")
    assert wire.ids == ["0-1", "next"]
    ack(wire, 1)
    assert keeper.acks == [1]
    wire.say(Kind.NACK, 0, {"trigger": "stream", "shard": 0, "offset": 2, "reason": "it raised"})
    assert keeper.nacks == [(2, "it raised")]
    # Of a shard that was not brought by this connection, nobody wants to know.
    ack(wire, 5, shard=1)
    assert keeper.acks == [1]


async def test_a_worker_that_owes_acknowledgements_counts_as_busy_with_one_request(
    floor: Floor,
) -> None:
    floor.put()
    wire = await floor.worker("a", permits=4)
    keeper = Keeper()
    for offset in (1, 2, 3):
        call, _ = record(offset, keeper=keeper)
        floor.router.submit("echo", call)
        wire.respond(call.stream)
    demand = floor.router.demand()["echo"]
    assert (demand.in_flight, demand.by_replica) == (1, {"a": 1})
    link_of(floor, "a").settle("stream", 0)
    assert floor.router.demand()["echo"].in_flight == 0


async def test_a_draining_worker_keeps_its_connection_until_it_owes_nothing(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a")
    keeper = Keeper()
    call, _ = record(keeper=keeper)
    floor.router.submit("echo", call)
    wire.respond(call.stream)
    link = link_of(floor, "a")
    wire.state("draining")
    floor.router.remove_replica("a")
    assert not wire.closed
    ack(wire, 1)
    assert keeper.acks == [1]
    link.settle("stream", 0)
    assert wire.closed


async def test_whoever_waits_for_acknowledgements_hears_of_a_lost_worker(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a")
    keeper = Keeper()
    call, _ = record(keeper=keeper)
    floor.router.submit("echo", call)
    wire.respond(call.stream)
    wire.end()
    assert keeper.lost == 1
    assert floor.router.demand()["echo"].in_flight == 0


async def test_a_record_whose_worker_dies_is_not_run_again_unasked(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a")
    await floor.worker("b")
    call, asker = record(keeper=Keeper())
    floor.router.submit("echo", call)
    assert wire.ids == ["0-1"]
    wire.end()
    assert isinstance(asker.error, WorkerLost)


async def test_a_pinned_record_waits_for_its_worker_while_others_are_free(floor: Floor) -> None:
    floor.put()
    one, other = await floor.worker("a"), await floor.worker("b")
    pin = link_of(floor, "a")
    first, _ = record(1, pin=pin)
    second, _ = record(2, pin=pin)
    floor.router.submit("echo", first)
    floor.router.submit("echo", second)
    floor.ask("free")
    assert (one.ids, other.ids) == (["0-1"], ["free"])
    one.respond(first.stream)
    assert one.ids == ["0-1", "0-2"]


@pytest.mark.parametrize("end", ["dies", "drains"])
async def test_when_its_worker_goes_a_waiting_record_goes_to_another_one(
    floor: Floor, end: str
) -> None:
    floor.put()
    one, other = await floor.worker("a"), await floor.worker("b")
    pin = link_of(floor, "a")
    running, _ = record(1, pin=pin)
    waiting, asker = record(2, pin=pin)
    floor.router.submit("echo", running)
    floor.router.submit("echo", waiting)
    if end == "dies":
        one.end()
    else:
        one.state("draining")
    assert other.ids == ["0-2"]
    other.respond(waiting.stream)
    assert asker.response is not None


async def test_a_refused_record_waits_for_its_own_worker_again(floor: Floor) -> None:
    floor.put()
    one, other = await floor.worker("a"), await floor.worker("b")
    keeper = Keeper()
    call, _ = record(1, keeper=keeper, pin=link_of(floor, "a"))
    floor.router.submit("echo", call)
    one.say(Kind.BUSY, call.stream, {"reason": "full"})
    assert keeper.refused == 1
    assert other.ids == []
    one.say(Kind.IDLE, 0)
    assert one.ids == ["0-1", "0-1"]


async def test_a_record_that_nobody_wants_any_more_waits_no_longer(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a")
    pin = link_of(floor, "a")
    running, _ = record(1, pin=pin)
    waiting, _ = record(2, pin=pin)
    floor.router.submit("echo", running)
    floor.router.submit("echo", waiting)
    waiting.cancel()
    wire.respond(running.stream)
    assert wire.ids == ["0-1"]


async def test_a_deleted_function_tells_those_who_wait_for_one_worker_too(floor: Floor) -> None:
    floor.put()
    await floor.worker("a")
    pin = link_of(floor, "a")
    running, _ = record(1, pin=pin)
    waiting, asker = record(2, pin=pin)
    floor.router.submit("echo", running)
    floor.router.submit("echo", waiting)
    floor.router.remove_function("echo")
    assert asker.error is not None
    assert asker.error.code == "function_not_found"


async def test_a_function_at_zero_is_woken_by_a_record(floor: Floor) -> None:
    floor.put(function())
    call, asker = record()
    floor.router.submit("echo", call)
    assert floor.wakes == ["echo"]
    wire = await floor.worker("a")
    wire.respond(call.stream)
    assert asker.response is not None


async def test_records_of_a_worker_do_not_starve_those_who_wait_for_any(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a")
    link = link_of(floor, "a")
    running, _ = record(1, pin=link)
    floor.router.submit("echo", running)
    floor.ask("anyone")
    later, _ = record(2, pin=link)
    floor.router.submit("echo", later)
    demand = floor.router.demand()["echo"]
    assert (demand.in_flight, demand.waiting) == (1, 2), "who waits for his worker is demand too"
    wire.respond(running.stream)
    assert wire.ids == ["0-1", "anyone"]
    (stream,) = [stream for kind, stream, _ in wire.frames[-1:] if kind == Kind.REQUEST]
    wire.respond(stream)
    assert wire.ids == ["0-1", "anyone", "0-2"]
