"""The controller's shell: events in, the reconciler, verbs out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any

from stoker.controller.cron import Crontab, Firings
from stoker.controller.device_watch import DeviceWatch
from stoker.controller.devices import Driver, open_driver
from stoker.controller.hands import Hands, SystemClock, kill
from stoker.controller.happenings import (
    DemandSeen,
    DemandUnknown,
    FunctionSeen,
    Happening,
    Snapshot,
    Tick,
    WakeAsked,
)
from stoker.controller.leadership import Leadership
from stoker.controller.ledger import Ledger
from stoker.controller.log_files import prune_logs
from stoker.controller.memory import over_limit
from stoker.controller.orphans import end_orphans
from stoker.controller.overview import overview
from stoker.controller.reconcile import Reconciler
from stoker.controller.settings import ControllerSettings
from stoker.controller.world import World
from stoker.nouns.errors import StokerError, StoreUnavailable
from stoker.nouns.event import Topic
from stoker.nouns.function import FunctionConfig
from stoker.nouns.home import Home
from stoker.nouns.record import Revision
from stoker.store import Store

log = logging.getLogger(__name__)

HEARTBEAT_S = 20.0
MEMORY_S = 1.0
CRON_S = 0.5
ORPHANS_S = 15.0
LOGS_S = 60.0
SETTLE_POLL_S = 0.02
DRAIN_MARGIN_S = 3.0
"""Beyond the longest termination timeout, for SIGTERM, SIGKILL and the last records."""


class Controller:
    """The one controller of a home: while it holds the lease it acts, without it it only waits.

    Everything that happens goes through one queue and is handled by one task, so that nothing here
    needs a lock.
    """

    def __init__(self, store: Store, home: Home, settings: ControllerSettings) -> None:
        self._store = store
        self._home = home
        self._settings = settings
        self._leadership = Leadership(store, home, settings.lease_s)
        self._events: asyncio.Queue[Happening] = asyncio.Queue()
        self._hands: Hands | None = None
        self._reconciler: Reconciler | None = None
        self._crontab = Crontab()
        self._firings = Firings(settings)
        self._adopted = False
        self._missed = False
        self._lost = False
        self._after_loss = False
        self._rewound = False
        self._announced = 0
        self._stopping = False

    @property
    def is_leading(self) -> bool:
        """It holds the lease and acts."""
        return self._reconciler is not None

    def snapshot(self) -> dict[str, Any]:
        """What runs, for pages and metrics; JSON-able."""
        if self._reconciler is None:
            return {"leading": False}
        return {"leading": True, **overview(self._reconciler.world)}

    async def run(self) -> None:
        """Leads whenever it can, until cancelled. Workers live on when it ends.

        Raises:
            BadRequest: ``settings.devices`` cannot be read.
        """
        driver = open_driver(self._settings.devices, self._home)
        while True:
            try:
                await self._leadership.acquire()
                log.info("this controller leads")
                await self._lead(driver)
            finally:
                await self._step_down()

    async def _lead(self, driver: Driver) -> None:
        """Runs until the lease is another's."""
        self._events = asyncio.Queue()
        self._hands = Hands(self._store, self._home, self._settings, self._events.put_nowait)
        watch = DeviceWatch(driver, self._events.put_nowait)
        self._reconciler = await self._new_reconciler(self._hands, watch)
        duties: list[Coroutine[Any, Any, None]] = [
            self._handle(self._reconciler),
            self._observe_store(),
            self._observe_time(self._settings.tick_s, self._tick),
            self._observe_time(HEARTBEAT_S, self._heartbeat),
            self._observe_time(MEMORY_S, self._weigh),
            self._observe_time(CRON_S, self._fire_crons),
            self._observe_time(ORPHANS_S, self._end_orphans),
            self._observe_time(LOGS_S, self._prune_logs),
            watch.run(),
            self._hands.outbox.run(),
            *(zygote.run() for zygote in self._hands.zygotes.values()),
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(duty) for duty in duties]
            await self._leadership.keep()
            log.warning("the lease went to another controller: stepping down")
            for task in tasks:
                task.cancel()

    async def _new_reconciler(self, hands: Hands, watch: DeviceWatch) -> Reconciler:
        """It knows the devices before it places anything, unless their driver hangs."""
        seen = await watch.first()
        world = World(hands, SystemClock(), self._settings, self._home, Ledger({}, known=False))
        reconciler = Reconciler(world)
        if seen is not None:
            reconciler.handle(seen)
        return reconciler

    async def _step_down(self) -> None:
        hands, self._hands, self._reconciler = self._hands, None, None
        self._adopted = False
        if hands is not None:
            await hands.close()
        await self._firings.close()
        self._leadership.unlock()

    async def _handle(self, reconciler: Reconciler) -> None:
        while True:
            event = await self._events.get()
            # Before it knows what runs it would start what runs already.
            self._adopted = self._adopted or isinstance(event, Snapshot)
            if self._adopted:
                reconciler.handle(event)

    async def _observe_store(self) -> None:
        async for event in self._store.watch():
            try:
                match event.topic:
                    case Topic.LOST:
                        self._lost = self._after_loss = True
                    case Topic.RESYNC:
                        self._lost, self._missed = False, True
                        await self._read_all()
                    case Topic.FUNCTION:
                        record = await self._store.get_function(event.name)
                        self._events.put_nowait(FunctionSeen(event.name, record))
                    case Topic.WAKE:
                        self._events.put_nowait(WakeAsked(event.name))
            except StoreUnavailable as exc:
                self._missed = True
                log.info("the store went away while %s was read: %s", event.name or "all", exc)

    async def _read_all(self) -> None:
        """Reads everything, when something was missed or the store has forgotten something.

        Raises:
            StoreUnavailable: it stays missed; the next tick tries again.
        """
        await self._has_forgotten()
        if not self._missed or self._lost:
            return  # Whether it is the store that it was, is known once the watch is back.
        # Before the records: code that is there already is not that of a function created since.
        code = await asyncio.to_thread(_functions_with_code, self._home)
        functions = await self._store.list_functions()
        unreadable = self._store.unreadable_functions()
        replicas = await self._store.list_replicas()
        if await self._has_forgotten():
            return  # While it was read: the next tick reads it anew.
        self._events.put_nowait(
            Snapshot(functions, replicas, self._after_loss, self._rewound, unreadable, code)
        )
        self._missed = self._after_loss = self._rewound = False

    async def _has_forgotten(self) -> bool:
        """The store came back empty, or as it was a while ago. Nothing tells but its count."""
        before, self._announced = self._announced, await self._store.announced()
        if self._announced >= before:
            return False
        log.warning("the store holds less than it did: %d after %d", self._announced, before)
        self._rewound = self._missed = True
        return True

    async def _observe_time(
        self, every_s: float, act: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        told = ""
        while True:
            await asyncio.sleep(every_s)
            if not (self._adopted or self._missed):
                continue
            try:
                await act()
                told = ""
            except Exception as exc:
                # It looks again soon; ended, it would take the controller and all else with it.
                if told != repr(exc):
                    told = repr(exc)
                    log.exception("%s failed and is tried again", act.__name__.lstrip("_"))

    async def _tick(self) -> None:
        try:
            await self._read_all()
            self._events.put_nowait(DemandSeen(await self._store.read_demand()))
        except StoreUnavailable:
            log.debug("no demand: the store is away")
            self._events.put_nowait(DemandUnknown())
        self._events.put_nowait(Tick())

    async def _heartbeat(self) -> None:
        if self._reconciler is None:
            return
        try:
            gone = await self._store.heartbeat_replicas(list(self._reconciler.world.replicas))
            # They expired while the machine slept: whoever comes new would never hear of them.
            self._missed = self._missed or bool(gone)
        except StoreUnavailable:
            log.debug("no heartbeat: the store is away")

    async def _weigh(self) -> None:
        if self._reconciler is not None:
            for event in over_limit(self._reconciler.world):
                self._events.put_nowait(event)

    async def _fire_crons(self) -> None:
        if self._reconciler is None or self._stopping:
            return
        serving = [live.record.serving for live in self._reconciler.world.functions.values()]
        now = SystemClock().epoch()
        for firing in self._crontab.due(_readable(serving), now):
            self._firings.start(firing)

    async def _end_orphans(self) -> None:
        if self._reconciler is None or not self._adopted:
            return
        world = self._reconciler.world
        await end_orphans(
            self._home.workers, lambda name: name.rpartition(".")[0] in world.replicas, kill
        )

    async def _prune_logs(self) -> None:
        if self._reconciler is None:
            return
        world = self._reconciler.world
        for name in list(world.functions):
            in_use = frozenset(
                f"{replica.id}.{slot.index}.log"
                for replica in world.replicas_of(name)
                for slot in replica.slots
            )
            await asyncio.to_thread(prune_logs, self._home.function_logs(name), in_use)

    @staticmethod
    async def _all_gone(reconciler: Reconciler, hands: Hands) -> None:
        while True:
            if not reconciler.world.replicas and hands.outbox.is_empty:
                return
            await asyncio.sleep(SETTLE_POLL_S)

    async def shutdown(self, drain: bool) -> None:
        """Ends all workers: drained within their termination timeouts, or at once; records go too.

        To be called while `run` still runs; cancel that one afterwards.
        """
        reconciler = self._reconciler
        if reconciler is None or self._hands is None:
            return
        self._stopping = True
        limit_s = reconciler.stop_all(drain=drain) + DRAIN_MARGIN_S
        try:
            async with asyncio.timeout(limit_s):
                await self._all_gone(reconciler, self._hands)
        except TimeoutError:
            log.error("workers left after %g s: %s", limit_s, sorted(reconciler.world.replicas))
        try:
            await self._leadership.give_back()
        except StoreUnavailable:
            log.info("the lease is not given back: the store is away")


def _readable(revisions: Iterable[Revision | None]) -> Iterator[FunctionConfig]:
    """The configs, but for those that this version cannot read: their functions say so."""
    for revision in revisions:
        with suppress(StokerError, ValueError):
            if revision is not None:
                yield revision.config


def _functions_with_code(home: Home) -> frozenset[str]:
    if not home.functions.is_dir():
        return frozenset()
    return frozenset(path.name for path in home.functions.iterdir() if path.is_dir())
