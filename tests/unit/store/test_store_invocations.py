from __future__ import annotations

import asyncio

import pytest

from real_redis import RealRedis
from stoker.nouns.errors import QueueFull, StoreUnavailable
from stoker.nouns.invocation import InvocationState
from stoker.store import Store, keys


async def add(store: Store, name: str, *, key: str | None = None, function: str = "echo") -> str:
    return await store.add_invocation(
        name, function, {"method": "POST", "path": "/x"}, b"\xff\x00", idempotency_key=key
    )


async def test_an_invocation_is_run_and_its_reply_kept(store: Store) -> None:
    assert await add(store, "i1") == "i1"
    waiting = await store.get_invocation("i1")
    assert waiting is not None
    assert waiting.state is InvocationState.QUEUED
    claimed = await store.claim_invocation("g0", block_s=1, idle_s=60)
    assert claimed is not None
    assert (claimed.id, claimed.function, claimed.body) == ("i1", "echo", b"\xff\x00")
    assert claimed.request == {"method": "POST", "path": "/x"}
    assert claimed.state is InvocationState.RUNNING
    await store.finish_invocation("i1", 201, {"content-type": "x/y"}, b"\xfe")
    done = await store.get_invocation("i1")
    assert done is not None
    assert (done.state, done.status, done.reply) == (InvocationState.FINISHED, 201, b"\xfe")
    assert done.headers == {"content-type": "x/y"}
    assert await store.claim_invocation("g0", block_s=0, idle_s=0) is None
    assert await store._link.call("XLEN", keys.INVOCATIONS) == 0


async def test_each_invocation_goes_to_one_consumer(store: Store) -> None:
    for number in range(6):
        await add(store, f"i{number}")
    claimed = await asyncio.gather(
        *(store.claim_invocation(f"g{n}", block_s=1, idle_s=60) for n in range(6))
    )
    assert {c.id for c in claimed if c is not None} == {f"i{n}" for n in range(6)}


async def test_a_consumer_that_falls_silent_is_taken_over(store: Store) -> None:
    await add(store, "i1")
    assert await store.claim_invocation("dies", block_s=1, idle_s=60) is not None
    assert await store.claim_invocation("lives", block_s=0, idle_s=60) is None
    taken = await store.claim_invocation("lives", block_s=5, idle_s=0.001)
    assert taken is not None
    assert (taken.id, taken.attempts) == ("i1", 2)


async def test_a_consumer_that_renews_keeps_its_invocation(store: Store) -> None:
    await add(store, "i1")
    await store.claim_invocation("slow", block_s=1, idle_s=60)
    assert await store.renew_invocation("slow", "i1")
    assert not await store.renew_invocation("other", "i1")
    assert await store.claim_invocation("other", block_s=0, idle_s=30) is None
    await store.finish_invocation("i1", 200, {}, b"")
    assert not await store.renew_invocation("slow", "i1")


async def test_the_first_reply_counts(store: Store) -> None:
    await add(store, "i1")
    await store.claim_invocation("a", block_s=1, idle_s=60)
    await store.claim_invocation("b", block_s=1, idle_s=0)
    await store.finish_invocation("i1", 200, {}, b"first")
    await store.finish_invocation("i1", 500, {}, b"second")
    done = await store.get_invocation("i1")
    assert done is not None
    assert (done.status, done.reply) == (200, b"first")


async def test_an_idempotency_key_makes_one_invocation(store: Store) -> None:
    ids = await asyncio.gather(*(add(store, f"i{n}", key="k") for n in range(5)))
    assert len(set(ids)) == 1
    assert await add(store, "other", key="k", function="another") == "other"
    assert await store._link.call("XLEN", keys.INVOCATIONS) == 2


async def test_a_claim_waits_for_what_comes(store: Store) -> None:
    waiting = asyncio.create_task(store.claim_invocation("g0", block_s=10, idle_s=60))
    probe = await Store.connect(store._link.url)
    async with asyncio.timeout(5):
        while not any(
            client["cmd"] == "xreadgroup" for client in await probe._link.call("CLIENT LIST")
        ):
            pass
    await add(probe, "i1")
    async with asyncio.timeout(5):
        claimed = await waiting
    await probe.close()
    assert claimed is not None
    assert claimed.id == "i1"


async def test_accepted_invocations_survive_the_death_of_redis(
    store: Store, redis: RealRedis
) -> None:
    await store._link.call("CONFIG SET", "appendfsync", "always")
    await add(store, "i1")
    await store.claim_invocation("dies", block_s=1, idle_s=60)
    redis.kill()
    with pytest.raises(StoreUnavailable):
        await store.ping()
    redis.start()
    taken = await store.claim_invocation("lives", block_s=5, idle_s=0.001)
    assert taken is not None
    assert taken.id == "i1"


async def test_too_many_unfinished_turn_the_newest_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "INVOCATION_LIMIT", 2)
    await add(store, "i1")
    await add(store, "i2", key="k")
    with pytest.raises(QueueFull):
        await add(store, "i3")
    assert await add(store, "i4", key="k") == "i2"
    assert await store.get_invocation("i3") is None


async def test_an_entry_whose_record_is_gone_is_passed_over(store: Store) -> None:
    await add(store, "i1")
    await store._link.call("DEL", "stoker:invocation:i1")
    await add(store, "i2")
    claimed = await store.claim_invocation("g0", block_s=1, idle_s=60)
    assert claimed is not None
    assert claimed.id == "i2"
    assert await store._link.call("XLEN", keys.INVOCATIONS) == 1
