from __future__ import annotations

import pytest

from stoker.nouns.record import Demand, Phase, ReplicaRecord, WorkerRecord
from stoker.store import Store


def replica(name: str) -> ReplicaRecord:
    worker = WorkerRecord(index=0, socket=f"/tmp/{name}.0", pid=7, phase=Phase.READY)
    return ReplicaRecord(id=name, function="echo", revision=1, workers=(worker,))


async def test_replicas_come_and_go(store: Store) -> None:
    await store.put_replica(replica("a"))
    await store.put_replica(replica("b"))
    assert await store.list_replicas() == {"a": replica("a"), "b": replica("b")}
    await store.remove_replica("a")
    assert await store.list_replicas() == {"b": replica("b")}
    assert await store.get_replica("a") is None
    assert await store.get_replica("b") == replica("b")


async def test_a_replica_lives_two_minutes_after_its_last_heartbeat(store: Store) -> None:
    await store.put_replica(replica("a"))
    await store._link.call("EXPIRE", "stoker:replica:a", 3)
    assert await store.heartbeat_replicas(["a", "ghost"]) == {"ghost"}
    assert 118 <= await store._link.call("TTL", "stoker:replica:a") <= 120
    assert set(await store.list_replicas()) == {"a"}


async def test_a_heartbeat_does_not_bring_back_what_expired(store: Store) -> None:
    await store.put_replica(replica("a"))
    await store._link.call("DEL", "stoker:replica:a")
    assert await store.heartbeat_replicas(["a"]) == {"a"}
    assert await store.list_replicas() == {}
    assert await store._link.call("SMEMBERS", "stoker:replicas") == set()


async def test_heartbeats_of_nothing_ask_nothing(store: Store) -> None:
    await store.close()
    assert await store.heartbeat_replicas([]) == set()


async def test_demand_is_per_gateway_and_expires(store: Store) -> None:
    await store.report_demand("g0", {"echo": Demand(in_flight=2, waiting=1)})
    await store.report_demand("g1", {})
    assert await store.read_demand() == {
        "g0": {"echo": Demand(in_flight=2, waiting=1)},
        "g1": {},
    }
    assert 4 <= await store._link.call("TTL", "stoker:demand:g0") <= 5
    await store._link.call("DEL", "stoker:demand:g0")
    assert set(await store.read_demand()) == {"g1"}


async def test_metrics_are_kept_for_ten_seconds(store: Store) -> None:
    await store.report_metrics("g0", {"requests": {"echo": [1, 2.5]}})
    assert await store.read_metrics() == {"g0": {"requests": {"echo": [1, 2.5]}}}
    assert 9 <= await store._link.call("TTL", "stoker:metrics:g0") <= 10


async def test_a_lease_has_one_holder_until_it_is_given_back(store: Store) -> None:
    assert await store.hold_lease("controller", "a", 5)
    assert not await store.hold_lease("controller", "b", 5)
    assert await store.hold_lease("controller", "a", 9)
    assert 8000 < await store._link.call("PTTL", "stoker:lease:controller") <= 9000
    await store.release_lease("controller", "b")
    assert not await store.hold_lease("controller", "b", 5)
    await store.release_lease("controller", "a")
    assert await store.hold_lease("controller", "b", 5)


@pytest.mark.parametrize("ttl_s", [0.05])
async def test_a_lease_that_is_not_renewed_is_free_again(store: Store, ttl_s: float) -> None:
    import asyncio

    assert await store.hold_lease("controller", "a", ttl_s)
    async with asyncio.timeout(5):
        while not await store.hold_lease("controller", "b", 5):
            pass
