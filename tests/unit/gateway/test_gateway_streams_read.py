"""A gateway that reads streams: frames of real workers' shape, a store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from fake_worker import Connection, FakeWorker
from stoker.gateway import shard, streams
from stoker.nouns.errors import StoreUnavailable
from stoker.nouns.event import Topic
from stoker.nouns.record import FunctionRecord, FunctionState, Revision
from stoker.nouns.wire import Kind, frame

NAME = "projects/orders"
PLAIN = {"content-type": "text/plain"}
Place = Any
Answer = Callable[[Connection, int, dict[str, Any], bytes], None]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at now and then is looked at soon."""
    monkeypatch.setattr(streams, "LOOK_S", 0.002)
    monkeypatch.setattr(shard, "STORE_RETRY_S", 0.002)
    monkeypatch.setattr("stoker.gateway.insist.STORE_RETRY_S", 0.002)
    monkeypatch.setattr(shard, "pause_s", lambda _postponed, _advised: 0.002)


def reader(
    name: str = "reads",
    *,
    state: FunctionState = FunctionState.READY,
    number: int = 1,
    stream: str = "orders",
    **changed: Any,
) -> FunctionRecord:
    """A function that reads `NAME`; ``changed``: attributes of its trigger, and its ack mode."""
    mode = changed.pop("ack", None)
    trigger = {
        "kind": "v3ioStream",
        "explicitAckMode": mode,
        "attributes": {
            "containerName": "projects",
            "streamPath": stream,
            "consumerGroup": "g",
            "seekTo": "earliest",
            "retryIntervalMs": 1,
            **changed,
        },
    }
    document = {"metadata": {"name": name}, "spec": {"triggers": {"s": trigger}}}
    revision = Revision(number=number, document=document)
    return FunctionRecord(name=name, state=state, serving=revision, last_revision=number)


@pytest.fixture
async def orders(bare: Place) -> AsyncIterator[Place]:
    """One gateway, a stream of one shard, no function yet."""
    bare.store.make_stream(NAME)
    await bare.gateway()
    return bare


async def test_nothing_is_kept_of_functions_that_are_gone(orders: Place) -> None:
    """Each left its revision behind, the code in it included, in every gateway and for ever."""
    books = orders.gateways[0]._streams
    for name in ("one", "two"):
        orders.store.functions[name] = reader(name)
        orders.store.announce(Topic.FUNCTION, name)
    await orders.until(lambda: {"one", "two"} <= books._triggers.keys())
    await orders.until(lambda: books._free_since)
    for name in ("one", "two"):
        del orders.store.functions[name]
        orders.store.announce(Topic.FUNCTION, name)
    await orders.until(lambda: not books._triggers)


async def worker(place: Place, name: str = "a", of: str = "reads") -> FakeWorker:
    found: FakeWorker = await place.worker(name, of=of)
    return found


async def consumers(place: Place) -> list[Any]:
    """The gateway's own books, for what no frame shows."""
    found = place.gateways[0]._streams._consumers
    await place.until(lambda: found)
    return list(found.values())


async def successor(place: Place) -> FakeWorker:
    """A worker in place of one that died."""
    found: FakeWorker = await place.worker("b", of="reads", phase="starting")
    found.become("ready")
    return found


def answering(**by_text: int) -> Answer:
    """Answers each record with the status that is given for its text, else 200."""

    def answer(to: Connection, stream: int, meta: dict[str, Any], body: bytes) -> None:
        status = by_text.get(body.decode(), 200)
        to.respond(stream, b"it raised" if status >= 400 else b"ok", status=status)

    return answer


def seen(worker: FakeWorker) -> list[tuple[int, str]]:
    """(offset, which try), in the order of delivery."""
    return [(meta["record"]["offset"], meta["headers"]["x-stoker-try"]) for meta in worker.requests]


def ack(worker: FakeWorker, offset: int, shard_id: int = 0) -> None:
    payload = orjson.dumps({"trigger": "s", "shard": shard_id, "offset": offset})
    for connection in worker.connections:
        connection.write(frame(Kind.ACK, 0, payload))


