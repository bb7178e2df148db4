"""Durable invocations: a stream with a consumer group, at least once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import orjson

from stoker.nouns.errors import QueueFull, StoreUnavailable
from stoker.nouns.invocation import Invocation, InvocationState
from stoker.store import keys
from stoker.store.link import Link

SLICE_S = 1.0
"""One blocking read; below the socket's timeout, so that waiting does not look like a hang."""


class Invocations:
    """Requests accepted for later, and their replies."""

    _link: Link

    async def add_invocation(
        self,
        invocation_id: str,
        function: str,
        request: dict[str, Any],
        body: bytes,
        *,
        idempotency_key: str | None,
    ) -> str:
        """Keeps a request to be run at least once; the id that counts (earlier for a known key).

        Raises:
            QueueFull: too many invocations are unfinished.
        """
        at = [keys.INVOCATIONS, keys.invocation(invocation_id)]
        if idempotency_key is not None:
            at.append(keys.idempotency(function, idempotency_key))
        kept = await self._link.script(
            "invocation_add",
            at,
            invocation_id,
            function,
            orjson.dumps(request),
            body,
            repr(time.time()),
            keys.INVOCATION_TTL_S,
            keys.INVOCATION_LIMIT,
        )
        if not kept:
            raise QueueFull(
                f"{keys.INVOCATION_LIMIT} invocations are unfinished already", retry_after_s=5.0
            )
        return str(kept.decode())

    async def claim_invocation(
        self, consumer: str, *, block_s: float, idle_s: float
    ) -> Invocation | None:
        """The next one to run, or None after ``block_s``.

        First those that another consumer claimed ``idle_s`` ago without finishing or renewing.
        """
        deadline = asyncio.get_running_loop().time() + block_s
        while True:
            left = deadline - asyncio.get_running_loop().time()
            entry = await self._next_entry(consumer, min(SLICE_S, max(left, 0.0)), idle_s)
            if entry is not None:
                begun = await self._begin(*entry)
                if begun is not None:
                    return begun
            elif left <= SLICE_S:
                return None

    async def _next_entry(
        self, consumer: str, wait_s: float, idle_s: float
    ) -> tuple[bytes, dict[bytes, bytes]] | None:
        """One entry of the stream, abandoned ones first; waits for a new one."""
        await self._make_group()
        group, stream = keys.INVOCATION_GROUP, keys.INVOCATIONS
        idle_ms = int(idle_s * 1000)
        abandoned = await self._link.script("invocation_take", [stream], group, consumer, idle_ms)
        if abandoned:
            return abandoned[0], _pairs(abandoned[1])
        read = ["XREADGROUP", "GROUP", group, consumer, "COUNT", 1]
        if wait_s > 0:  # BLOCK 0 would wait for ever
            read += ["BLOCK", max(1, int(wait_s * 1000))]
        fresh = await self._link.call(*read, "STREAMS", stream, ">")
        if not fresh:
            return None
        entries = fresh[stream.encode()][0] if isinstance(fresh, dict) else fresh[0][1]
        entry, fields = entries[0]
        return entry, dict(fields)

    async def _make_group(self) -> None:
        await self._link.script("invocation_group", [keys.INVOCATIONS], keys.INVOCATION_GROUP)

    async def _begin(self, entry: bytes, fields: dict[bytes, bytes]) -> Invocation | None:
        found = await self._link.script(
            "invocation_begin", [keys.invocation(fields.get(b"id", b"").decode())]
        )
        if found:
            return _invocation(_pairs(found))
        await self._link.call("XACK", keys.INVOCATIONS, keys.INVOCATION_GROUP, entry)
        await self._link.call("XDEL", keys.INVOCATIONS, entry)
        return None

    async def renew_invocation(self, consumer: str, invocation_id: str) -> bool:
        """Says that ``consumer`` still runs it; False if it is finished or another's by now."""
        renewed = await self._link.script(
            "invocation_renew",
            [keys.INVOCATIONS, keys.invocation(invocation_id)],
            keys.INVOCATION_GROUP,
            consumer,
        )
        return bool(renewed)

    async def finish_invocation(
        self, invocation_id: str, status: int, headers: dict[str, str], body: bytes
    ) -> None:
        """Keeps the reply for a day. The first reply counts; a later one is dropped."""
        await self._link.script(
            "invocation_finish",
            [keys.INVOCATIONS, keys.invocation(invocation_id)],
            keys.INVOCATION_GROUP,
            status,
            orjson.dumps(headers),
            body,
            repr(time.time()),
            keys.INVOCATION_TTL_S,
        )

    async def get_invocation(self, invocation_id: str) -> Invocation | None:
        """The invocation as it stands, or None."""
        found = await self._link.call("HGETALL", keys.invocation(invocation_id))
        return _invocation(found) if found else None


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _invocation(fields: dict[bytes, bytes]) -> Invocation:
    try:
        status = fields.get(b"status")
        return Invocation(
            id=fields[b"id"].decode(),
            function=fields[b"function"].decode(),
            state=InvocationState(fields[b"state"].decode()),
            request=orjson.loads(fields[b"request"]),
            body=fields.get(b"body", b""),
            attempts=int(fields[b"attempts"]),
            created_at=float(fields[b"created_at"]),
            finished_at=float(fields.get(b"finished_at", b"0")),
            status=None if status is None else int(status),
            headers=orjson.loads(fields.get(b"headers", b"{}")),
            reply=fields.get(b"reply", b""),
        )
    except (KeyError, ValueError) as error:
        raise StoreUnavailable(f"an invocation in Redis cannot be read: {error!r}") from error
