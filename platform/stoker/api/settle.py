"""Waits for the controller to carry out what was written, by the store's announcements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import cast

from stoker.nouns.errors import DeadlineExceeded
from stoker.nouns.event import StoreEvent, Topic
from stoker.nouns.record import FunctionRecord, FunctionState, Phase, ReplicaRecord
from stoker.store import Store

DEPLOY_WAIT_S = 1800.0
"""A deploy may build an environment and prepare a model; past this the client should poll."""
SCALE_WAIT_S = 300.0
BEGIN_WAIT_S = 6.0
"""A function that had failed and of which nothing came after this is not being tried.

The controller lets a wake through to a crash loop 5 s after it gave up, and drops it before.
"""

_FAILED = (FunctionState.ERROR, FunctionState.UNHEALTHY)
Settled = Callable[[FunctionRecord], Awaitable[bool]]


def deployed(revision: int) -> Settled:
    """True once that revision serves, failed, or was overtaken by a later one."""

    async def settled(record: FunctionRecord) -> bool:
        candidate = record.candidate
        if candidate is None or candidate.number > revision:
            return True
        return record.state in _FAILED

    return settled


def scaled(store: Store, state: FunctionState, asked: FunctionRecord) -> Settled:
    """True once the function is in the state, or failed on the way.

    A failure that stood there before says nothing of this ask: an earlier deploy's, while the
    revision before it goes to zero and wakes as ever. Then its replicas tell.

    Args:
        store: asked for the replicas.
        state: ``ready`` or ``scaledToZero``.
        asked: the record as the ask left it.
    """

    async def settled(record: FunctionRecord) -> bool:
        if record.state == state:
            return True
        if record.state not in _FAILED:
            return False
        if record.serving is None:
            return True  # Nothing of it was ever there: neither to wake nor to end.
        mine = await _replicas_of(store, record.name)
        if state is FunctionState.SCALED_TO_ZERO:
            return not mine
        failed_since = record.updated_at > asked.updated_at
        return failed_since or any(_serves(replica, record.serving.number) for replica in mine)

    return settled


async def _replicas_of(store: Store, name: str) -> list[ReplicaRecord]:
    found = await store.list_replicas()
    return [replica for replica in found.values() if replica.function == name]


def _serves(replica: ReplicaRecord, revision: int) -> bool:
    return replica.revision <= revision and replica.phase is Phase.READY


async def records(store: Store, name: str) -> AsyncGenerator[FunctionRecord | None, None]:
    """The function's record now, and again at every change; None when it is not there.

    A change of any replica counts as one: a replica's name does not tell whose it is.
    """
    # Closed by hand: an abandoned watch would keep its connection until it is collected.
    stream = cast("AsyncGenerator[StoreEvent, None]", store.watch())
    async with aclosing(stream):
        async for event in stream:
            if event.topic in (Topic.RESYNC, Topic.REPLICA) or (
                event.topic is Topic.FUNCTION and event.name == name
            ):
                yield await store.get_function(name)


async def wait(
    store: Store, name: str, settled: Settled, timeout_s: float
) -> FunctionRecord | None:
    """The record once it is settled; None when the function was deleted meanwhile.

    Raises:
        DeadlineExceeded: not within ``timeout_s`` seconds.
        StoreUnavailable: Redis is gone.
    """
    await store.ping()
    try:
        async with asyncio.timeout(timeout_s), aclosing(records(store, name)) as changes:
            async for record in changes:
                if record is None or await settled(record):
                    return record
    except TimeoutError as exc:
        raise DeadlineExceeded(
            f"function {name} did not settle within {timeout_s:g} s; it may still do so"
        ) from exc
    return None


async def wait_scaled(store: Store, state: FunctionState, asked: FunctionRecord) -> None:
    """Waits until the function is in the state, has failed, or is seen not to be tried.

    Raises:
        DeadlineExceeded: not within `SCALE_WAIT_S` seconds.
        StoreUnavailable: Redis is gone.
    """
    settled = scaled(store, state, asked)
    if asked.state in _FAILED:
        try:
            await wait(store, asked.name, settled, BEGIN_WAIT_S)
            return
        except DeadlineExceeded:
            record = await store.get_function(asked.name)
            untouched = record is None or record.updated_at == asked.updated_at
            if untouched and not await _replicas_of(store, asked.name):
                return
    await wait(store, asked.name, settled, SCALE_WAIT_S)
