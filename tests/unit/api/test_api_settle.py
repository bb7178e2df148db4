"""How a wait for a wake or for zero ends when the function had failed before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stoker.api import settle
from stoker.nouns.record import (
    FunctionRecord,
    FunctionState,
    Phase,
    ReplicaRecord,
    Revision,
    WorkerRecord,
)
from stoker.store import Store

ASKED_AT = 100.0
REVISION = Revision(number=1, document={"metadata": {"name": "hello"}})


def failed(state: FunctionState = FunctionState.ERROR, **fields: Any) -> FunctionRecord:
    """What a failed second deploy leaves: the first revision serves on."""
    candidate = REVISION.model_copy(update={"number": 2})
    told = {"serving": REVISION, "candidate": candidate, "updated_at": ASKED_AT} | fields
    return FunctionRecord(name="hello", state=state, **told)


def replica(phase: Phase, revision: int = 1) -> ReplicaRecord:
    worker = WorkerRecord(index=0, socket="/w.sock", pid=1, phase=phase)
    return ReplicaRecord(id=f"r{revision}", function="hello", revision=revision, workers=(worker,))


async def begun(store: Store, state: FunctionState, asked: FunctionRecord) -> asyncio.Task[None]:
    """The wait, once it has looked at the record as it is."""
    looked = asyncio.Event()
    read = store.get_function

    async def looking(name: str) -> FunctionRecord | None:
        looked.set()
        return await read(name)

    store.get_function = looking  # type: ignore[method-assign]
    task = asyncio.create_task(settle.wait_scaled(store, state, asked))
    async with asyncio.timeout(5):
        await looked.wait()
    await store.list_replicas()
    return task


async def test_a_wake_after_a_failed_redeploy_lasts_until_the_earlier_revision_is_ready(
    store: Store,
) -> None:
    await store.put_function(failed())
    await store.put_replica(replica(Phase.READY, revision=2))  # the candidate's own serves nobody
    task = await begun(store, FunctionState.READY, failed())
    await store.put_replica(replica(Phase.STARTING))
    await store.list_replicas()
    assert not task.done()
    await store.put_replica(replica(Phase.READY))
    async with asyncio.timeout(5):
        await task


async def test_zero_after_a_failed_redeploy_lasts_until_the_replicas_are_gone(
    store: Store,
) -> None:
    await store.put_function(failed())
    await store.put_replica(replica(Phase.READY))
    task = await begun(store, FunctionState.SCALED_TO_ZERO, failed())
    await store.put_replica(replica(Phase.DRAINING))
    await store.list_replicas()
    assert not task.done()
    await store.remove_replica("r1")
    async with asyncio.timeout(5):
        await task


async def test_a_failure_that_comes_after_the_wake_ends_the_wait(store: Store) -> None:
    crashed = failed(FunctionState.UNHEALTHY, candidate=None)
    await store.put_function(crashed)
    task = await begun(store, FunctionState.READY, crashed)
    assert not task.done()
    await store.put_function(crashed.model_copy(update={"updated_at": ASKED_AT + 1}))
    async with asyncio.timeout(5):
        await task


async def test_a_first_deploy_that_failed_has_nothing_to_wait_for(store: Store) -> None:
    nothing = failed(serving=None)
    await store.put_function(nothing)
    for state in (FunctionState.READY, FunctionState.SCALED_TO_ZERO):
        async with asyncio.timeout(5):
            await settle.wait_scaled(store, state, nothing)


@pytest.mark.parametrize("state", [FunctionState.ERROR, FunctionState.UNHEALTHY])
async def test_a_wake_that_nobody_carries_out_is_not_waited_for_to_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch, state: FunctionState
) -> None:
    monkeypatch.setattr(settle, "BEGIN_WAIT_S", 0.1)
    await store.put_function(failed(state))
    async with asyncio.timeout(5):
        await settle.wait_scaled(store, FunctionState.READY, failed(state))


async def test_dozens_of_waiting_clients_leave_the_port_answering(
    make_client: Callable[..., Any], store: Store
) -> None:
    client = make_client()
    asleep = failed(FunctionState.SCALED_TO_ZERO, candidate=None)
    await store.put_function(asleep)
    wait = {"X-Nuclio-Wait-Function-Action": "true"}
    body = {"desiredState": "ready"}
    waits = [
        asyncio.create_task(client.patch("/api/functions/hello", json=body, headers=wait))
        for _ in range(40)
    ]
    # All of them listen by now: each wait's first look has come and gone.
    async with asyncio.timeout(20):
        while await store._link.call("PUBSUB", "NUMSUB", "stoker:events") != [
            b"stoker:events",
            40,
        ]:
            await asyncio.sleep(0)
    assert (await client.get("/api/functions/hello")).status_code == 200
    await store.update_function(
        "hello", lambda r: r.model_copy(update={"state": FunctionState.READY})
    )
    async with asyncio.timeout(20):
        assert {reply.status_code for reply in await asyncio.gather(*waits)} == {202}
