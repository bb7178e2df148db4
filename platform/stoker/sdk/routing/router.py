"""The live view: which functions there are, which workers, and the way to each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from stoker.nouns.errors import FunctionNotFound, ShuttingDown
from stoker.nouns.near import near_names
from stoker.nouns.record import Demand, FunctionRecord, ReplicaRecord, WorkerRecord
from stoker.nouns.wire import Hello
from stoker.sdk.routing.call import Call
from stoker.sdk.routing.clock import Clock, LoopClock
from stoker.sdk.routing.lane import Lane
from stoker.sdk.routing.link import Link, dial

RECONNECT_FIRST_S = 0.02
RECONNECT_LONGEST_S = 1.0

Dial = Callable[[Link], Awaitable[None]]


class Router:
    """Turns what the store says into links, and calls into outcomes.

    Args:
        hello: how to introduce ourselves to workers.
        on_wake: asked, once per need, to bring a function from zero.
        dial: connects a link to its worker.

    ``lanes`` is read freely (it is the way from a name to its traffic) and written here only.
    """

    def __init__(
        self,
        hello: Hello,
        on_wake: Callable[[str], None],
        *,
        clock: Clock | None = None,
        dial: Dial = dial,
    ) -> None:
        self.lanes: dict[str, Lane] = {}
        self._hello = hello
        self._on_wake = on_wake
        self._clock = clock or LoopClock(asyncio.get_running_loop())
        self._dial = dial
        self._replicas: dict[str, ReplicaRecord] = {}
        self._dialling: dict[Link, asyncio.Task[None]] = {}

    # -- what the store says

    def put_function(self, record: FunctionRecord) -> None:
        """A function was written."""
        lane = self.lanes.get(record.name)
        if lane is not None:
            lane.describe(record)
            return
        lane = self.lanes[record.name] = Lane(record, self._clock, self._on_wake)
        for replica in self._replicas.values():
            if replica.function == record.name:
                self._connect(lane, replica)

    def remove_function(self, name: str) -> None:
        """A function was deleted: who waits hears 404, who runs may finish."""
        lane = self.lanes.pop(name, None)
        if lane is not None:
            lane.close()
            for link in lane.links.values():
                self._stop_dialling(link)

    def put_replica(self, record: ReplicaRecord) -> None:
        """A replica was written: connect to its workers, or let go of a draining one."""
        self._replicas[record.id] = record
        lane = self.lanes.get(record.function)
        if lane is None:
            return
        if record.draining:
            self._disconnect(lane, record.id)
        else:
            self._connect(lane, record)

    def remove_replica(self, replica_id: str) -> None:
        """A replica is gone."""
        record = self._replicas.pop(replica_id, None)
        lane = self.lanes.get(record.function) if record else None
        if lane is not None:
            self._disconnect(lane, replica_id)

    def resync(
        self, functions: Mapping[str, FunctionRecord], replicas: Mapping[str, ReplicaRecord]
    ) -> None:
        """Takes over a whole view.

        A replica that the store no longer lists stays while one of its workers is connected and
        ready: the connection is the truth about a worker, the record (which expires when nobody
        can refresh it, as in a long outage of Redis) only says where to find it.
        """
        for name in self.lanes.keys() - functions.keys():
            self.remove_function(name)
        for replica_id in self._replicas.keys() - replicas.keys():
            if not self._alive(replica_id):
                self.remove_replica(replica_id)
        for record in functions.values():
            self.put_function(record)
        for replica in replicas.values():
            self.put_replica(replica)

    # -- what callers ask

    def submit(self, function: str, call: Call) -> None:
        """Takes a call; its caller hears exactly one outcome.

        Raises:
            FunctionNotFound: no such function; ``detail["near"]`` lists similar names.
        """
        lane = self.lanes.get(function)
        if lane is None:
            raise self.unknown(function)
        lane.submit(call)

    def unknown(self, function: str) -> FunctionNotFound:
        """The refusal of a name that nobody has."""
        near = near_names(function, list(self.lanes))
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        error = FunctionNotFound(f"no function {function!r}{hint}", near=near)
        error.name = function
        return error

    def demand(self) -> dict[str, Demand]:
        """Demand of every function, for the autoscaler."""
        offset = time.time() - self._clock.now()
        return {name: lane.demand(offset) for name, lane in self.lanes.items()}

    async def close(self) -> None:
        """Drops every connection; who waits hears 503 shutting_down."""
        for task in self._dialling.values():
            task.cancel()
        await asyncio.gather(*self._dialling.values(), return_exceptions=True)
        for lane in self.lanes.values():
            lane.close(ShuttingDown("the gateway is stopping"))
            for link in list(lane.links.values()):
                link.abort()
        self.lanes.clear()

    # -- inside

    def _alive(self, replica_id: str) -> bool:
        record = self._replicas[replica_id]
        lane = self.lanes.get(record.function)
        return lane is not None and any(
            link.ready for (replica, _), link in lane.links.items() if replica == replica_id
        )

    def _connect(self, lane: Lane, record: ReplicaRecord) -> None:
        if record.draining:
            return
        for worker in record.workers:
            link = lane.links.get((record.id, worker.index))
            if link is not None and (link.retired or link.socket != worker.socket):
                self._stop_dialling(link)
                lane.detach((record.id, worker.index))
                link = None
            if worker.phase.is_terminal:
                continue
            if link is None:
                self._open(lane, record, worker)
            else:
                self._redial(lane, link)

    def _open(self, lane: Lane, record: ReplicaRecord, worker: WorkerRecord) -> None:
        link = Link(
            lane,
            self._hello,
            replica=record.id,
            revision=record.revision,
            index=worker.index,
            socket=worker.socket,
        )
        link.on_lost = lambda: self._redial(lane, link)
        lane.attach(link)
        self._redial(lane, link)

    def _disconnect(self, lane: Lane, replica_id: str) -> None:
        for key in [key for key in lane.links if key[0] == replica_id]:
            self._stop_dialling(lane.links[key])
            lane.detach(key)

    def _redial(self, lane: Lane, link: Link) -> None:
        """Keeps trying while the store lists the worker: it may be replaced at the same socket."""
        if link.connected or link.retired or link in self._dialling:
            return
        task = asyncio.get_running_loop().create_task(self._dial_until_there(lane, link))
        self._dialling[link] = task
        task.add_done_callback(lambda _: self._dialling.pop(link, None))

    def _stop_dialling(self, link: Link) -> None:
        task = self._dialling.get(link)
        if task is not None:
            task.cancel()

    async def _dial_until_there(self, lane: Lane, link: Link) -> None:
        delay = RECONNECT_FIRST_S
        while not link.retired:
            try:
                await self._dial(link)
            except OSError:
                # Nobody listens, so no worker is on its way here: whoever waits must ask for one.
                lane.expect(link, coming=False)
                await asyncio.sleep(delay)
                delay = min(2 * delay, RECONNECT_LONGEST_S)
            else:
                return
