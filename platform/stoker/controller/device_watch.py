"""Looks at the devices again and again, in a thread: a driver in trouble blocks whoever asks it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from stoker.controller.devices import Driver, look
from stoker.controller.happenings import DevicesSeen
from stoker.nouns.device import DevicesUnknown

log = logging.getLogger(__name__)

EVERY_S = 1.0
FIRST_S = 5.0
"""How long the first look is waited for: then whatever needs no device goes on without it."""


class DeviceWatch:
    """One thread that reports what it sees to the loop it was made in.

    A daemon that nobody joins: a call that never comes back must not keep the process from ending.
    """

    def __init__(
        self, driver: Driver, report: Callable[[DevicesSeen], None], every_s: float = EVERY_S
    ) -> None:
        self._driver = driver
        self._report = report
        self._every_s = every_s
        self._complaint = ""
        self._first: asyncio.Future[DevicesSeen | None] | None = None
        self._ended = threading.Event()

    async def first(self, limit_s: float = FIRST_S) -> DevicesSeen | None:
        """What the first look sees; None when nobody can tell, or not in time.

        The thread goes on looking, and reports what it sees to whoever waits no more, until `run`
        is cancelled.
        """
        first = self._begin()
        try:
            async with asyncio.timeout(limit_s):
                return await first
        except TimeoutError:
            log.warning("the devices are not known yet: no answer within %g s", limit_s)
            return None

    async def run(self) -> None:
        """Watches until cancelled."""
        try:
            if self._first is None:
                self._begin().cancel()
            await asyncio.get_running_loop().create_future()
        finally:
            self._ended.set()

    def look(self) -> DevicesSeen | None:
        """One look; None when nobody can tell, which is logged once for each reason."""
        try:
            seen = look(self._driver)
        except DevicesUnknown as exc:
            if exc.message != self._complaint:
                log.warning("the devices are taken to be as they were: %s", exc.message)
            self._complaint = exc.message
            return None
        self._complaint = ""
        return DevicesSeen(seen)

    def _begin(self) -> asyncio.Future[DevicesSeen | None]:
        loop = asyncio.get_running_loop()
        self._first = loop.create_future()
        threading.Thread(target=self._watch, args=(loop,), name="devices", daemon=True).start()
        return self._first

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._ended.is_set():
            seen = self.look()
            try:
                loop.call_soon_threadsafe(self._tell, seen)
            except RuntimeError:
                return  # The loop ended meanwhile.
            self._ended.wait(self._every_s)

    def _tell(self, seen: DevicesSeen | None) -> None:
        if self._first is not None and not self._first.done():
            self._first.set_result(seen)
        elif seen is not None and not self._ended.is_set():
            self._report(seen)
