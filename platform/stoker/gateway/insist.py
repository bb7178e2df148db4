"""Writes that must happen, however long the store is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from stoker.nouns.errors import StoreUnavailable

log = logging.getLogger(__name__)
_T = TypeVar("_T")

STORE_RETRY_S = 1.0
"""Between tries while the store is away, seconds."""


async def insist(work: Callable[[], Awaitable[_T]]) -> _T:
    """Does it, again until the store has answered: not written down, it would not have happened."""
    while True:
        try:
            return await work()
        except StoreUnavailable as error:
            log.info("waiting for the store: %s", error)
            await asyncio.sleep(STORE_RETRY_S)
