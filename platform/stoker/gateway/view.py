"""Keeps the router in step with the store, and the store informed of demand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from stoker.gateway.meters import Meters
from stoker.gateway.settings import GatewaySettings
from stoker.nouns.errors import StokerError, StoreUnavailable
from stoker.nouns.event import StoreEvent, Topic
from stoker.nouns.metrics import GatewaySnapshot
from stoker.nouns.record import Demand, FunctionRecord
from stoker.sdk.routing import Router
from stoker.store import Store

log = logging.getLogger(__name__)

READ_RETRY_S = 0.5
"""Between attempts to read the whole store, seconds."""


class View:
    """Follows the store. Without it, the last view stays in force.

    Attributes:
        ready: everything has been read once.
    """

    def __init__(
        self,
        store: Store,
        router: Router,
        meters: Meters,
        settings: GatewaySettings,
        snapshot: Callable[[], GatewaySnapshot],
    ) -> None:
        self.ready = False
        self._store = store
        self._router = router
        self._meters = meters
        self._settings = settings
        self._snapshot = snapshot
        self._lost = False
        self._wakes: set[asyncio.Task[None]] = set()

    # -- from the store

    async def follow(self) -> None:
        """Applies every announced change, until cancelled."""
        async for event in self._store.watch():
            await self._apply(event)

    async def refresh(self) -> None:
        """Reads everything now and then, in case an announcement was lost unnoticed."""
        while True:
            await asyncio.sleep(self._settings.resync_every_s)
            await self._ask(self._read_all)

    async def _apply(self, event: StoreEvent) -> None:
        match event.topic:
            case Topic.RESYNC:
                await self._read_all_at_last()
            case Topic.LOST:
                self._note_loss("its connection was lost")
            case Topic.FUNCTION:
                await self._ask(lambda: self._read_function(event.name))
            case Topic.REPLICA:
                await self._ask(lambda: self._read_replica(event.name))
            case Topic.WAKE:
                return  # for the controller

    async def _read_all_at_last(self) -> None:
        """Without this reading, all later announcements would fall on a wrong view."""
        answered = await self._ask(self._read_all)
        while not answered:
            await asyncio.sleep(READ_RETRY_S)
            answered = await self._ask(self._read_all)

    async def _read_all(self) -> None:
        functions = await self._store.list_functions()
        replicas = await self._store.list_replicas()
        usable = {name: record for name, record in functions.items() if _usable(record)}
        self._router.resync(usable, replicas)
        self.ready = True

    async def _read_function(self, name: str) -> None:
        record = await self._store.get_function(name)
        if record is None:
            self._router.remove_function(name)
        elif _usable(record):
            self._router.put_function(record)

    async def _read_replica(self, name: str) -> None:
        record = await self._store.get_replica(name)
        if record is None:
            self._router.remove_replica(name)
        else:
            self._router.put_replica(record)

    # -- to the store

    def wake(self, function: str) -> None:
        """Asks for a function to be brought from zero; the demand report repeats the question."""
        task = asyncio.get_running_loop().create_task(self._wake(function))
        self._wakes.add(task)
        task.add_done_callback(self._wakes.discard)

    async def _wake(self, function: str) -> None:
        await self._ask(lambda: self._store.ask_wake(function))

    async def report_demand(self) -> None:
        """Tells what is in flight and waiting, often while it changes, until cancelled."""
        gateway = self._settings.gateway
        told: dict[str, Demand] = {}
        due = 0.0
        loop = asyncio.get_running_loop()
        while True:
            demand = self._router.demand()
            if loop.time() >= due or not _alike(demand, told):
                if await self._ask(lambda: self._store.report_demand(gateway, demand)):  # noqa: B023
                    told = demand
                due = loop.time() + self._settings.report_every_s
            await asyncio.sleep(self._settings.demand_every_s)

    async def report_metrics(self) -> None:
        """Tells the counts, until cancelled."""
        while True:
            snapshot = dict(self._snapshot())
            await self._ask(
                lambda: self._store.report_metrics(self._settings.gateway, snapshot)  # noqa: B023
            )
            await asyncio.sleep(self._settings.report_every_s)

    async def _ask(self, question: Callable[[], Awaitable[None]]) -> bool:
        """Whether the store answered. Its absence is counted, and logged once a loss."""
        try:
            await question()
        except StoreUnavailable as error:
            self._meters.store_failures += 1
            self._note_loss(str(error))
            return False
        if self._lost:
            self._lost = False
            log.warning("the store is back")
        return True

    def _note_loss(self, reason: str) -> None:
        if not self._lost:
            self._lost = True
            log.warning("the store is away, the last view stays in force: %s", reason)


def _alike(now: dict[str, Demand], told: dict[str, Demand]) -> bool:
    """The same but for the passing of time."""
    return now.keys() == told.keys() and all(
        (demand.in_flight, demand.waiting, demand.arrivals)
        == (told[name].in_flight, told[name].waiting, told[name].arrivals)
        for name, demand in now.items()
    )


def _usable(record: FunctionRecord) -> bool:
    """Whether the numbers of its config can be read; one broken record must not stop the rest."""
    revision = record.serving or record.candidate
    try:
        if revision is not None:
            _ = revision.config.queue_limit, revision.config.max_body_bytes
    except (StokerError, ValueError) as error:
        log.error("function %s is ignored, its config cannot be read: %s", record.name, error)
        return False
    return True
