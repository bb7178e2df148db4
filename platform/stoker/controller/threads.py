"""Blocking work in a thread that nobody leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


async def to_its_end(work: Callable[[], Answer], stop: Callable[[], None] | None = None) -> Answer:
    """Runs ``work`` in a thread; a cancelled caller goes on only when the thread is done.

    A thread cannot be ended from outside: one that was left behind would still write where the
    next work on the same files writes already.

    Args:
        work: what blocks.
        stop: asks the work to end early; called once, when the caller is cancelled.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        await asyncio.wait({running})
        if not running.cancelled():
            running.exception()  # Nobody wants it any more; unread it would be logged.
        raise
