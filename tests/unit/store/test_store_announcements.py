from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from real_redis import RealRedis
from stoker.nouns.errors import StoreUnavailable
from stoker.nouns.event import StoreEvent, Topic
from stoker.nouns.record import FunctionRecord, ReplicaRecord
from stoker.store import Store

RESYNC, LOST = StoreEvent(Topic.RESYNC), StoreEvent(Topic.LOST)


class Watcher:
    """Reads a watch in the order of its events, each within a bound."""

    def __init__(self, store: Store) -> None:
        self._events: AsyncIterator[StoreEvent] = store.watch()

    async def next(self) -> StoreEvent:
        async with asyncio.timeout(15):
            return await anext(self._events)

    async def close(self) -> None:
        await self._events.aclose()  # type: ignore[attr-defined]


@pytest.fixture
async def watcher(store: Store) -> AsyncIterator[Watcher]:
    watching = Watcher(store)
    assert await watching.next() == RESYNC
    yield watching
    await watching.close()


async def test_every_change_is_announced_once_and_in_order(store: Store, watcher: Watcher) -> None:
    await store.create_function(FunctionRecord(name="echo"))
    await store.update_function("echo", lambda r: r.model_copy(update={"message": "x"}))
    await store.put_replica(ReplicaRecord(id="r1", function="echo", revision=1))
    await store.heartbeat_replicas(["r1"])
    await store.ask_wake("echo")
    await store.remove_replica("r1")
    await store.delete_function("echo")
    assert [await watcher.next() for _ in range(6)] == [
        StoreEvent(Topic.FUNCTION, "echo"),
        StoreEvent(Topic.FUNCTION, "echo"),
        StoreEvent(Topic.REPLICA, "r1"),
        StoreEvent(Topic.WAKE, "echo"),
        StoreEvent(Topic.REPLICA, "r1"),
        StoreEvent(Topic.FUNCTION, "echo"),
    ]


async def test_an_update_that_changes_nothing_announces_nothing(
    store: Store, watcher: Watcher
) -> None:
    await store.create_function(FunctionRecord(name="echo"))
    await watcher.next()
    await store.update_function("echo", lambda r: r)
    await store.ask_wake("after")
    assert await watcher.next() == StoreEvent(Topic.WAKE, "after")


async def test_a_gap_in_the_sequence_asks_for_a_resync(store: Store, watcher: Watcher) -> None:
    await store.ask_wake("one")
    assert await watcher.next() == StoreEvent(Topic.WAKE, "one")
    await store._link.call("INCR", "stoker:sequence")  # an announcement that never arrived
    await store.ask_wake("three")
    assert await watcher.next() == RESYNC
    assert await watcher.next() == StoreEvent(Topic.WAKE, "three")


async def test_a_killed_redis_is_lost_once_and_resynchronised_when_it_is_back(
    store: Store, watcher: Watcher, redis: RealRedis
) -> None:
    await store.create_function(FunctionRecord(name="echo"))
    await watcher.next()
    redis.kill()
    assert await watcher.next() == LOST
    with pytest.raises(StoreUnavailable):
        await store.ping()
    redis.start()
    assert await watcher.next() == RESYNC
    assert set(await store.list_functions()) == {"echo"}
    await store.ask_wake("echo")
    assert await watcher.next() == StoreEvent(Topic.WAKE, "echo")


async def test_a_redis_that_hangs_is_noticed_although_its_connection_stays_open(
    store: Store, watcher: Watcher, redis: RealRedis
) -> None:
    redis.freeze()
    began = asyncio.get_running_loop().time()
    assert await watcher.next() == LOST
    assert asyncio.get_running_loop().time() - began < 5
    redis.thaw()
    assert await watcher.next() == RESYNC


async def test_a_watch_ends_when_the_store_is_closed(redis: RealRedis) -> None:
    store = await Store.connect(redis.url)
    seen: list[StoreEvent] = []
    begun = asyncio.Event()

    async def follow() -> None:
        async for event in store.watch():
            seen.append(event)
            begun.set()

    following = asyncio.create_task(follow())
    async with asyncio.timeout(5):
        await begun.wait()
        await store.close()
        await following
    assert seen == [RESYNC]


async def test_a_redis_that_came_back_empty_is_this_homes_again_and_it_is_said(
    store: Store, watcher: Watcher, redis: RealRedis, caplog: pytest.LogCaptureFixture
) -> None:
    await store.create_function(FunctionRecord(name="echo"))
    await watcher.next()
    redis.kill()
    assert await watcher.next() == LOST
    redis.forget_everything()
    redis.start()
    assert await watcher.next() == RESYNC
    assert await store.list_functions() == {}
    assert "came back empty" in caplog.text


async def test_what_was_announced_is_counted_and_only_a_store_that_forgot_counts_less(
    store: Store,
) -> None:
    assert await store.announced() == 0
    for name in "ab":
        await store.ask_wake(name)
    assert await store.announced() == 2
    await store._link.call("FLUSHALL")
    await store.ask_wake("c")
    assert await store.announced() == 1


async def test_a_redis_that_became_another_homes_stays_lost(
    store: Store, watcher: Watcher, redis: RealRedis, caplog: pytest.LogCaptureFixture
) -> None:
    await store._link.call("SET", "stoker:home", "home-2")
    redis.kill()
    redis.start()
    assert await watcher.next() == LOST
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await watcher.next()
    assert "belongs to another home" in caplog.text