def nack(worker: FakeWorker, offset: int) -> None:
    payload = {"trigger": "s", "shard": 0, "offset": offset, "reason": "step x: ValueError"}
    for connection in worker.connections:
        connection.write(frame(Kind.NACK, 0, orjson.dumps(payload)))


async def test_records_come_in_order_and_are_done_when_their_handler_returned(
    orders: Place,
) -> None:
    orders.store.put(NAME, "1", "2", "3")
    orders.put(reader())
    a = await worker(orders)
    await orders.until(lambda: len(a.requests) == 3 and not orders.store.held(NAME))
    assert seen(a) == [(1, "1"), (2, "1"), (3, "1")]
    assert a.peak == 1
    meta = a.requests[0]
    assert meta["record"]["topic"] == "orders"
    assert (meta["trigger"], meta["method"], meta["path"]) == ("s", "", "/")
    assert meta["id"] == "projects/orders:0:1"


async def test_a_record_that_comes_later_rings_for_itself(orders: Place) -> None:
    orders.put(reader())
    a = await worker(orders)
    await orders.until(lambda: orders.store.leases)
    orders.store.put(NAME, "late")
    await orders.until(lambda: seen(a) == [(1, "1")])


async def test_a_bell_that_rings_before_the_empty_reply_is_heard(
    orders: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come by two sockets: what rang is in the store though the reply knows nothing of it."""
    monkeypatch.setattr(shard, "LOOK_S", 3600.0)
    take, overtaken = orders.store.take_records, []

    async def late(*args: Any, **options: Any) -> Any:
        taken = await take(*args, **options)
        if not overtaken:
            (consumer,) = await consumers(orders)
            rings = consumer._rings
            overtaken.append(taken.records)
            orders.store.put(NAME, "1")
            await orders.until(lambda: orders.store.bell.empty() and consumer._rings > rings)
        return taken

    orders.store.take_records = late
    orders.put(reader())
    a = await worker(orders)
    await orders.until(lambda: seen(a) == [(1, "1")])
    assert overtaken == [[]]


async def test_a_failed_record_is_tried_again_and_the_others_pass_it(orders: Place) -> None:
    orders.store.put(NAME, "1", "bad", "3")
    orders.put(reader(maxTries=3))
    a = await worker(orders)
    a.answer = answering(bad=500)
    await orders.until(lambda: orders.store.dead)
    assert seen(a)[0] == (1, "1")
    assert [entry for entry in seen(a) if entry[0] == 2] == [(2, "1"), (2, "2"), (2, "3")]
    assert (3, "1") in seen(a)
    (letter,) = orders.store.dead
    assert (letter.record.data, letter.record.tries) == (b"bad", 3)
    assert letter.reason == "500: it raised"
    assert letter.function == "reads"
    await orders.until(lambda: not orders.store.held(NAME))
    counts = orders.gateways[0].snapshot()["functions"]["reads"]["streams"][f"{NAME} g"]
    assert counts == {"delivered": 5, "acked": 2, "retried": 2, "dead": 1, "lag": 0}


async def test_a_status_of_400_fails_too_for_that_is_what_a_graph_answers(orders: Place) -> None:
    orders.store.put(NAME, "bad")
    orders.put(reader(maxTries=1))
    (await worker(orders)).answer = answering(bad=400)
    await orders.until(lambda: orders.store.dead)


async def test_a_batch_of_failures_holds_the_rest_back(orders: Place) -> None:
    orders.store.put(NAME, "bad", "bad", "good")
    orders.put(reader(readBatchSize=2, retryIntervalMs=3_600_000))
    a = await worker(orders)
    a.answer = answering(bad=500)
    await orders.until(lambda: orders.store.groups and len(a.requests) == 2)
    await orders.until(lambda: orders.store.held(NAME) == {1: 2, 2: 2})
    assert len(a.requests) == 2


async def test_a_worker_that_dies_costs_its_record_a_try(orders: Place) -> None:
    orders.store.put(NAME, "1")
    orders.put(reader())
    a = await worker(orders)
    a.answer = lambda *_: a.die()
    await orders.until(lambda: a.requests)
    b = await successor(orders)
    await orders.until(lambda: seen(b) == [(1, "2")])


@pytest.mark.parametrize("state", [FunctionState.ERROR, FunctionState.UNHEALTHY])
async def test_a_function_that_takes_nothing_costs_no_try(
    orders: Place, state: FunctionState
) -> None:
    orders.store.put(NAME, "1")
    orders.put(reader(state=state, maxTries=1))
    await orders.until(lambda: orders.store.groups and orders.store.held(NAME) == {1: 1})
    for _ in range(50):
        await asyncio.sleep(0)
    assert orders.store.dead == []
    orders.put(reader(maxTries=1))
    a = await worker(orders)
    await orders.until(lambda: seen(a) == [(1, "1")])


async def test_a_waiting_record_wakes_a_function_at_zero(orders: Place) -> None:
    orders.put(reader())
    await orders.until(lambda: orders.store.leases)
    assert orders.store.wakes == []
    orders.store.put(NAME, "1")
    await orders.until(lambda: orders.store.wakes == ["reads"])
    a = await worker(orders)
    await orders.until(lambda: seen(a) == [(1, "1")])


async def test_explicitly_a_record_is_done_when_it_is_acknowledged(orders: Place) -> None:
    orders.store.put(NAME, "1", "2", "3")
    orders.put(reader(ack="explicitOnly"))
    a = await worker(orders)
    await orders.until(lambda: len(a.requests) == 3)
    assert set(orders.store.held(NAME)) == {1, 2, 3}
    assert orders.gateways[0].router.demand()["reads"].in_flight == 1
    ack(a, 2)
    await orders.until(lambda: set(orders.store.held(NAME)) == {3})
    ack(a, 3)
    await orders.until(lambda: not orders.store.held(NAME))
    await orders.until(lambda: orders.gateways[0].router.demand()["reads"].in_flight == 0)


async def test_an_acknowledgement_inside_the_handler_is_no_other_case(orders: Place) -> None:
    orders.put(reader(ack="explicitOnly"))
    a = await worker(orders)

    def answer(to: Connection, stream: int, meta: dict[str, Any], body: bytes) -> None:
        ack(a, meta["record"]["offset"])
        to.respond(stream, b"", status=500)

    a.answer = answer
    orders.store.put(NAME, "1")
    await orders.until(lambda: a.requests and not orders.store.held(NAME))
    assert orders.store.dead == []


async def test_unacknowledged_records_of_a_dead_worker_are_tried_again(orders: Place) -> None:
    orders.store.put(NAME, "1", "2", "3")
    orders.put(reader(ack="explicitOnly", maxTries=2))
    a = await worker(orders)
    await orders.until(lambda: len(a.requests) == 3)
    ack(a, 1)
    await orders.until(lambda: set(orders.store.held(NAME)) == {2, 3})
    a.die()
    b = await successor(orders)
    await orders.until(lambda: seen(b) == [(2, "2"), (3, "2")])
    # What dies with its second worker as well is given up.
    b.die()
    await orders.until(lambda: len(orders.store.dead) == 2)
    assert {letter.record.tries for letter in orders.store.dead} == {2}
    reasons = {letter.record.sequence: letter.reason for letter in orders.store.dead}
    assert "ended before it acknowledged it" in reasons[2]


@pytest.mark.parametrize("when", ["before the answer", "after it"])
async def test_a_record_that_fails_behind_its_answer_is_tried_again_and_given_up(
    orders: Place, when: str
) -> None:
    orders.store.put(NAME, "bad", "2")
    orders.put(reader(ack="explicitOnly", maxTries=2))
    a = await worker(orders)

    def answer(to: Connection, stream: int, meta: dict[str, Any], body: bytes) -> None:
        offset = meta["record"]["offset"]
        if body == b"bad" and when == "before the answer":
            nack(a, offset)
        to.respond(stream, b"ok")
        if body == b"bad" and when == "after it":
            nack(a, offset)
        # Whatever is acknowledged around it, it is not.
        ack(a, 2 if offset == 2 else offset - 1)

    a.answer = answer
    await orders.until(lambda: orders.store.dead and not orders.store.held(NAME))
    # Again at the end, under a larger offset: an acknowledged one stands for all smaller ones.
    assert seen(a) == [(1, "1"), (2, "1"), (3, "2")]
    assert [meta["id"] for meta in a.requests] == [f"{NAME}:0:{n}" for n in (1, 2, 1)]
    (letter,) = orders.store.dead
    assert (letter.record.data, letter.record.tries, letter.record.original) == (b"bad", 2, 1)
    assert letter.reason == "step x: ValueError"


async def test_a_failing_record_is_not_acknowledged_by_those_after_it(orders: Place) -> None:
    orders.store.put(NAME, "bad", "2")
    orders.put(reader(ack="explicitOnly", retryIntervalMs=3_600_000))
    a = await worker(orders)
    a.answer = answering(bad=400)
    await orders.until(lambda: len(a.requests) == 2)
    ack(a, 2)
    await orders.until(lambda: orders.store.held(NAME) == {1: 2})


async def test_what_was_read_ahead_waits_for_the_records_of_a_dead_worker(orders: Place) -> None:
    orders.store.put(NAME, *map(str, range(1, 7)))
    orders.put(reader(ack="explicitOnly", ackWindowSize=3))
    a = await worker(orders)
    (consumer,) = await consumers(orders)
    await orders.until(lambda: len(consumer._hand.unacked) == 3)
    a.die()
    b = await successor(orders)
    await orders.until(lambda: len(b.requests) == 3)
    ack(b, 3)
    await orders.until(lambda: len(b.requests) == 6)
    assert [offset for offset, _ in seen(b)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("header", "waits"), [("true", True), ("True", True), ("", False)])
async def test_enable_leaves_it_to_the_answer(orders: Place, header: str, waits: bool) -> None:
    orders.store.put(NAME, "1")
    orders.put(reader(ack="enable"))
    a = await worker(orders)
    headers = {**PLAIN, "x-nuclio-stream-no-ack": header} if header else PLAIN
    a.answer = lambda to, stream, _meta, _body: to.respond(stream, b"", headers)
    await orders.until(lambda: len(a.requests) == 1 and not a.running)
    if waits:
        ack(a, 1)
    await orders.until(lambda: not orders.store.held(NAME))


async def test_no_more_than_the_window_is_unacknowledged(orders: Place) -> None:
    orders.store.put(NAME, *map(str, range(9)))
    orders.put(reader(ack="explicitOnly", ackWindowSize=4))
    a = await worker(orders)
    await orders.until(lambda: len(a.requests) == 4)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(a.requests) == 4
    ack(a, 3)
    await orders.until(lambda: len(a.requests) == 7)


async def test_the_records_of_a_shard_stay_with_one_worker(bare: Place) -> None:
    bare.store.make_stream(NAME, shards=2)
    await bare.gateway()
    bare.put(reader(workerAllocationMode="static"))
    a, b = await worker(bare), await worker(bare, "b")
    for number in range(4):
        bare.store.put(NAME, f"x{number}")
        bare.store.put(NAME, f"y{number}", shard=1)
    await bare.until(lambda: len(a.requests) + len(b.requests) == 8)
    shards = [{meta["record"]["shard"] for meta in one.requests} for one in (a, b)]
    assert sorted(shards, key=min) == [{0}, {1}]


async def test_of_two_gateways_one_reads_and_the_other_takes_over(bare: Place) -> None:
    bare.store.make_stream(NAME)
    bare.store.gateways = {"g0", "g1"}
    first, second = await bare.gateway(), await bare.gateway()
    bare.put(reader())
    a = await worker(bare)
    await bare.until(lambda: bare.store.leases)
    ((_, owner),) = bare.store.leases.items()
    reading, idle = (first, second) if owner == "g0/reads" else (second, first)
    bare.store.put(NAME, "1")
    await bare.until(lambda: seen(a) == [(1, "1")])
    await reading.stop()
    bare.gateways.remove(reading)
    bare.store.gateways -= {owner.partition("/")[0]}
    await bare.until(lambda: bare.store.leases and owner not in bare.store.leases.values())
    bare.store.put(NAME, "2")
    await bare.until(lambda: seen(a) == [(1, "1"), (2, "1")])
    assert idle in bare.gateways


async def test_a_gateway_that_stops_waits_for_late_acknowledgements(orders: Place) -> None:
    orders.store.put(NAME, "1")
    orders.put(reader(ack="explicitOnly"))
    gateway = orders.gateways.pop()
    gateway._settings = gateway._settings.model_copy(update={"grace_s": 10.0})
    orders.gateways.append(gateway)
    a = await worker(orders)
    await orders.until(lambda: len(a.requests) == 1 and not a.running)
    stopping = asyncio.ensure_future(gateway.stop())
    orders.gateways.clear()
    for _ in range(50):
        await asyncio.sleep(0)
    assert not stopping.done()
    ack(a, 1)
    await stopping
    assert orders.store.held(NAME) == {}
    assert orders.store.leases == {}


async def test_what_a_gateway_left_behind_is_delivered_by_the_next(bare: Place) -> None:
    bare.store.make_stream(NAME)
    bare.store.put(NAME, "1", "2")
    await bare.store.subscribe(NAME, 1, "g", from_start=True)
    bare.store.leases["stream:projects/orders:0:g"] = "g0/reads"
    taken = await bare.store.take_records(NAME, 0, "g", owner="g0/reads", limit=1)
    assert taken is not None
    # Killed here, and started again under its own name.
    await bare.gateway()
    bare.put(reader())
    a = await worker(bare)
    await bare.until(lambda: seen(a) == [(1, "1"), (2, "1")])


async def test_what_a_leaving_worker_took_with_it_goes_before_what_comes_next(
    orders: Place,
) -> None:
    orders.store.put(NAME, "1", "2")
    orders.put(reader(ack="explicitOnly"))
    leaves = await worker(orders, "m")
    (consumer,) = await consumers(orders)
    await orders.until(lambda: len(consumer._hand.unacked) == 2)
    # The shard is the newcomer's from now on, once the other has acknowledged what it was given.
    comes = await worker(orders, "a")
    orders.store.put(NAME, "3")
    for _ in range(50):
        await asyncio.sleep(0)
    assert (len(leaves.requests), len(comes.requests)) == (2, 0)
    leaves.die()
    await orders.until(lambda: len(comes.requests) == 3)
    assert [offset for offset, _ in seen(comes)] == [1, 2, 3]


@pytest.mark.parametrize("waiting", [False, True])
async def test_a_lease_that_was_lost_ends_the_reading(orders: Place, waiting: bool) -> None:
    orders.put(reader(ack="explicitOnly", ackWindowSize=1))
    a = await worker(orders)
    if waiting:  # for an acknowledgement, and so asking for nothing
        orders.store.put(NAME, "ours")
        await orders.until(lambda: len(a.requests) == 1)
    await orders.until(lambda: orders.store.leases)
    ((lease, _),) = orders.store.leases.items()
    orders.store.leases[lease] = "g9/reads"
    await orders.until(lambda: not orders.gateways[0]._streams._consumers)
    orders.store.put(NAME, "not ours")
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(a.requests) == waiting


async def test_a_worker_that_dies_with_its_answer_on_the_way_owes_it_still(orders: Place) -> None:
    """The answer was read, and the end of the connection too, before either was looked at."""
    orders.store.put(NAME, "1")
    orders.put(reader(ack="explicitOnly"))
    (consumer,) = await consumers(orders)
    a = await orders.worker("a", of="reads", phase="starting")

    def answer(to: Connection, stream: int, _meta: dict[str, Any], _body: bytes) -> None:
        call = consumer._running.call
        call.caller.on_response(call, {"status": 200, "headers": {}}, b"")
        call.settle()
        consumer.on_link_lost(call.link)

    a.answer = answer
    a.become("ready")
    await orders.until(lambda: orders.store.held(NAME) == {1: 2})


async def test_acknowledgements_outlive_an_absence_of_the_store(
    orders: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stoker.gateway.acks.RETRY_S", 0.002)
    orders.store.put(NAME, "1", "2")
    orders.put(reader())
    a = await worker(orders)

    def answer(to: Connection, stream: int, _meta: dict[str, Any], _body: bytes) -> None:
        orders.store.available = False
        to.respond(stream, b"ok")

    a.answer = answer
    await orders.until(lambda: len(a.requests) == 2)
    orders.store.available = True
    await orders.until(lambda: not orders.store.held(NAME))
    assert seen(a) == [(1, "1"), (2, "1")]


async def test_a_redeploy_with_another_trigger_reads_otherwise_from_then_on(
    orders: Place,
) -> None:
    orders.put(reader())
    a = await worker(orders)
    await orders.until(lambda: orders.store.leases)
    orders.store.make_stream("projects/others")
    orders.put(reader(number=2, stream="others"))
    await orders.until(lambda: list(orders.store.leases) == ["stream:projects/others:0:g"])
    orders.store.put(NAME, "old")
    orders.store.put("projects/others", "new")
    orders.gateways[0].router.put_replica(
        orders.store.replicas["a"].model_copy(update={"revision": 2})
    )
    await orders.until(lambda: [meta["record"]["topic"] for meta in a.requests] == ["others"])


async def test_a_disabled_function_is_given_nothing(orders: Place) -> None:
    record = reader()
    assert record.serving is not None
    document = {**record.serving.document}
    document["spec"] = {**document["spec"], "disable": True}
    revision = Revision(number=1, document=document)
    orders.put(record.model_copy(update={"serving": revision}))
    orders.store.put(NAME, "1")
    for _ in range(100):
        await asyncio.sleep(0)
    assert orders.store.leases == {}


async def test_a_stream_that_is_not_there_yet_is_read_once_it_is(bare: Place) -> None:
    await bare.gateway()
    bare.put(reader())
    a = await worker(bare)
    bare.store.make_stream(NAME)
    bare.store.put(NAME, "1")
    await bare.until(lambda: seen(a) == [(1, "1")])


async def test_a_group_that_redis_lost_is_made_again(orders: Place) -> None:
    orders.put(reader())
    a = await worker(orders)
    await orders.until(lambda: orders.store.leases)
    orders.store.groups.clear()
    orders.store.put(NAME, "1")
    await orders.until(lambda: seen(a) == [(1, "1")])


async def test_records_whose_taking_was_never_heard_of_are_delivered(orders: Place) -> None:
    take, unheard = orders.store.take_records, []

    async def cut(*args: Any, **options: Any) -> Any:
        taken = await take(*args, **options)
        if taken and taken.records and not unheard:
            unheard.append(taken)
            raise StoreUnavailable("no answer within 2 s")
        return taken

    orders.store.take_records = cut
    orders.store.put(NAME, "1", "2", "3")
    orders.put(reader())
    a = await worker(orders)
    await orders.until(lambda: len(a.requests) == 3)
    assert [offset for offset, _ in seen(a)] == [1, 2, 3]
    await orders.until(lambda: not orders.store.held(NAME))


async def test_a_function_made_anew_under_an_old_name_reads_its_own_stream(orders: Place) -> None:
    orders.store.make_stream("projects/other")
    orders.put(reader())
    await worker(orders)
    await consumers(orders)
    (gateway,) = orders.gateways
    gateway.router.remove_function("reads")
    orders.put(reader(stream="other"))
    places = gateway._streams._consumers
    await orders.until(lambda: list(places) == ["stream:projects/other:0:g"])
