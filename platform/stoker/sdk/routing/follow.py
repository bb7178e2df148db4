"""Keeps a router in step with the store, and the store informed of demand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from stoker.nouns.errors import StokerError, StoreUnavailable
from stoker.nouns.event import StoreEvent, Topic
from stoker.nouns.record import Demand, FunctionRecord, ReplicaRecord
from stoker.sdk.routing.router import Router

log = logging.getLogger(__name__)

READ_RETRY_S = 0.5
"""Between attempts to read the whole store, seconds."""
RESTART_S = 0.5
"""Before a task that failed begins anew, seconds."""


class Source(Protocol):
    """What a follower needs of the store; `stoker.store.Store` has it.

    Every method may raise `StoreUnavailable`, `watch` excepted.
    """

    def watch(self) -> AsyncIterator[StoreEvent]:
        """Every announced change."""

    async def list_functions(self) -> dict[str, FunctionRecord]:
        """All functions by name."""

    async def list_replicas(self) -> dict[str, ReplicaRecord]:
        """All replicas by id."""

    async def get_function(self, name: str, /) -> FunctionRecord | None:
        """One function."""

    async def get_replica(self, replica_id: str, /) -> ReplicaRecord | None:
        """One replica."""

    async def ask_wake(self, function: str, /) -> None:
        """A request waits and no worker is warm."""

    async def report_demand(self, reporter: str, demand: Mapping[str, Demand], /) -> None:
        """Replaces what this reporter told before."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a follower reads and tells, seconds.

    Attributes:
        demand_every_s: between looks at demand, which is told when it has changed.
        report_every_s: between reports when nothing changes.
        resync_every_s: between whole readings, in case an announcement was lost unnoticed.
        rests: says nothing while there is nothing in flight: its last report expires.
    """

    demand_every_s: float = 0.2
    report_every_s: float = 1.0
    resync_every_s: float = 30.0
    rests: bool = False


class Follower:
    """Follows the store. Without it, the last view stays in force.

    Args:
        source: the store.
        router: what is kept in step.
        reporter: the name under which demand is told; unique in a home.
        pace: how often.
        wanted: names of the functions to follow; None follows all.

    """

    def __init__(
        self,
        source: Source,
        router: Router,
        reporter: str,
        pace: Pace,
        wanted: set[str] | None = None,
    ) -> None:
        self._read = asyncio.Event()
        self._source = source
        self._router = router
        self._reporter = reporter
        self._pace = pace
        self._wanted = wanted
        self._lost = False
        self._wakes: set[asyncio.Task[None]] = set()
        self._stirred = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Everything that is wanted has been read once."""
        return self._read.is_set()

    async def until_ready(self) -> None:
        """Waits for that."""
        await self._read.wait()

    # -- from the store

    async def follow(self) -> None:
        """Applies every announced change, until cancelled."""
        async for event in self._source.watch():
            await self._apply(event)

    async def refresh(self) -> None:
        """Reads everything now and then, in case an announcement was lost unnoticed."""
        while True:
            await asyncio.sleep(self._pace.resync_every_s)
            await self._ask(self._read_all)

    async def want(self, name: str) -> None:
        """Follows one more function, from its record as it is now.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        if self._wanted is not None:
            self._wanted.add(name)
        await self._read_function(name)
        if name in self._router.lanes:
            for record in (await self._source.list_replicas()).values():
                if record.function == name:
                    self._router.put_replica(record)

    async def _apply(self, event: StoreEvent) -> None:
        match event.topic:
            case Topic.RESYNC:
                await self._read_all_at_last()
            case Topic.LOST:
                self._note_loss("its connection was lost")
            case Topic.FUNCTION:
                if self._is_wanted(event.name):
                    await self._ask(lambda: self._read_function(event.name))
            case Topic.REPLICA:
                await self._ask(lambda: self._read_replica(event.name))
            case Topic.WAKE:
                return  # for the controller

    def _is_wanted(self, function: str) -> bool:
        return self._wanted is None or function in self._wanted

    async def _read_all_at_last(self) -> None:
        """Without this reading, all later announcements would fall on a wrong view."""
        answered = await self._ask(self._read_all)
        while not answered:
            await asyncio.sleep(READ_RETRY_S)
            answered = await self._ask(self._read_all)

    async def _read_all(self) -> None:
        functions = await self._read_functions()
        replicas = await self._source.list_replicas()
        usable = {name: record for name, record in functions.items() if _usable(record)}
        wanted = {id_: r for id_, r in replicas.items() if self._is_wanted(r.function)}
        self._router.resync(usable, wanted)
        self._read.set()

    async def _read_functions(self) -> dict[str, FunctionRecord]:
        if self._wanted is None:
            return await self._source.list_functions()
        # One by one: all records together hold the source code of every function.
        read = {name: await self._source.get_function(name) for name in tuple(self._wanted)}
        return {name: record for name, record in read.items() if record is not None}

    async def _read_function(self, name: str) -> None:
        record = await self._source.get_function(name)
        if record is None:
            self._router.remove_function(name)
        elif _usable(record):
            self._router.put_function(record)

    async def _read_replica(self, name: str) -> None:
        record = await self._source.get_replica(name)
        if record is None:
            self._router.remove_replica(name)
        elif self._is_wanted(record.function):
            self._router.put_replica(record)

    # -- to the store

    def wake(self, function: str) -> None:
        """Asks for a function to be brought from zero; the demand report repeats the question."""
        task = asyncio.get_running_loop().create_task(self._wake(function))
        self._wakes.add(task)
        task.add_done_callback(self._wakes.discard)

    async def _wake(self, function: str) -> None:
        await self._ask(lambda: self._source.ask_wake(function))

    def stir(self) -> None:
        """There is demand again: whoever rested reports."""
        self._stirred.set()

    async def report_demand(self) -> None:
        """Tells what is in flight and waiting, often while it changes, until cancelled."""
        told: dict[str, Demand] = {}
        due = 0.0
        loop = asyncio.get_running_loop()
        while True:
            self._stirred.clear()
            demand = self._router.demand()
            if loop.time() >= due or not _alike(demand, told):
                if await self._ask(lambda: self._source.report_demand(self._reporter, demand)):  # noqa: B023
                    told = demand
                due = loop.time() + self._pace.report_every_s
            if self._pace.rests and _alike(demand, told) and not _busy(demand):
                await self._stirred.wait()
            await asyncio.sleep(self._pace.demand_every_s)

    async def _ask(self, question: Callable[[], Awaitable[None]]) -> bool:
        """Whether the store answered. Its absence is counted, and logged once a loss."""
        try:
            await question()
        except StoreUnavailable as error:
            self._count_failure()
            self._note_loss(str(error))
            return False
        if self._lost:
            self._lost = False
            log.warning("the store is back")
        return True

    def _count_failure(self) -> None:
        """The store did not answer; for who counts that."""

    def _note_loss(self, reason: str) -> None:
        if not self._lost:
            self._lost = True
            log.warning("the store is away, the last view stays in force: %s", reason)


async def for_ever(work: Callable[[], Awaitable[None]]) -> None:
    """What runs until cancelled; ended by a mistake, it is begun anew, or nobody would do it."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed and begins anew", getattr(work, "__qualname__", work))
        await asyncio.sleep(RESTART_S)


def _alike(now: dict[str, Demand], told: dict[str, Demand]) -> bool:
    """The same but for the passing of time."""
    return now.keys() == told.keys() and all(
        (demand.in_flight, demand.waiting, demand.arrivals)
        == (told[name].in_flight, told[name].waiting, told[name].arrivals)
        for name, demand in now.items()
    )


def _busy(demand: dict[str, Demand]) -> bool:
    return any(function.in_flight or function.waiting for function in demand.values())


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
