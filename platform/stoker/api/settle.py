"""Waits for the controller to carry out what was written, by the store's announcements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

from stoker.nouns.errors import DeadlineExceeded
from stoker.nouns.event import StoreEvent, Topic
from stoker.nouns.record import FunctionRecord, FunctionState
from stoker.store import Store

DEPLOY_WAIT_S = 1800.0
"""A deploy may build an environment and prepare a model; past this the client should poll."""
SCALE_WAIT_S = 300.0

_FAILED = (FunctionState.ERROR, FunctionState.UNHEALTHY)
Settled = Callable[[FunctionRecord], bool]


def deployed(revision: int) -> Settled:
    """True once that revision serves, failed, or was overtaken by a later one."""

    def settled(record: FunctionRecord) -> bool:
        candidate = record.candidate
        if candidate is None or candidate.number > revision:
            return True
        return record.state in _FAILED

    return settled


def scaled(state: FunctionState) -> Settled:
    """True once the function is in the state, or failed on the way."""

    def settled(record: FunctionRecord) -> bool:
        return record.state == state or record.state in _FAILED

    return settled


async def records(store: Store, name: str) -> AsyncGenerator[FunctionRecord | None, None]:
    """The function's record now, and again at every change; None when it is not there."""
    # Closed by hand: an abandoned watch would keep its connection until it is collected.
    stream = cast("AsyncGenerator[StoreEvent, None]", store.watch())
    async with aclosing(stream):
        async for event in stream:
            if event.topic is Topic.RESYNC or (
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
                if record is None or settled(record):
                    return record
    except TimeoutError as exc:
        raise DeadlineExceeded(
            f"function {name} did not settle within {timeout_s:g} s; it may still do so"
        ) from exc
    return None
