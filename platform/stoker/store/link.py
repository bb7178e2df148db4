"""The one choke point to Redis: a bounded pool, bounded calls, and errors turned into ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)

from stoker.nouns.errors import StoreUnavailable
from stoker.nouns.secrecy import url_for_people
from stoker.store import keys

log = logging.getLogger(__name__)

CONNECT_S = 1.0
CALL_S = 2.0
POOL_SIZE = 32
WATCHES = 4096
"""Watchers at once, each with a connection of its own; an idle one costs a socket."""

_ANNOUNCING = frozenset(
    {
        "wake",
        "function_create",
        "function_put",
        "function_swap",
        "function_delete",
        "replica_put",
        "replica_remove",
    }
)
_ADDING = frozenset({"stream_put", "stream_revive", "stream_repeat", "stream_requeue"})


@cache
def script_source(name: str) -> str:
    """The Lua source of one script, with what it shares with others before it."""
    folder = resources.files("stoker.store") / "lua"
    source = (folder / f"{name}.lua").read_text("utf-8")
    if name in _ANNOUNCING:
        source = (folder / "announce.lua").read_text("utf-8") + source
    if name in _ADDING:
        source = (folder / "stream_add.lua").read_text("utf-8") + source
    return source


def reason(error: BaseException) -> str:
    """Why Redis failed, for people.

    >>> reason(TimeoutError())
    'no answer within 2 s'
    """
    text = str(error)
    if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError":
        return f"no answer within {CALL_S:g} s"
    if isinstance(error, BusyLoadingError):
        return "it is still loading its data"
    if isinstance(error, ReadOnlyError) or "READONLY" in text:
        return "it is a read-only replica"
    if isinstance(error, OutOfMemoryError) or "OOM" in text:
        return "it is out of memory (maxmemory)"
    if "MISCONF" in text:
        return f"it cannot write to its disk: {text}"
    return text or type(error).__name__


def unavailable(error: BaseException) -> StoreUnavailable:
    """The error that leaves this room."""
    return StoreUnavailable(f"Redis is unavailable: {reason(error)}", retry_after_s=1.0)


class Link:
    """Two pools of connections to one Redis: for calls, and for those who listen.

    A listener holds its connection for as long as it watches: from the same pool, a few dozen of
    them would leave none for calls.

    Nothing here retries: a write whose reply was lost may have happened, and a second one would
    refuse a name because of the first.
    """

    def __init__(self, url: str, *, home_id: str | None) -> None:
        self.url = url
        self._home_id = home_id
        self._claimed = False
        try:
            self._pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
                url, max_connections=POOL_SIZE, timeout=CALL_S, **_options()
            )
            self._listening: ConnectionPool = ConnectionPool.from_url(
                url, max_connections=WATCHES, **_options()
            )
        except ValueError as error:
            raise StoreUnavailable(f"this is not the URL of a Redis: {error}") from error
        self._redis: Redis = Redis(connection_pool=self._pool)
        self._listener: Redis = Redis(connection_pool=self._listening)
        self._execute: Callable[..., Awaitable[Any]] = self._redis.execute_command
        self._shas: dict[str, str] = {}
        self.closed = asyncio.Event()

    async def close(self) -> None:
        """Ends every connection, also those that watchers hold."""
        self.closed.set()
        for client, pool in ((self._redis, self._pool), (self._listener, self._listening)):
            await client.aclose()
            await pool.disconnect(inuse_connections=True)

    @asynccontextmanager
    async def guarded(self, limit_s: float = CALL_S) -> AsyncIterator[None]:
        """Bounds what happens inside and turns its failures into `StoreUnavailable`."""
        if self.closed.is_set():
            raise StoreUnavailable("the store is closed")
        try:
            async with asyncio.timeout(limit_s):
                yield
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            raise unavailable(error) from error

    async def call(self, *words: Any, limit_s: float = CALL_S) -> Any:
        """One command.

        Raises:
            StoreUnavailable: Redis did not answer in time, or answered with an error.
        """
        async with self.guarded(limit_s):
            return await self._execute(*words)

    async def script(self, name: str, at: Sequence[str], *args: Any) -> Any:
        """Runs one Lua script on the keys ``at``.

        Raises:
            StoreUnavailable: as for `call`.
        """
        async with self.guarded():
            try:
                return await self._evaluate(name, at, args)
            except NoScriptError:
                # Redis was restarted and forgot its scripts.
                self._shas.pop(name, None)
                return await self._evaluate(name, at, args)

    async def announcing(self, name: str, at: Sequence[str], *args: Any) -> Any:
        """Runs a script that begins with ``announce.lua``."""
        return await self.script(name, [keys.SEQUENCE, keys.EVENTS, *at], *args)

    async def _evaluate(self, name: str, at: Sequence[str], args: Sequence[Any]) -> Any:
        sha = self._shas.get(name)
        if sha is None:
            loaded = await self._execute("SCRIPT LOAD", script_source(name))
            sha = loaded.decode() if isinstance(loaded, bytes) else str(loaded)
            self._shas[name] = sha
        return await self._execute("EVALSHA", sha, len(at), *at, *args)

    def subscriber(self) -> PubSub:
        """A subscription of its own; the caller closes it."""
        return self._listener.pubsub(ignore_subscribe_messages=False)

    async def claim_home(self) -> None:
        """Makes an empty Redis this home's, and refuses another home's.

        Raises:
            StoreUnavailable: unreachable, or it carries another home's id.
        """
        if self._home_id is None:
            await self.call("PING")
            return
        if await self.call("SET", keys.HOME, self._home_id, "NX"):
            self._tell_about_an_empty_redis()
        found = await self.call("GET", keys.HOME)
        owner = found.decode("utf-8", "replace") if found else "nobody"
        if owner != self._home_id:
            raise StoreUnavailable(
                f"the Redis at {url_for_people(self.url)} belongs to another home (id {owner}, "
                f"this home's is {self._home_id}); give this home another Redis or another database"
            )
        self._claimed = True

    def _tell_about_an_empty_redis(self) -> None:
        if self._claimed:
            log.warning(
                "Redis came back empty: a controller that runs puts the functions that it knows "
                "back; projects and unfinished invocations are gone"
            )
        else:
            log.info("the Redis was empty and now belongs to this home; no function is deployed")


def _options() -> dict[str, Any]:
    return {
        "socket_connect_timeout": CONNECT_S,
        # `guarded` bounds every call. The client's own bound on writes is asyncio.wait_for,
        # which on Python 3.11 now and then swallows the cancellation of its caller.
        "socket_timeout": None,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
    }
