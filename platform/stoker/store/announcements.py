"""Watching: pub/sub with a sequence number, so that a loss is noticed and never silent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from redis.asyncio.client import PubSub

from stoker.nouns.errors import StoreUnavailable
from stoker.nouns.event import StoreEvent, Topic
from stoker.store import keys
from stoker.store.link import CALL_S, Link

log = logging.getLogger(__name__)

IDLE_S = 1.0
"""Silence after which the connection is pinged: a Redis that hangs sends no end of stream."""
RETRY_FIRST_S = 0.05
RETRY_MOST_S = 1.0

RESYNC = StoreEvent(Topic.RESYNC)
LOST = StoreEvent(Topic.LOST)


class Subscription:
    """One connection that listens. Single reader: the `watch` that opened it.

    Redis-py would reconnect by itself and hide the loss; it is built here without retries, and
    any error ends this subscription for good.
    """

    def __init__(self, link: Link, pubsub: PubSub) -> None:
        self._link = link
        self._pubsub = pubsub
        self._last: int | None = None
        self._pinged = False

    @classmethod
    async def open(cls, link: Link) -> Subscription:
        """Listens, once Redis has confirmed it.

        Raises:
            StoreUnavailable: unreachable, or by now another home's.
        """
        await link.claim_home()
        subscription = cls(link, link.subscriber())
        try:
            async with link.guarded():
                await subscription._pubsub.subscribe(keys.EVENTS)
                while (await subscription._receive(CALL_S)).get("type") != "subscribe":
                    pass
        except BaseException:
            await subscription.close()
            raise
        return subscription

    async def events(self) -> list[StoreEvent]:
        """Waits for the next announcement; with a RESYNC before it when some were missed.

        Raises:
            StoreUnavailable: the connection is gone or hangs.
        """
        while True:
            # Nothing heard for a while: ask. Nothing heard after that either: it hangs.
            async with self._link.guarded(IDLE_S + CALL_S + CALL_S):
                message = await self._receive(CALL_S if self._pinged else IDLE_S)
                if message:
                    self._pinged = False
                elif self._pinged:
                    raise TimeoutError
                else:
                    self._pinged = True
                    await self._pubsub.ping()
            if message.get("type") == "message":
                return self._read(message["data"])

    def _read(self, data: bytes) -> list[StoreEvent]:
        number, topic, name = data.decode().split(" ", 2)
        sequence, last = int(number), self._last
        self._last = sequence
        events = [StoreEvent(Topic(topic), name)]
        if last is not None and sequence != last + 1:
            log.warning("announcements %d to %d were missed", last + 1, sequence - 1)
            events.insert(0, RESYNC)
        return events

    async def _receive(self, timeout_s: float) -> dict[str, Any]:
        message: dict[str, Any] | None = await self._pubsub.get_message(timeout=timeout_s)
        return message or {}

    async def close(self) -> None:
        """Ends the connection."""
        close: Callable[[], Awaitable[None]] = self._pubsub.aclose
        await close()


class Announcements:
    """The stream of changes."""

    _link: Link

    async def watch(self) -> AsyncIterator[StoreEvent]:
        """Every announced change, from now on, until cancelled or the store is closed.

        First RESYNC. When the connection is lost: LOST once, then RESYNC when it is back. When
        announcements were missed: RESYNC. Level-triggered: on receipt, read the named thing.
        """
        lost, told, wait_s = False, "", RETRY_FIRST_S
        while not self._link.closed.is_set():
            try:
                subscription = await Subscription.open(self._link)
                try:
                    lost, told, wait_s = False, "", RETRY_FIRST_S
                    yield RESYNC
                    while True:
                        for event in await subscription.events():
                            yield event
                finally:
                    await subscription.close()
            except StoreUnavailable as error:
                if self._link.closed.is_set():
                    return
                if told != error.message:  # once for each reason, not once for each try
                    told = error.message
                    log.warning("no store: %s", told)
                if not lost:
                    lost = True
                    yield LOST
            await self._pause(wait_s)
            wait_s = min(RETRY_MOST_S, wait_s * 2)

    async def announced(self) -> int:
        """How much was announced, ever: it only grows, unless the store forgets."""
        return int(await self._link.call("GET", keys.SEQUENCE) or 0)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._link.closed.wait()
        except TimeoutError:
            return
