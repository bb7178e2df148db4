"""Bells: a consumer that found a shard empty hears when there is more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from stoker.nouns.errors import StoreUnavailable
from stoker.store import keys
from stoker.store.announcements import RETRY_FIRST_S, RETRY_MOST_S
from stoker.store.link import CALL_S, Link

QUIET_S = 5.0
"""Silence after which the connection is pinged: a Redis that hangs sends no end of stream."""


class Bells:
    """Heard by whoever listens at that moment; who must not miss one looks now and then as well."""

    _link: Link

    async def bells(self) -> AsyncIterator[tuple[str, int] | None]:
        """The name and shard of each stream that rings, until cancelled or the store is closed.

        None first, and whenever the connection is new: anything may have rung before.
        """
        wait_s = RETRY_FIRST_S
        while not self._link.closed.is_set():
            try:
                async for bell in self._listen():
                    wait_s = RETRY_FIRST_S
                    yield bell
            except StoreUnavailable:
                await asyncio.sleep(wait_s)
                wait_s = min(RETRY_MOST_S, wait_s * 2)

    async def _listen(self) -> AsyncIterator[tuple[str, int] | None]:
        pubsub = self._link.subscriber()
        try:
            async with self._link.guarded():
                await pubsub.subscribe(keys.BELLS)
            asked = False
            while True:
                async with self._link.guarded(QUIET_S + CALL_S):
                    message = await pubsub.get_message(timeout=CALL_S if asked else QUIET_S)
                    if message is None and asked:
                        raise TimeoutError
                    asked = message is None
                    if asked:
                        await pubsub.ping()
                if message and message["type"] == "subscribe":
                    yield None
                elif message and message["type"] == "message":
                    shard, _, name = message["data"].decode().partition(" ")
                    yield name, int(shard)
        finally:
            close = pubsub.aclose
            await close()  # type: ignore[no-untyped-call]
