"""One shard's records on their way to one function, each until it is done or given up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from stoker.decide.deliver import (
    Fate,
    Step,
    judge_error,
    judge_status,
    next_step,
    pause_s,
    place_of,
    retry_after,
)
from stoker.gateway.acks import AckWriter
from stoker.gateway.duty import Duty
from stoker.gateway.in_hand import Held, InHand
from stoker.gateway.insist import STORE_RETRY_S, insist
from stoker.gateway.invocations import Outcome
from stoker.gateway.meters import StreamMeters
from stoker.nouns.errors import (
    FunctionNotFound,
    NotFound,
    QueueFull,
    StokerError,
    StoreUnavailable,
)
from stoker.nouns.stream import Record
from stoker.nouns.stream_trigger import AckMode
from stoker.nouns.wire import ResponseMeta
from stoker.sdk.routing import Call, Lane, Link, Router
from stoker.store import Store

log = logging.getLogger(__name__)

NO_ACK = "x-nuclio-stream-no-ack"
TRY = "x-stoker-try"
UNACKNOWLEDGED = "its worker ended before it acknowledged it"
LOOK_S = 2.0
"""Between looks at an empty shard, at least: its bell rings sooner, unless it was lost."""
MOVE_S = 10.0
"""For the acknowledgements of one worker before another one gets the shard."""
FLUSH_S = 5.0
TAKE_BYTES = 8 * 1024 * 1024
"""Bytes of records that are taken at once, about."""
LONGEST_REASON = 2000


@dataclass(slots=True)
class Running:
    """The record that is with a worker now."""

    record: Record
    call: Call
    acked: bool = False
    lost: bool = False
    failure: str = ""


class ShardConsumer:
    """Gives a function the records of one shard, one at a time, in order while none fails.

    Single writer of everything here: its own task, and the callbacks of its links, which run
    between that task's steps.
    """

    def __init__(
        self, store: Store, router: Router, duty: Duty, owner: str, meters: StreamMeters
    ) -> None:
        self.duty = duty
        self.owner = owner
        self._store = store
        self._router = router
        self._meters = meters
        self._place = (duty.trigger.stream, duty.shard, duty.trigger.group)
        self._acks = AckWriter(lambda done: store.ack_records(*self._place, done))
        self._hand = InHand()
        self._running: Running | None = None
        self._home: Link | None = None
        self._changed = asyncio.Event()
        self._not_before = 0.0
        self._look_at = 0.0
        self._rings = 0
        self._postponed = 0
        self._stopping = False
        self._grace_s = 0.0
        self._last = 0
        self._position = 0
        self._record_bytes = 1024.0

    @property
    def lag(self) -> int:
        """Records that are not done with, as far as is known."""
        behind = max(0, self._last - self._position)
        return behind + self._hand.count + (self._running is not None)

    async def run(self) -> None:
        """Delivers until told to stop, until the lease is another's, or the group is gone."""
        trigger, hand = self.duty.trigger, self._hand
        try:
            while not self._stopping:
                if hand.failed:
                    await self._take_failed()
                if hand.lost:
                    await self._note_lost()
                facts = hand.facts(not_before=self._not_before, look_at=self._look_at)
                step, until = next_step(
                    facts, window=trigger.window, read_batch=trigger.read_batch, now=_now()
                )
                if step is Step.WAIT:
                    await self._wait(until)
                elif step is Step.RETRY and trigger.explicit:
                    await self._requeue(hand.take_due())
                elif step is Step.RETRY:
                    await self._deliver(hand.take_due())
                elif step is Step.DELIVER:
                    await self._deliver(hand.ready.popleft())
                elif not await self._take():
                    return
            await self._until(lambda: not hand.unacked, self._grace_s)
        except NotFound as error:  # the stream, or its group
            log.warning("%s", error)
        finally:
            self._let_go()
            await self._acks.flush(FLUSH_S)

    def stop(self, grace_s: float) -> None:
        """Takes no more; waits so long for what is acknowledged late."""
        self._stopping, self._grace_s = True, grace_s
        self._changed.set()

    def ring(self) -> None:
        """There may be more."""
        self._rings += 1
        self._look_at = 0.0
        self._changed.set()

    # -- what links tell

    def on_ack(self, link: Link, offset: int) -> None:
        """See `Debtor`."""
        running = self._running
        if running and running.call.link is link and running.record.sequence <= offset:
            running.acked = True
        self._finish(self._hand.acknowledge(link, offset))
        self._release(link)
        self._changed.set()

    def on_nack(self, link: Link, offset: int, reason: str) -> None:
        """See `Debtor`."""
        running = self._running
        if running and running.call.link is link and running.record.sequence == offset:
            running.failure = reason
        self._hand.fail(link, offset, reason)
        self._release(link)
        self._changed.set()

    def on_refused(self, link: Link) -> None:
        """See `Debtor`."""
        self._release(link)

    def on_link_lost(self, link: Link) -> None:
        """See `Debtor`."""
        if self._running and self._running.call.link is link:
            self._running.lost = True
        self._hand.lose(link)
        self._changed.set()

    # -- inside

    async def _take(self) -> bool:
        """More records, those first that were given out before; False: the lease is another's."""
        hand, rings = self._hand, self._rings
        try:
            if hand.scan is not None:
                found, hand.scan = await self._store.pending_records(*self._place, first=hand.scan)
                hand.add_pending(found, self._acks.unwritten)
                return True
            limit = min(self.duty.trigger.read_batch, max(1, int(TAKE_BYTES / self._record_bytes)))
            taken = await self._store.take_records(*self._place, owner=self.owner, limit=limit)
        except StoreUnavailable as error:
            log.info("no records while the store is away: %s", error)
            self._not_before = _now() + STORE_RETRY_S
            # What was given out may be ours, and only the answer lost: it has to be looked for.
            hand.scan = hand.scan or 0
            return True
        if taken is None:
            return False
        self._last = taken.last
        hand.ready += taken.records
        if taken.records:
            size = sum(len(record.data) for record in taken.records) / len(taken.records)
            self._record_bytes = max(1.0, (self._record_bytes + size) / 2)
        else:
            self._position = taken.last
        if not taken.records and rings == self._rings:
            self._look_at = _now() + max(self.duty.trigger.poll_s, LOOK_S)
        return True

    async def _deliver(self, record: Record) -> None:
        """One try of one record, and what follows from it."""
        if record.tries > self.duty.trigger.tries:
            await self._bury(record, UNACKNOWLEDGED)
            return
        lane = self._router.lanes.get(self.duty.function)
        if lane is None:
            self._postpone(record, FunctionNotFound(f"no function {self.duty.function!r}"))
            return
        outcome = Outcome()
        call = self._call(record, outcome, await self._worker(lane))
        if self._hand.lost:
            # While it waited for another worker; what that one took with it comes before this.
            self._hand.ready.appendleft(record)
            return
        running = self._running = Running(record, call)
        lane.submit(call)
        try:
            meta, body = await outcome.done
        except StokerError as error:
            await self._missed(running, error)
        else:
            await self._answered(running, meta, body)
        finally:
            self._running = None
            call.cancel()
            if call.link is not None:
                self._release(call.link)

    def _call(self, record: Record, outcome: Outcome, pin: Link | None) -> Call:
        trigger = self.duty.trigger
        return Call(
            outcome,
            f"{trigger.stream}:{record.shard}:{record.original or record.sequence}",
            "",
            "/",
            {TRY: str(record.tries)},
            record.data,
            trigger=trigger.name,
            record=self.duty.meta(record),
            debtor=self if trigger.explicit else None,
            pin=pin,
        )

    async def _worker(self, lane: Lane) -> Link | None:
        """The worker that the shard's records go to; None for any."""
        if not self.duty.trigger.sticky or not lane.active:
            return None
        workers = sorted(lane.active, key=lambda link: (link.replica, link.index))
        chosen = workers[place_of(self.duty.shard, len(workers))]
        home, self._home = self._home, chosen
        if home is not None and home is not chosen:
            # What it keeps in memory of this shard shall be written before another one goes on.
            await self._until(lambda: not self._hand.owed_by(home), MOVE_S)
        return chosen

    async def _answered(self, running: Running, meta: ResponseMeta, body: bytes) -> None:
        record, link = running.record, running.call.link
        self._seen(record)
        if running.failure:
            await self._failed(record, running.failure)
        elif running.acked:
            self._finish([record.sequence])
        elif judge_status(meta["status"]) is Fate.FAILED:
            text = body[:LONGEST_REASON].decode("utf-8", "replace")
            await self._failed(record, f"{meta.get('code') or meta['status']}: {text}")
        elif not self._waits_for_ack(meta):
            self._finish([record.sequence])
        elif running.lost or link is None:
            await self._failed(record, UNACKNOWLEDGED)
        else:
            self._hand.unacked[record.sequence] = Held(link, record.tries)

    async def _missed(self, running: Running, error: StokerError) -> None:
        record = running.record
        if judge_error(error) is Fate.POSTPONED:
            self._postpone(record, error)
            return
        self._seen(record)
        if running.acked:
            self._finish([record.sequence])
        else:
            await self._failed(record, f"{error.code}: {error.message}")

    def _seen(self, record: Record) -> None:
        self._meters.delivered += 1
        self._postponed = 0
        self._position = max(self._position, record.sequence)

    def _waits_for_ack(self, meta: ResponseMeta) -> bool:
        mode = self.duty.trigger.ack
        if mode is AckMode.ENABLE:
            return meta["headers"].get(NO_ACK, "").lower() == "true"
        return mode is AckMode.EXPLICIT_ONLY

    def _postpone(self, record: Record, error: StokerError) -> None:
        """The function takes nothing now: no try of the record, and no other one meanwhile."""
        self._hand.ready.appendleft(record)
        self._postponed += 1
        pause = pause_s(self._postponed, error.retry_after_s)
        self._not_before = _now() + pause
        if self._postponed == 1:
            log.info("%s takes no records, again in %g s: %s", self.duty.function, pause, error)

    async def _failed(self, record: Record, reason: str) -> None:
        trigger = self.duty.trigger
        wait_s = retry_after(record.tries, limit=trigger.tries, first_s=trigger.retry_s)
        if wait_s is None:
            await self._bury(record, reason)
            return
        self._meters.retried += 1
        again = replace(record, tries=record.tries + 1)
        next_try = {record.sequence: again.tries}
        await insist(lambda: self._store.note_tries(*self._place, next_try))
        self._hand.set_aside(again, _now() + wait_s)

    async def _requeue(self, record: Record) -> None:
        """Behind all others: an offset that is acknowledged means every smaller one as well."""
        stream, _, group = self._place
        try:
            await insist(lambda: self._store.requeue_record(stream, group, record))
            self._look_at = 0.0
        except QueueFull:
            self._hand.set_aside(record, _now() + STORE_RETRY_S)

    async def _bury(self, record: Record, reason: str) -> None:
        tried = min(record.tries, self.duty.trigger.tries)
        stream, shard, group = self._place
        log.warning(
            "record %d of shard %d of %s goes to the dead letters of %s after %d tries: %s",
            *(record.original or record.sequence, shard, stream, group, tried, reason[:200]),
        )
        last = replace(record, tries=tried)
        function = self.duty.function
        await insist(
            lambda: self._store.bury_record(stream, group, last, reason=reason, function=function)
        )
        self._meters.dead += 1

    async def _take_failed(self) -> None:
        """Records that failed after their worker had answered for them, as the store has them."""
        for sequence, reason in list(self._hand.failed.items()):
            found = await insist(
                lambda: self._store.pending_records(*self._place, first=sequence, limit=1)  # noqa: B023
            )
            del self._hand.failed[sequence]
            for record in found[0]:
                if record.sequence == sequence:
                    await self._failed(record, reason)

    async def _note_lost(self) -> None:
        """Records whose worker ended without acknowledging them are read and tried again."""
        trigger = self.duty.trigger
        lost = self._hand.take_lost()
        await insist(lambda: self._store.note_tries(*self._place, lost))
        self._meters.retried += len(lost)
        failures = max(lost.values()) - 1
        wait_s = retry_after(failures, limit=failures + 1, first_s=trigger.retry_s)
        self._not_before = _now() + (wait_s or 0.0)

    def _finish(self, done: list[int]) -> None:
        self._meters.acked += len(done)
        self._acks.add(done)

    def _release(self, link: Link) -> None:
        running = self._running is not None and self._running.call.link is link
        if self.duty.trigger.explicit and not running and not self._hand.owed_by(link):
            link.settle(self.duty.trigger.name, self.duty.shard)

    def _let_go(self) -> None:
        links = {held.link for held in self._hand.unacked.values()}
        self._hand.unacked.clear()
        for link in links:
            self._release(link)

    async def _wait(self, until: float | None) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout_at(until):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _until(self, true: Callable[[], bool], limit_s: float) -> None:
        deadline = _now() + limit_s
        while not true() and _now() < deadline:
            await self._wait(deadline)


def _now() -> float:
    return asyncio.get_running_loop().time()
