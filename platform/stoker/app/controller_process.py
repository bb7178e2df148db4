"""The controller's process: its loop and the control port, in one event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from stoker.api import build_app
from stoker.api.settings import ApiSettings
from stoker.app.entry import connect_patiently, run_process, say_ready
from stoker.app.ports import listening_socket
from stoker.app.settings import ProcessSettings
from stoker.controller.controller import Controller
from stoker.controller.settings import ControllerSettings
from stoker.nouns.home import Home
from stoker.nouns.version import VERSION
from stoker.store.catalog import Catalog

log = logging.getLogger(__name__)

DRAIN_MARGIN_S = 2.0
"""For what draining itself takes, beyond the work that is awaited."""
PORT_CLOSING_S = 2.0
"""For replies that are being sent when the port closes."""


class ControlPort(uvicorn.Server):
    """Uvicorn without its own signal handlers: this process has one way to end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to accept, and says so."""
        await super().startup(sockets)
        self.answers.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


async def serve(settings: ProcessSettings, stop: asyncio.Event) -> None:
    """Runs both until asked to stop; then the port closes, and the workers are drained."""
    home = Home.at(settings.home)
    with listening_socket(settings.host, settings.port) as listening:
        store = await connect_patiently(settings, stop)
        if store is None:
            return
        # Of its own: however many ask the port at once, the loop never waits for a connection.
        ports_store = await connect_patiently(settings, stop)
        catalog = await Catalog.open(home.catalog)
        try:
            if ports_store is not None:
                controller = Controller(store, home, _controller_settings(settings))
                api_settings = _api_settings(settings)
                app = build_app(ports_store, catalog, home, api_settings, controller.snapshot)
                await _run(
                    controller, ControlPort(_uvicorn(app)), listening, stop, settings.drain_s
                )
        finally:
            for opened in (store, ports_store, catalog):
                if opened is not None:
                    await opened.close()


async def _run(
    controller: Controller,
    port: ControlPort,
    listening: socket.socket,
    stop: asyncio.Event,
    drain_s: float,
) -> None:
    """Returns when asked to stop and drained.

    Raises:
        RuntimeError: the loop or the port ended by itself; the supervisor starts both again.
    """
    running = asyncio.create_task(controller.run())
    answering = asyncio.create_task(port.serve(sockets=[listening]))
    asked = asyncio.create_task(stop.wait())
    answers = asyncio.create_task(port.answers.wait())
    try:
        await asyncio.wait({running, answering, answers}, return_when=asyncio.FIRST_COMPLETED)
        if answers.done():
            say_ready()
        await asyncio.wait({running, answering, asked}, return_when=asyncio.FIRST_COMPLETED)
        for task in (running, answering):
            if task.done():
                task.result()
                raise RuntimeError("a part of the controller process ended by itself")
        await _drain(controller, drain_s)
    finally:
        port.should_exit = True
        answers.cancel()
        await _settle(running, answering, asked)


async def _drain(controller: Controller, drain_s: float) -> None:
    try:
        async with asyncio.timeout(drain_s + DRAIN_MARGIN_S):
            await controller.shutdown(drain=True)
    except TimeoutError:
        log.warning("workers were still busy after %g s; the supervisor ends them", drain_s)


async def _settle(
    running: asyncio.Task[None], answering: asyncio.Task[None], asked: asyncio.Task[bool]
) -> None:
    running.cancel()
    asked.cancel()
    await asyncio.wait({answering}, timeout=PORT_CLOSING_S)
    answering.cancel()
    for outcome in await asyncio.gather(running, answering, asked, return_exceptions=True):
        if isinstance(outcome, Exception):
            log.error("while ending: %r", outcome)


def _uvicorn(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(PORT_CLOSING_S),
    )


def _api_settings(settings: ProcessSettings) -> ApiSettings:
    return ApiSettings(
        host=settings.host,
        gateway_url=settings.gateway_url,
        api_keys=settings.control_keys,
        gateway_key=next(iter(settings.data_keys), None),
        version=VERSION,
    )


def _controller_settings(settings: ProcessSettings) -> ControllerSettings:
    return ControllerSettings(
        devices=settings.devices,
        control_url=settings.control_url,
        control_key=next(iter(settings.control_keys), None),
        gateway_url=settings.gateway_url,
        gateway_key=next(iter(settings.data_keys), None),
        redis_url=settings.redis_url,
        zygotes=frozenset(settings.zygotes),
    )


if __name__ == "__main__":
    run_process(serve)
