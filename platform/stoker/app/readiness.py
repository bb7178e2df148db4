"""Whether a started platform answers: Redis, a zygote's first line, the two ports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path

import httpx

from stoker.app.child import Child, StartFailed
from stoker.nouns.errors import StoreUnavailable
from stoker.store import Store

POLL_S = 0.02
REDIS_S = 600.0
"""A long append-only file takes long to load."""
PORT_S = 60.0
ZYGOTE_S = 180.0
"""Importing torch or mlrun from a cold disk."""


async def unless_it_ends(child: Child, ready: Awaitable[None], limit_s: float) -> None:
    """Awaits ``ready``.

    Raises:
        StartFailed: the process ended first, or ``limit_s`` passed.
    """
    waiting = asyncio.ensure_future(ready)
    ending = asyncio.create_task(child.until_ended())
    try:
        done, _ = await asyncio.wait(
            {waiting, ending}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
        )
        if waiting in done:
            return waiting.result()
        raise child.failure(
            "ended before it was ready" if done else f"was not ready within {limit_s:g} s"
        )
    finally:
        waiting.cancel()
        ending.cancel()
        await asyncio.gather(waiting, ending, return_exceptions=True)


async def redis_answers(url: str) -> None:
    """Returns once the embedded Redis answers, its file loaded."""
    while True:
        try:
            store = await Store.connect(url)
        except StoreUnavailable:
            await asyncio.sleep(POLL_S)
        else:
            return await store.close()


async def zygote_answers(socket: Path) -> None:
    """Returns once a zygote says hello."""
    while True:
        try:
            reader, writer = await asyncio.open_unix_connection(str(socket))
        except OSError:
            await asyncio.sleep(POLL_S)
            continue
        try:
            if await reader.readline():
                return
        finally:
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(POLL_S)


async def port_answers(url: str, keys: Sequence[str], limit_s: float = PORT_S) -> None:
    """Returns once ``/readyz`` answers 200.

    Args:
        url: of the port.
        keys: any of them opens the port; empty when none is asked for.
        limit_s: seconds until it is given up.

    Raises:
        StartFailed: it did not within ``limit_s``; the message carries its last answer.
    """
    last = "no answer"
    headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
    client = httpx.AsyncClient(trust_env=False, headers=headers)
    try:
        async with asyncio.timeout(limit_s), client:
            while True:
                try:
                    reply = await client.get(f"{url}/readyz", timeout=2.0)
                    if reply.status_code == httpx.codes.OK:
                        return
                    last = f"{reply.status_code} {reply.text[:300]}"
                except httpx.TransportError as error:
                    last = repr(error)
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        raise StartFailed(f"{url}/readyz was not ready within {limit_s:g} s: {last}") from error
