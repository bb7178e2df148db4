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

    async def run(self) -> None:
        """Watches until cancelled."""
        loop = asyncio.get_running_loop()
        ended = threading.Event()
        thread = threading.Thread(
            target=self._watch, args=(loop, ended), name="devices", daemon=True
        )
        thread.start()
        try:
            await loop.create_future()
        finally:
            ended.set()

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

    def _watch(self, loop: asyncio.AbstractEventLoop, ended: threading.Event) -> None:
        while not ended.wait(self._every_s):
            seen = self.look()
            if seen is not None and not ended.is_set():
                try:
                    loop.call_soon_threadsafe(self._report, seen)
                except RuntimeError:
                    return  # The loop ended meanwhile.
