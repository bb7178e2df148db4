"""One connection to one worker: many requests, each with exactly one outcome."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, cast

import orjson

from stoker.nouns.errors import DeadlineExceeded, HandlerFailed
from stoker.nouns.record import Phase
from stoker.nouns.wire import (
    FrameReader,
    Hello,
    Kind,
    ProtocolError,
    frame,
    frame_with_meta,
    split_meta,
)
from stoker.sdk.routing.call import Call, Debtor

log = logging.getLogger(__name__)

SHARED_WRITE = 8
"""Frames that share a system call: with more, the worker would idle while we gather them."""
_LAST_STREAM = (1 << 32) - 1
# Every request needs these, and a look-up in an Enum costs ten times that of a global.
_REQUEST = Kind.REQUEST
_RESPONSE = int(Kind.RESPONSE)
_CHUNK = int(Kind.CHUNK)
_DRAINING = Phase.DRAINING


class LinkOwner(Protocol):
    """Who spreads requests over links. Called by the link, never the other way round in a call."""

    def link_changed(self, link: Link) -> None:
        """Its phase or its permits are other than before."""

    def link_freed(self, link: Link) -> None:
        """The worker confirmed that one of its permits is free again."""

    def link_refused(self, link: Link, call: Call) -> None:
        """The worker answered BUSY: the handler never saw it."""

    def link_lost(self, link: Link, calls: list[Call]) -> None:
        """The connection ended with these calls on it."""


class Link(asyncio.Protocol):
    """The caller's end of a worker's socket.

    The permit of a request is held from `send` until the worker says that the stream is over, even
    if nobody wants the answer any more: a worker is idle when it says so, not when we stop waiting.

    Attributes:
        phase: as the worker last told it; None before it did, and while there is no connection.
        permits: requests the worker may hold at once; 0 while it is full.
        streams: what is on the connection; None stands for an abandoned request.
        slot: index in the lane's tables of active workers, -1 outside. Written by the lane.
        expected: a worker is, or may be, at the other end. False from a lost connection or a dial
            that found nobody, until the next connection.
        on_lost: called after every loss, when all calls have been dealt with.
        debtors: by trigger and shard, who waits for acknowledgements from here; while there is any
            the connection stays. Written here, and by `settle`.
        kept: calls that wait for this worker and no other. Written by the lane.
    """

    def __init__(
        self,
        owner: LinkOwner,
        hello: Hello,
        *,
        replica: str,
        revision: int,
        index: int,
        socket: str,
    ) -> None:
        self.owner = owner
        self.replica = replica
        self.revision = revision
        self.index = index
        self.socket = socket
        self.phase: Phase | None = None
        self.error = ""
        self.streams: dict[int, Call | None] = {}
        self.slot = -1
        self.retired = False
        self.expected = True
        self.on_lost: Callable[[], None] | None = None
        self.debtors: dict[tuple[str, int], Debtor] = {}
        self.kept: deque[Call] = deque()
        self._hello = frame(Kind.HELLO, 0, orjson.dumps(hello))
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._declared = 1
        self._full = False
        self._stream = 0
        self._flushed = 0
        self._out: list[bytes] = []
        self._flushing = False
        self._pongs: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def connected(self) -> bool:
        """There is a connection now."""
        return self._transport is not None

    @property
    def descriptor(self) -> int | None:
        """The connection's file descriptor, while there is one."""
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        return None if sock is None else sock.fileno()

    @property
    def ready(self) -> bool:
        """It may be given requests."""
        return self.phase is Phase.READY and not self.retired

    @property
    def permits(self) -> int:
        """How many requests it may hold at once, as far as we know; 0 after BUSY until IDLE."""
        return 0 if self._full else self._declared

    # -- to the worker

    def send(self, call: Call) -> None:
        """Puts a request on the connection. The caller has seen `ready` and a free permit."""
        self._stream = stream = 1 if self._stream == _LAST_STREAM else self._stream + 1
        meta: dict[str, Any] = {
            "id": call.id,
            "method": call.method,
            "path": call.path,
            "headers": call.headers,
            "deadline": call.deadline,
        }
        if call.trigger:
            meta["trigger"] = call.trigger
        if call.step:
            meta["step"] = call.step
            if call.copied:
                meta["copied"] = True
        if call.record is not None:
            meta["record"] = call.record
            if call.debtor is not None:
                self.debtors[call.trigger, call.record["shard"]] = call.debtor
        self.streams[stream] = call
        call.link = self
        call.stream = stream
        call.replica = self.replica
        call.revision = self.revision
        call.started = True
        self._write(frame_with_meta(_REQUEST, stream, orjson.dumps(meta), call.body))

    def cancel(self, stream: int) -> None:
        """Tells the worker that nobody waits; its permit comes back when it has stopped."""
        self.streams[stream] = None
        self._write(frame(Kind.CANCEL, stream))

    def pause(self, stream: int) -> None:
        """The client reads slowly."""
        self._write(frame(Kind.PAUSE, stream))

    def resume(self, stream: int) -> None:
        """The client has caught up."""
        self._write(frame(Kind.RESUME, stream))

    def settle(self, trigger: str, shard: int) -> None:
        """Nobody waits any more for acknowledgements of that shard from here."""
        self.debtors.pop((trigger, shard), None)
        if self.retired or self.phase is _DRAINING:
            self._close_if_done()

    def ping(self, answered: Callable[[], None]) -> None:
        """Calls ``answered`` once the worker's event loop has turned; never, if it ends first."""
        self._pongs.append(answered)
        self._write(frame(Kind.PING, 0))

    def retire(self) -> None:
        """No new requests; the connection closes when those on it are over."""
        self.retired = True
        self._close_if_done()

    def abort(self) -> None:
        """Drops the connection now."""
        self.retired = True
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or self._loop is None:
            return
        if self._flushing:
            self._out.append(data)
            if len(self._out) >= SHARED_WRITE:
                self._flush_out()
        elif len(self.streams) <= 1:
            # A lone request waits for nothing: there is none that could share its system call.
            transport.write(data)
            self._flushed = self._stream
        else:
            self._out.append(data)
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self._flush_out()

    def _flush_out(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._flushed = self._stream
            self._out.clear()

    def _close_if_done(self) -> None:
        if self._transport is not None and not self.streams and not self.debtors:
            self._transport.close()

    # -- from the worker

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._loop = asyncio.get_running_loop()
        # A cast, because uvloop's transports are no subclasses of asyncio's.
        stream = self._transport = cast("asyncio.Transport", transport)
        self._reader = FrameReader()
        self._full = False
        self.expected = True
        stream.write(self._hello)
        if self.retired:
            stream.close()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            for kind, stream, payload in self._reader.feed(data):
                if kind == _RESPONSE:
                    self._on_response(stream, payload)
                elif kind == _CHUNK:
                    call = self.streams.get(stream)
                    if call is not None:
                        call.caller.on_chunk(call, payload)
                else:
                    self._on_other(kind, stream, payload)
        except (ProtocolError, ValueError, KeyError):
            log.exception("worker %s.%d speaks no known wire", self.replica, self.index)
            if self._transport is not None:
                self._transport.abort()

    def _over(self, stream: int) -> Call | None:
        """Takes a stream off; the freed permit is dealt before its own outcome is told."""
        call = self.streams.pop(stream)
        self.owner.link_freed(self)
        if self.retired or self.phase is _DRAINING:
            self._close_if_done()
        if call is not None:
            call.settle()
        return call

    def _on_response(self, stream: int, payload: bytes) -> None:
        head, body = split_meta(payload)
        meta = orjson.loads(head)
        call = self._over(stream)
        if call is not None:
            call.caller.on_response(call, meta, body)

    def _on_other(self, kind: int, stream: int, payload: bytes) -> None:
        match kind:
            case Kind.STATE:
                self._on_state(orjson.loads(payload))
            case Kind.BUSY:
                self._on_busy(stream, orjson.loads(payload)["reason"])
            case Kind.IDLE:
                self._full = False
                self.owner.link_changed(self)
            case Kind.END:
                self._on_end(stream, orjson.loads(payload))
            case Kind.ACK | Kind.NACK:
                self._on_verdict(kind, orjson.loads(payload))
            case Kind.PONG:
                if self._pongs:
                    self._pongs.pop(0)()
            case Kind.QUEUED | Kind.STARTED | Kind.HEAD:
                call = self.streams[stream]
                if call is not None:
                    self._on_progress(kind, call, payload)
            case _:
                raise ProtocolError(f"a frame of kind {kind:#x}")

    def _on_verdict(self, kind: int, said: dict[str, Any]) -> None:
        debtor = self.debtors.get((said["trigger"], said["shard"]))
        if debtor is not None and kind == Kind.ACK:
            debtor.on_ack(self, said["offset"])
        elif debtor is not None:
            debtor.on_nack(self, said["offset"], said["reason"])

    def _on_progress(self, kind: int, call: Call, payload: bytes) -> None:
        if kind == Kind.HEAD:
            call.streaming = True
            call.caller.on_head(call, orjson.loads(payload))
        else:
            call.started = kind == Kind.STARTED

    def _on_state(self, state: dict[str, Any]) -> None:
        self.phase = Phase(state["phase"])
        self._declared = int(state["permits"])
        self.error = str(state.get("error", ""))
        if self.phase is Phase.STOPPED:
            self._on_stopped()
            return
        self.owner.link_changed(self)
        if self.phase is Phase.DRAINING:
            # Closing tells the worker that nothing more is on its way, so it can exit without
            # leaving a request unread in its socket.
            self._close_if_done()

    def _on_stopped(self) -> None:
        """An orderly end: what has no answer yet was never admitted, so no handler saw it."""
        for call in self.streams.values():
            if call is not None and not call.streaming:
                call.started = False
        if self._transport is not None:
            self._transport.abort()

    def _on_busy(self, stream: int, reason: str) -> None:
        call = self.streams.pop(stream)
        if reason == "full":
            self._full = True
        else:
            # "draining" and "asleep" are phases, and so is "starting".
            self.phase = Phase(reason)
        self.owner.link_changed(self)
        if call is not None:
            call.started = False
            call.link = None
            call.revision = 0
            if call.debtor is not None:
                call.debtor.on_refused(self)
            self.owner.link_refused(self, call)
        if self.phase is Phase.DRAINING:
            self._close_if_done()

    def _on_end(self, stream: int, end: dict[str, Any]) -> None:
        call = self._over(stream)
        if call is None:
            return
        if end["outcome"] == "ok" and call.streaming:
            call.caller.on_end(call)
        elif end["outcome"] == "cancelled":
            call.caller.on_error(call, DeadlineExceeded("the worker cancelled the request"))
        else:
            message = str(end.get("message", "")) or "the handler failed"
            call.caller.on_error(call, HandlerFailed(message))

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        del exc
        self._transport = None
        self.phase = None
        self.expected = False
        self._out.clear()
        lost: list[Call] = []
        for stream, call in self.streams.items():
            if call is not None:
                # What never left this process was seen by no handler.
                call.started = call.started and stream <= self._flushed
                call.link = None
                call.revision = 0
                lost.append(call)
        self.streams.clear()
        self._pongs.clear()
        debtors = list(self.debtors.values())
        self.debtors.clear()
        self.owner.link_lost(self, lost)
        for debtor in debtors:
            debtor.on_link_lost(self)
        if self.on_lost is not None:
            self.on_lost()


async def dial(link: Link) -> None:
    """Connects a link to its worker's socket.

    Raises:
        OSError: nobody listens there.
    """
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: link, os.fspath(link.socket))
