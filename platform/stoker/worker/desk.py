"""The worker's desk: admits or refuses requests, keeps the inbox, tells callers the worker's state.

Every decision about the worker's life is `stoker.decide.lifecycle.move`'s; this module carries its
effects out.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import orjson

from stoker.decide.lifecycle import Effect, Signal, WorkerLife, move
from stoker.nouns.errors import DeadlineExceeded, HandlerFailed, ShuttingDown
from stoker.nouns.launch import WorkerLaunch
from stoker.nouns.record import Phase
from stoker.nouns.wire import (
    MAX_PAYLOAD,
    META,
    Hello,
    Kind,
    ProtocolError,
    RequestMeta,
    frame,
    frame_with_meta,
)
from stoker.sdk.sleep import Sleepers
from stoker.worker.acks import Acks
from stoker.worker.answer import Answer, failure
from stoker.worker.connection import Connection
from stoker.worker.ends import CANCELLED, ENDED_OK, error_end
from stoker.worker.leaving import Leaving
from stoker.worker.log import WorkerLog
from stoker.worker.recorder import Recorder
from stoker.worker.rest import Rest
from stoker.worker.state import state_frame
from stoker.worker.ticket import Ticket

# Every request needs these, and a look-up in an Enum costs ten times that of a global.
_REQUEST = int(Kind.REQUEST)
_RESPONSE = Kind.RESPONSE
_READY = Phase.READY
_DISPATCH, _FINISH = Signal.DISPATCH, Signal.FINISH
_REFUSE, _EXIT = Effect.REFUSE, Effect.EXIT
_BUSY_FULL = orjson.dumps({"reason": "full"})
_BUSY_DRAINING = orjson.dumps({"reason": "draining"})
_BUSY_STARTING = orjson.dumps({"reason": "starting"})
_BUSY_ASLEEP = orjson.dumps({"reason": "asleep"})
_BUSY = {Phase.STARTING: _BUSY_STARTING, Phase.ASLEEP: _BUSY_ASLEEP}
_ANNOUNCE = frozenset(
    {
        Effect.ANNOUNCE_READY,
        Effect.ANNOUNCE_ASLEEP,
        Effect.ANNOUNCE_STARTING,
        Effect.ANNOUNCE_DRAINING,
    }
)
FAILURE_LINGER_S = 5.0
"""Seconds that a worker which could not start, or wake, waits for a controller to be told why."""
_LARGEST_ANSWER = MAX_PAYLOAD - META.size


class Desk:
    """Single writer of the worker's life, inbox and peers; lives on the worker's loop.

    Attributes:
        life: the worker as the lifecycle sees it.
        waiting: admitted requests that the handler has not seen, oldest first.
        pump: starts what may start; set by the runner when the handler is there.
        told_failure: set once a controller has been told that the worker failed.
        acks: takes the explicit acknowledgements of records to who brought them.
        recorder: keeps a sample of what is asked and answered; None unless that is declared.
    """

    def __init__(
        self,
        launch: WorkerLaunch,
        log: WorkerLog,
        loop: asyncio.AbstractEventLoop,
        sleepers: Sleepers,
    ) -> None:
        self.life = WorkerLife(Phase.STARTING, 0, launch.permits)
        self.waiting: deque[Ticket] = deque()
        self.pump: Callable[[], None] = lambda: None
        self.leave = asyncio.Event()
        self.told_failure = asyncio.Event()
        self.acks = Acks(loop)
        self.recorder: Recorder | None = None
        self._left = asyncio.Event()
        self._launch = launch
        self._limit_s = launch.event_timeout_s
        self._leaving = Leaving(loop, launch.termination_s, self._give_up)
        self._log = log
        self._loop = loop
        self._error = ""
        self._rest = Rest(sleepers, log)
        self._peers: set[Connection] = set()
        self._refused: set[Connection] = set()

    # What callers send

    def on_frame(self, connection: Connection, kind: int, stream: int, payload: bytes) -> None:
        """One frame of a caller."""
        if kind == _REQUEST:
            self._request(connection, stream, payload)
            return
        ticket = connection.tickets.get(stream)
        if kind == Kind.HELLO:
            self._hello(connection, orjson.loads(payload))
        elif kind == Kind.PING:
            connection.send_kind(Kind.PONG, 0)
        elif kind == Kind.DRAIN:
            self.drain(payload)
        elif kind == Kind.SLEEP:
            self.sleep(connection)
        elif kind == Kind.WAKE:
            self._advance(Signal.WAKE)
        elif kind not in (Kind.CANCEL, Kind.PAUSE, Kind.RESUME):
            raise ProtocolError(f"frame kind {kind:#x} is not for workers")
        elif ticket is None:
            return  # it crossed the answer on its way
        elif kind == Kind.CANCEL:
            self._cancel(ticket)
        elif kind == Kind.PAUSE:
            ticket.pause()
        else:
            ticket.resume()

    def on_turn(self) -> None:
        """All frames that had arrived are handled: start what may start."""
        self.pump()

    def on_lost(self, connection: Connection) -> None:
        """A caller is gone: nobody waits for its requests."""
        self._peers.discard(connection)
        self._left.set()
        self._refused.discard(connection)
        for ticket in list(connection.tickets.values()):
            self._cancel(ticket)

    def _hello(self, connection: Connection, hello: Hello) -> None:
        connection.role = hello["role"]
        connection.caller = hello.get("function", "")
        self._peers.add(connection)
        self._tell_state(connection)

    def _request(self, connection: Connection, stream: int, payload: bytes) -> None:
        if not connection.role or stream in connection.tickets:
            raise ProtocolError(f"a request before HELLO, or on stream {stream} that is in use")
        phase = self.life.phase
        if phase is not _READY and phase.is_terminal:
            self._refuse(connection, stream)
            return
        life, effects = move(self.life, _DISPATCH)
        if _REFUSE in effects:
            self._refuse(connection, stream)
            return
        (length,) = META.unpack_from(payload)
        meta: RequestMeta = orjson.loads(payload[4 : 4 + length])
        now = time.monotonic()
        deadline = meta["deadline"]
        limit = self._limit_s
        if limit is not None and (deadline is None or deadline > now + limit):
            deadline = now + limit
        ticket = Ticket(connection, stream, meta, payload[4 + length :], now, deadline)
        self.life = life
        connection.tickets[stream] = ticket
        self.waiting.append(ticket)

    def _refuse(self, connection: Connection, stream: int) -> None:
        if self.life.phase is Phase.READY:
            self._refused.add(connection)
            reason = _BUSY_FULL
        else:
            reason = _BUSY.get(self.life.phase, _BUSY_DRAINING)
        # At once: the handler that keeps this worker busy may hold the loop for long.
        connection.send_now(frame(Kind.BUSY, stream, reason))

    def _cancel(self, ticket: Ticket) -> None:
        ticket.cancel()
        if ticket.started or ticket.done:
            return
        if ticket in self.waiting:
            self.waiting.remove(ticket)
        self.end(ticket, CANCELLED)

    # What the runner reports

    def tell_queued(self) -> None:
        """Tell the callers of what still waits that the handler has not seen it."""
        # A copy: a caller that cannot be written to is lost, and its requests leave the inbox.
        for ticket in tuple(self.waiting):
            if not ticket.told_queued and not ticket.done:
                ticket.told_queued = True
                ticket.connection.send_now(frame(Kind.QUEUED, ticket.stream))

    def tell_started(self, ticket: Ticket) -> None:
        """Tell the caller of a request that waited that the handler sees it now.

        It is in the kernel when this returns: a handler that takes the process down must not leave
        its caller believing that running the request again is safe.
        """
        if ticket.told_queued:
            ticket.connection.send_now(frame(Kind.STARTED, ticket.stream))

    def answer(self, ticket: Ticket, answer: Answer, *, ended: float, now: bool = False) -> None:
        """The outcome of a request: one whole answer. ``now`` writes it before the loop turns."""
        if ticket.done:
            return
        if ticket.streamed:
            # A whole answer would land inside the body of the one that began.
            self.end(ticket, error_end(answer.body))
            return
        meta: dict[str, object] = {"status": answer.status, "headers": answer.headers}
        if answer.code:
            meta["code"] = answer.code
        if ticket.started:
            meta |= ticket.stages(ended)
        try:
            shown = orjson.dumps(meta)
        except TypeError as exc:
            self._unsendable(ticket, f"headers that cannot be sent: {exc}", ended)
            return
        if len(answer.body) + len(shown) > _LARGEST_ANSWER:
            self._unsendable(
                ticket, f"a body of {len(answer.body)} bytes, which is too large", ended
            )
            return
        ticket.done = True
        data = frame_with_meta(_RESPONSE, ticket.stream, shown, answer.body)
        if now:
            ticket.connection.send_now(data)
        else:
            ticket.connection.send(data)
        self._finish(ticket)
        if self.recorder is not None:
            self.recorder.answered(ticket, answer, ended)

    def _unsendable(self, ticket: Ticket, what: str, ended: float) -> None:
        text = f"the handler returned {what}"
        self._log.write("error", text)
        self.answer(ticket, failure(500, HandlerFailed.code, text), ended=ended)

    def end(self, ticket: Ticket, payload: bytes = CANCELLED) -> None:
        """The outcome of a request: the end of its stream, or its cancellation."""
        if ticket.done:
            return
        ticket.done = True
        ticket.connection.send_kind(Kind.END, ticket.stream, payload)
        self._finish(ticket)
        if ticket.tape is not None and self.recorder is not None and payload == ENDED_OK:
            self.recorder.streamed(ticket, ticket.tape)

    def expire(self, ticket: Ticket) -> None:
        """The outcome of a request whose deadline passed."""
        text = "the deadline passed" if ticket.started else "the deadline passed in the queue"
        answer = failure(DeadlineExceeded.status, DeadlineExceeded.code, text)
        self.answer(ticket, answer, ended=time.monotonic())

    def _finish(self, ticket: Ticket) -> None:
        # It is done already, before anything was written: a caller that cannot be written to is
        # lost, which ends its requests, and one outcome must not count twice.
        ticket.connection.tickets.pop(ticket.stream, None)
        self.life, effects = move(self.life, _FINISH)
        if _EXIT in effects:
            self.leave.set()
        if self._refused:
            refused, self._refused = self._refused, set()
            for connection in refused:
                connection.send_kind(Kind.IDLE, 0)

    # The worker's life

    def ready(self) -> None:
        """``init_context`` returned."""
        self._advance(Signal.INITIALIZED)

    def sleep(self, asked: Connection) -> None:
        """Take the weights off the device, if there is no work and they can leave at all."""
        if self._rest.possible:
            self._advance(Signal.SLEEP)
        if self.life.phase is Phase.READY:
            self._tell_state(asked)  # it stays awake, and who asked counts on its bytes

    def _offload(self) -> None:
        """The weights leave the device. What half left it serves nobody: the worker goes."""
        if self._rest.sleep():
            self.drain()

    def _bring_back(self) -> None:
        """The weights come back to the device."""
        error = self._rest.wake()
        if not error:
            self.ready()
            return
        self.fail(error)
        # The controller ends it once told; without one it must not stay for ever.
        self._loop.call_later(FAILURE_LINGER_S, self.leave.set)

    def fail(self, error: str) -> None:
        """The import, ``init_context`` or a wake raised; ``error`` is the traceback."""
        self._error = error
        self.life, _ = move(self.life, Signal.INIT_FAILED)
        for connection in list(self._peers):
            self._tell_state(connection)

    def drain(self, told: bytes = b"") -> None:
        """Accept nothing more; leave when what was accepted is done, or its time is up.

        ``told`` is a DRAIN frame's payload; without one it has the termination timeout.
        """
        if self.life.phase is Phase.FAILED:
            return
        self._leaving.begin(told)
        if self.life.phase is Phase.DRAINING:
            return
        self._log.write("info", "draining", {"in_flight": self.life.in_flight})
        self._advance(Signal.DRAIN)
        self.pump()

    @property
    def left_s(self) -> float:
        """`Leaving.hook_s`."""
        return self._leaving.hook_s

    def _advance(self, signal: Signal) -> None:
        self.life, effects = move(self.life, signal)
        for effect in effects:
            if effect in _ANNOUNCE:
                for connection in list(self._peers):
                    self._tell_state(connection)
            elif effect is Effect.OFFLOAD:
                self._offload()
            elif effect is Effect.LOAD:
                self._bring_back()
            elif effect is Effect.EXIT:
                self.leave.set()

    def _give_up(self) -> None:
        """The termination time is over: what waits goes back, what runs is cut off."""
        while self.waiting:
            ticket = self.waiting.popleft()
            ticket.done = True
            ticket.connection.send_kind(Kind.BUSY, ticket.stream, _BUSY_DRAINING)
            self._finish(ticket)
        for connection in list(self._peers):
            for ticket in list(connection.tickets.values()):
                text = "the worker had to stop before the request was done"
                answer = failure(ShuttingDown.status, ShuttingDown.code, text)
                self.answer(ticket, answer, ended=time.monotonic())
        self.leave.set()

    def tell_shortage(self) -> None:
        """A request failed for want of device memory: who places replicas is to know."""
        for connection in [peer for peer in self._peers if peer.role == "controller"]:
            self._tell_state(connection)

    def _tell_state(self, connection: Connection) -> None:
        controller = connection.role == "controller"
        sleeps, phase = self._rest.possible, self.life.phase
        told = state_frame(self._launch, phase, sleeps, self._error, to_controller=controller)
        connection.send_now(told)
        if self._error and controller:
            self.told_failure.set()

    async def part(self, timeout_s: float) -> None:
        """Tell the callers that the end is orderly, and wait until they have closed.

        Unread requests in its socket would cut the last frame off, and with it the word that they
        were never admitted. The controller waits for the end of the process, so it is not awaited.
        """
        self.life, _ = move(self.life, Signal.EXITED)
        for connection in list(self._peers):
            self._tell_state(connection)
        deadline = self._loop.time() + timeout_s
        while any(peer.role != "controller" for peer in self._peers):
            self._left.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._left.wait()
            except TimeoutError:
                self._log.write("warn", "a caller did not close after it was told of the end")
                return

    def close(self, timeout_s: float) -> None:
        """Write what callers have not got yet; the process ends next."""
        for connection in self._peers:
            connection.finish(timeout_s)
