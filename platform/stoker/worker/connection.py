"""One caller's connection: frames in, frames out, written once a turn of the loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from typing import Protocol

from stoker.nouns.wire import FrameReader, Kind, ProtocolError, frame
from stoker.worker.ticket import Ticket

READ_BYTES = 256 * 1024
SHARED_WRITE = 8
"""Frames that share a system call: with more, the caller would idle while we gather them."""
STREAM_BACKLOG = 256 * 1024
"""Bytes that may lie unsent before a streamed answer waits for its reader."""


class Receiver(Protocol):
    """Who the frames are for."""

    def on_frame(self, connection: Connection, kind: int, stream: int, payload: bytes) -> None:
        """A whole frame arrived."""

    def on_turn(self) -> None:
        """All frames that had arrived have been handed over."""

    def on_lost(self, connection: Connection) -> None:
        """The caller is gone."""


class Connection:
    """A non-blocking unix stream socket on the worker's loop.

    The socket is handled directly rather than through a transport, because what a caller is told
    about a request (QUEUED, STARTED) has to be in the kernel before a handler that may take the
    process down gets to run; transports write when the loop turns next.
    """

    def __init__(
        self, sock: socket.socket, loop: asyncio.AbstractEventLoop, receiver: Receiver
    ) -> None:
        sock.setblocking(False)
        self.tickets: dict[int, Ticket] = {}
        self.role = ""
        self.caller = ""
        self.closed = False
        self._sock = sock
        self._loop = loop
        self._receiver = receiver
        self._reader = FrameReader()
        self._out: list[bytes] = []
        self._backlog = 0
        self._scheduled = False
        self._blocked = False
        self._space: asyncio.Event | None = None
        loop.add_reader(sock, self._readable)

    def send(self, data: bytes) -> None:
        """Write a frame at the end of this turn of the loop; nothing happens once closed."""
        if self.closed:
            return
        self._out.append(data)
        self._backlog += len(data)
        if len(self._out) >= SHARED_WRITE:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_turn)

    def send_now(self, data: bytes) -> None:
        """Write a frame, and all before it, at once."""
        if self.closed:
            return
        self._out.append(data)
        self._backlog += len(data)
        self.flush()

    def send_kind(self, kind: Kind, stream: int, payload: bytes = b"") -> None:
        """`send` a frame of ``kind``."""
        self.send(frame(kind, stream, payload))

    def _flush_turn(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Hand what is waiting to the kernel, as much as it takes."""
        if self._blocked or not self._out:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self._backlog -= sent
        if sent == len(data):
            self._out.clear()
        else:
            self._out[:] = [data[sent:]]
            self._blocked = True
            self._loop.add_writer(self._sock, self._writable)
        if self._space is not None and self._backlog <= STREAM_BACKLOG:
            self._space.set()

    def _writable(self) -> None:
        self._loop.remove_writer(self._sock)
        self._blocked = False
        self.flush()

    async def room(self) -> None:
        """Wait until the caller has read enough for more of a stream to be written."""
        while self._backlog > STREAM_BACKLOG and not self.closed:
            if self._space is None:
                self._space = asyncio.Event()
            self._space.clear()
            await self._space.wait()

    def _readable(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        receiver = self._receiver
        try:
            for kind, stream, payload in self._reader.feed(data):
                if self.closed:
                    # By an answer that could not be written: nobody waits for the rest.
                    break
                receiver.on_frame(self, kind, stream, payload)
        except (ProtocolError, ValueError, KeyError, struct.error):
            self.close()
        receiver.on_turn()

    def close(self) -> None:
        """Forget the caller. Its requests are cancelled by the receiver."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._out.clear()
        self._backlog = 0
        if self._space is not None:
            self._space.set()
        self._receiver.on_lost(self)

    def abandon(self) -> None:
        """In a process that user code forked: the socket stays with the worker alone."""
        if not self.closed:
            self.closed = True
            # Not close(): the loop counts as a user of the socket, and would keep it open.
            os.close(self._sock.detach())

    def finish(self, timeout_s: float) -> None:
        """Write what is left, blocking for at most ``timeout_s``: the process is about to end."""
        if self.closed or not self._out:
            return
        self._sock.settimeout(timeout_s)
        with contextlib.suppress(OSError):  # a caller that is gone or does not read loses it
            self._sock.sendall(b"".join(self._out))
        self._out.clear()
