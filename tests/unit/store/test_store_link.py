from __future__ import annotations

import asyncio
import time

import pytest

from real_redis import RealRedis
from stoker.nouns.errors import StoreUnavailable
from stoker.nouns.event import Topic
from stoker.nouns.record import FunctionRecord
from stoker.store import Store
from stoker.store.link import CALL_S, POOL_SIZE

ONE_WAIT_S = 2 * CALL_S
"""Whoever waited for an answer and tried again would take longer, however busy the machine is."""


async def test_a_redis_of_another_home_is_refused(store: Store, redis: RealRedis) -> None:
    with pytest.raises(StoreUnavailable, match=r"belongs to another home \(id home-1"):
        await Store.connect(redis.url, home_id="home-2")


async def test_two_homes_racing_for_an_empty_redis_share_it_never(redis: RealRedis) -> None:
    outcomes = await asyncio.gather(
        *(Store.connect(redis.url, home_id=f"home-{n}") for n in range(4)), return_exceptions=True
    )
    opened = [outcome for outcome in outcomes if isinstance(outcome, Store)]
    assert len(opened) == 1
    await opened[0].close()


@pytest.mark.parametrize(
    "url", ["unix:///tmp/st-nowhere/redis.sock", "redis://127.0.0.1:1/0", "nonsense"]
)
async def test_no_redis_at_the_url_is_said_at_once(url: str) -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await Store.connect(url)
    assert time.monotonic() - began < ONE_WAIT_S


async def test_a_frozen_redis_is_unavailable_within_about_two_seconds(
    store: Store, redis: RealRedis
) -> None:
    redis.freeze()
    for call in (store.ping, store.list_functions, lambda: store.ask_wake("echo")):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="no answer within 2 s"):
            await call()
        assert time.monotonic() - began < ONE_WAIT_S
    redis.thaw()
    await store.ping()


async def test_a_restarted_redis_that_forgot_the_scripts_is_used_again_at_once(
    store: Store, redis: RealRedis
) -> None:
    await store.create_function(FunctionRecord(name="echo"))
    redis.kill()
    with pytest.raises(StoreUnavailable):
        await store.ping()
    redis.start()
    await store.create_function(FunctionRecord(name="other"))
    assert set(await store.list_functions()) == {"echo", "other"}


async def test_a_call_that_was_cancelled_leaves_no_reply_for_the_next(
    store: Store, redis: RealRedis
) -> None:
    await store.put_project("a", {"n": 1})
    await store.put_project("b", {"n": 2})
    redis.freeze()
    abandoned = [asyncio.create_task(store.get_project("a")) for _ in range(4)]
    await asyncio.wait(abandoned, timeout=0.05)
    for task in abandoned:
        task.cancel()
    await asyncio.gather(*abandoned, return_exceptions=True)
    redis.thaw()
    assert [await store.get_project("b") for _ in range(8)] == [{"n": 2}] * 8


async def test_a_task_that_is_cancelled_while_it_calls_ends(store: Store) -> None:
    # Python 3.11's asyncio.wait_for returns its result instead of passing a cancellation on when
    # both come in one turn of the loop; used inside the Redis client it made tasks immortal.
    async def busy() -> None:
        while True:
            await store.ping()

    for turn in range(40):
        task = asyncio.create_task(busy())
        await asyncio.wait({task}, timeout=0.004 + turn * 0.0002)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=1)
        assert done


async def test_more_callers_than_connections_wait_for_their_turn(store: Store) -> None:
    await asyncio.gather(*(store.put_project(f"p{n}", {"n": n}) for n in range(100)))
    assert len(await store.list_projects()) == 100


async def test_a_redis_without_memory_says_so(store: Store) -> None:
    await store._link.call("CONFIG SET", "maxmemory", "100kb")
    with pytest.raises(StoreUnavailable, match="out of memory"):
        await store.put_project("p", {})
    with pytest.raises(StoreUnavailable, match="out of memory"):
        await store.put_function(FunctionRecord(name="echo"))


async def test_a_read_only_redis_says_so(store: Store) -> None:
    await store._link.call("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.put_project("p", {})
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.put_function(FunctionRecord(name="echo"))


async def test_a_closed_store_is_unavailable(redis: RealRedis) -> None:
    store = await Store.connect(redis.url)
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.ping()


async def test_a_password_in_the_url_stays_out_of_messages(store: Store, redis: RealRedis) -> None:
    await store._link.call("CONFIG SET", "requirepass", "hunter2")
    with pytest.raises(StoreUnavailable) as refused:
        await Store.connect(f"unix://:hunter2@{redis.socket}", home_id="home-2")
    assert "hunter2" not in refused.value.message


async def test_any_number_of_watchers_leaves_connections_for_calls(store: Store) -> None:
    watches = [store.watch() for _ in range(POOL_SIZE + 8)]
    opened = await asyncio.gather(*(anext(watch) for watch in watches))
    assert {event.topic for event in opened} == {Topic.RESYNC}
    await asyncio.gather(*(store.ping() for _ in range(POOL_SIZE)))
    await asyncio.gather(*(watch.aclose() for watch in watches))  # type: ignore[attr-defined]


async def test_a_redis_that_came_back_empty_is_not_said_to_stay_so(
    store: Store, redis: RealRedis, caplog: pytest.LogCaptureFixture
) -> None:
    await store._link.call("FLUSHALL")
    await store._link.claim_home()
    assert "a controller that runs puts the functions that it knows back" in caplog.text
