"""Acknowledgements on their way to the store, many in one call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from stoker.nouns.errors import StoreUnavailable

log = logging.getLogger(__name__)

TOGETHER = 512
"""Acknowledgements in one call."""
RETRY_S = 1.0
"""Between tries while the store is away, seconds."""


class AckWriter:
    """Writes what a shard's consumer has done with; while one call is under way, others gather.

    Args:
        write: acknowledges sequence numbers; may raise `StoreUnavailable`.
    """

    def __init__(self, write: Callable[[list[int]], Awaitable[None]]) -> None:
        self._write = write
        self._done: list[int] = []
        self._writing: list[int] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def unwritten(self) -> list[int]:
        """Done, and not known as such in the store yet."""
        return [*self._writing, *self._done]

    def add(self, sequences: Iterable[int]) -> None:
        """Records are done."""
        self._done += sequences
        if self._done and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def flush(self, limit_s: float) -> None:
        """Waits until everything is written, or until the time is over: then it is done again."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=limit_s)
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._done:
                self._writing, self._done = self._done[:TOGETHER], self._done[TOGETHER:]
                try:
                    await self._write(self._writing)
                except StoreUnavailable as error:
                    # Lost, they would be delivered again.
                    self._done = self._writing + self._done
                    log.info("%d acknowledgements wait for the store: %s", len(self._done), error)
                    await asyncio.sleep(RETRY_S)
                self._writing = []
        finally:
            self._task = None
