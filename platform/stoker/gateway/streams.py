"""Which shards this gateway reads, and for which functions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from stoker.decide.deliver import reads
from stoker.gateway.duty import Duty
from stoker.gateway.meters import Meters, StreamMeters
from stoker.gateway.shard import ShardConsumer
from stoker.nouns.errors import StoreUnavailable
from stoker.nouns.record import Revision
from stoker.nouns.stream_trigger import StreamTrigger
from stoker.sdk.routing import Lane, Router
from stoker.store import Store, keys

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""Between looks at what is to be read; leases are renewed at each."""
LATE_S = 5.0
"""For acknowledgements that are still to come when the gateway stops: a handler may hold some back
for as long as it likes, and they are only delivered again."""


class Streams:
    """Has one consumer for each shard whose lease this gateway holds.

    Single writer: `run`, and `listen` for the bells.
    """

    def __init__(self, store: Store, router: Router, meters: Meters, gateway: str) -> None:
        self._store = store
        self._router = router
        self._meters = meters
        self._gateway = gateway
        self._consumers: dict[str, ShardConsumer] = {}
        self._tasks: dict[ShardConsumer, asyncio.Task[None]] = {}
        self._subscribed: set[tuple[str, str, int]] = set()
        self._free_since: dict[str, float] = {}
        self._triggers: dict[str, tuple[Revision, tuple[StreamTrigger, ...]]] = {}
        self._needed = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Takes up and lays down shards, until cancelled."""
        while True:
            try:
                await self._look()
            except StoreUnavailable as error:
                log.info("the streams are not looked at while the store is away: %s", error)
            await asyncio.sleep(LOOK_S)

    async def listen(self) -> None:
        """Passes the bells on, once anything is read at all, until cancelled."""
        await self._needed.wait()
        async for bell in self._store.bells():
            for consumer in list(self._consumers.values()):
                duty = consumer.duty
                if bell is None or bell == (duty.trigger.stream, duty.shard):
                    consumer.ring()

    async def stop(self, grace_s: float) -> None:
        """Finishes what is in hand (at most ``grace_s``), and lets others read."""
        late_s = min(grace_s, LATE_S)
        self._stopping = True
        consumers, tasks = dict(self._consumers), list(self._tasks.values())
        for consumer in consumers.values():
            consumer.stop(late_s)
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lease, consumer in consumers.items():
            await self._give_back(lease, consumer)

    def measure(self) -> None:
        """Brings the lags of the meters up to date."""
        for function in self._meters.functions.values():
            for meters in function.streams.values():
                meters.lag = 0
        for consumer in self._consumers.values():
            self._meters_of(consumer.duty).lag += consumer.lag

    # -- inside

    async def _look(self) -> None:
        lanes = self._router.lanes
        # A revision holds its code: of functions that are gone nothing may stay.
        self._triggers = {name: known for name, known in self._triggers.items() if name in lanes}
        wanted = list(self._wanted())
        if self._stopping or not (wanted or self._tasks):
            return
        self._needed.set()
        await self._clear_ended()
        duties = await self._duties(wanted)
        self._lay_down(duties)
        await self._take_up(duties)

    def _wanted(self) -> Iterator[tuple[str, StreamTrigger]]:
        """The functions that serve, each with what it reads."""
        for lane in self._router.lanes.values():
            if not lane.limits.disabled:
                for trigger in self._triggers_of(lane):
                    yield lane.name, trigger

    def _triggers_of(self, lane: Lane) -> tuple[StreamTrigger, ...]:
        serving = lane.record.serving
        if serving is None:
            return ()
        # Not by its number: that of a function made anew under an old name begins at 1 again.
        known, triggers = self._triggers.get(lane.name, (None, ()))
        if known is not serving:
            triggers = tuple(serving.config.stream_triggers.values())
            self._triggers[lane.name] = serving, triggers
        return triggers

    async def _duties(self, wanted: list[tuple[str, StreamTrigger]]) -> dict[tuple[str, str], Duty]:
        """What there is to read, by lease and function; streams that are not there yet are left."""
        specs = await self._store.list_streams() if wanted else {}
        found: dict[tuple[str, str], Duty] = {}
        for function, trigger in wanted:
            spec = specs.get(trigger.stream)
            if spec is None:
                continue
            await self._subscribe(trigger, spec.shards)
            for shard in range(spec.shards):
                lease = keys.stream_lease(trigger.stream, shard, trigger.group)
                found[lease, function] = Duty(function, trigger, shard, spec.shards)
        return found

    async def _subscribe(self, trigger: StreamTrigger, shards: int) -> None:
        known = (trigger.stream, trigger.group, shards)
        if known not in self._subscribed:
            await self._store.subscribe(
                trigger.stream, shards, trigger.group, from_start=trigger.from_start
            )
            self._subscribed.add(known)

    def _lay_down(self, duties: dict[tuple[str, str], Duty]) -> None:
        """Stops what is to be read no more, or otherwise than now; it ends in its own time."""
        for lease, consumer in self._consumers.items():
            if duties.get((lease, consumer.duty.function)) != consumer.duty:
                consumer.stop(0.0)

    async def _take_up(self, duties: dict[tuple[str, str], Duty]) -> None:
        now = asyncio.get_running_loop().time()
        gateways = await self._store.list_gateways()
        owners: dict[str, str] = {}
        asking: dict[str, Duty] = {}
        for (lease, function), duty in duties.items():
            consumer = self._consumers.get(lease)
            since = self._free_since.setdefault(lease, now)
            if consumer is not None:
                owners[lease] = consumer.owner
            elif lease not in owners and reads(
                self._gateway, gateways, lease, free_since=since, now=now
            ):
                owners[lease] = f"{self._gateway}/{function}"
                asking[lease] = duty
        for lease in self._free_since.keys() - {lease for lease, _ in duties}:
            del self._free_since[lease]
        held = await self._store.hold_leases(owners, keys.STREAM_LEASE_TTL_S)
        for lease, mine in held.items():
            if mine and lease in asking and not self._stopping:
                self._begin(lease, asking[lease], owners[lease])
            elif not mine and lease in self._consumers:
                self._consumers[lease].stop(0.0)
            elif not mine:
                self._free_since[lease] = now

    def _begin(self, lease: str, duty: Duty, owner: str) -> None:
        consumer = ShardConsumer(self._store, self._router, duty, owner, self._meters_of(duty))
        self._consumers[lease] = consumer
        self._tasks[consumer] = asyncio.get_running_loop().create_task(consumer.run())

    async def _clear_ended(self) -> None:
        """Consumers that ended; the group of one that ended by itself may have to be made again."""
        for lease, consumer in list(self._consumers.items()):
            task = self._tasks[consumer]
            if not task.done():
                continue
            if not task.cancelled() and task.exception() is not None:
                log.error("a consumer of %s failed", lease, exc_info=task.exception())
            del self._consumers[lease], self._tasks[consumer]
            self._free_since.pop(lease, None)
            self._subscribed.clear()
            await self._give_back(lease, consumer)

    async def _give_back(self, lease: str, consumer: ShardConsumer) -> None:
        try:
            await self._store.release_lease(lease, consumer.owner)
        except StoreUnavailable:
            return  # it ends by itself then

    def _meters_of(self, duty: Duty) -> StreamMeters:
        return self._meters.of(duty.function).stream(duty.trigger.stream, duty.trigger.group)
