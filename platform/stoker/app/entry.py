"""What the platform's own processes have in common: settings, log, signals, saying "ready"."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from stoker.app.child import READY_FD
from stoker.app.descriptors import allow_descriptors
from stoker.app.settings import ProcessSettings
from stoker.nouns.errors import StoreUnavailable
from stoker.store import Store

log = logging.getLogger(__name__)

RETRY_S = 0.2


def configure_logging(level: str) -> None:
    """One line an event on stderr, with the time in UTC."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=level.upper(),
        stream=sys.stderr,
        format="%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)


def run_process(serve: Callable[[ProcessSettings, asyncio.Event], Awaitable[None]]) -> None:
    """Reads the settings file named in ``argv`` and serves until SIGTERM or SIGINT."""
    settings = ProcessSettings.model_validate_json(Path(sys.argv[1]).read_bytes())
    configure_logging(settings.log_level)
    allow_descriptors()
    uvloop.run(_until_stopped(settings, serve))


async def _until_stopped(
    settings: ProcessSettings,
    serve: Callable[[ProcessSettings, asyncio.Event], Awaitable[None]],
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, stop)


async def connect_patiently(settings: ProcessSettings, stop: asyncio.Event) -> Store | None:
    """The store, as soon as Redis is there; None when asked to stop before that.

    A process that is started again while Redis is gone must wait for it, not die of it.
    """
    told = False
    while not stop.is_set():
        try:
            return await Store.connect(settings.redis_url, home_id=settings.home_id)
        except StoreUnavailable as error:
            if not told:
                log.warning("waiting for the store: %s", error)
                told = True
        await _pause(stop)
    return None


async def _pause(stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(RETRY_S):
            await stop.wait()
    except TimeoutError:
        return


def say_ready() -> None:
    """Tells the supervisor, once; a process that was started by hand has nobody to tell."""
    descriptor = os.environ.pop(READY_FD, None)
    if descriptor is not None:
        try:
            os.write(int(descriptor), b"ready\n")
        except BrokenPipeError:
            log.info("the supervisor that started this process is gone")
        os.close(int(descriptor))
