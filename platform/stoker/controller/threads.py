"""Blocking work in threads: one that nobody leaves behind, and one that anybody may."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

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


async def answered_within(limit_s: float, work: Callable[[], Answer]) -> Answer:
    """Runs ``work`` in a daemon thread, which is left behind when it takes longer.

    One of the loop's own threads would keep the process from ending until the work has ended.

    Raises:
        TimeoutError: it has not ended within ``limit_s`` seconds.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Answer] = loop.create_future()

    def settle(outcome: Answer | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(cast("Answer", outcome))

    def run() -> None:
        told: tuple[Answer | None, BaseException | None]
        try:
            told = work(), None
        except Exception as exc:
            told = None, exc
        with suppress(RuntimeError):  # The loop has ended meanwhile.
            loop.call_soon_threadsafe(settle, *told)

    threading.Thread(target=run, daemon=True).start()
    async with asyncio.timeout(limit_s):
        return await answer
