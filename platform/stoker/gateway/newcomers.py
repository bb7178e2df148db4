"""Names that this gateway has not heard of: asked for once before they are refused.

A deploy is over when the platform says so, and the announcement of it may still be on its way here:
a script that deploys and calls at once must not be told that there is no such function.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable

from stoker.nouns.errors import StoreUnavailable

KNOWN_FOR_S = 1.0
"""How long an answer of the store holds: whoever tries names out must not set the store's pace."""
MOST = 1000
"""Names remembered or asked for at once; beyond it the view is taken at its word."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


class Newcomers:
    """Asks for each unknown name at most once at a time.

    Single writer: the event loop's thread.

    Args:
        look_up: reads one function, and whatever replicas it has, into the router.
    """

    def __init__(
        self, look_up: Callable[[str], Awaitable[None]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look_up = look_up
        self._clock = clock
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._asked_at: dict[str, float] = {}

    def may_be(self, name: str) -> bool:
        """Whether it is worth asking for a name that the view does not have."""
        if name in self._asking:
            return True
        now = self._clock()
        if len(self._asked_at) >= MOST:
            self._asked_at = {n: at for n, at in self._asked_at.items() if now - at < KNOWN_FOR_S}
        asked_at = self._asked_at.get(name)
        fresh = asked_at is not None and now - asked_at < KNOWN_FOR_S
        return not fresh and len(self._asked_at) < MOST and _NAME.fullmatch(name) is not None

    async def ask(self, name: str) -> None:
        """Waits until the store has answered, or cannot; one who leaves ends nobody else's wait."""
        task = self._asking.get(name)
        if task is None:
            self._asked_at[name] = self._clock()
            task = self._asking[name] = asyncio.get_running_loop().create_task(self._ask(name))
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        await asyncio.shield(task)

    async def _ask(self, name: str) -> None:
        try:
            await self._look_up(name)
        except StoreUnavailable:
            return  # the view in force is all there is
