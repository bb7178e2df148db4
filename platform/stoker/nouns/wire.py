"""The frames between a caller (gateway, graph worker, controller) and a worker.

One unix stream socket carries many requests. A frame is a 9-byte header, then its payload::

    u32 payload length | u8 kind | u32 stream          (big endian)

``stream`` names one request on this connection, chosen by the caller; 0 is the connection itself.
No pickle: payloads are JSON or raw bytes. Both ends are the same version of Stoker on one host, so
there is no negotiation; deadlines are CLOCK_MONOTONIC seconds, which all processes of a host share.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NotRequired, TypedDict

HEADER = struct.Struct(">IBI")
META = struct.Struct(">I")
_HEADER_AND_META = struct.Struct(">IBII")
MAX_PAYLOAD = 1 << 30


class Kind(IntEnum):
    """The kinds of frame. Caller to worker below 0x10, worker to caller from 0x10."""

    HELLO = 0x01
    """stream 0; JSON `Hello`. The first frame of a connection."""
    REQUEST = 0x02
    """u32 meta length, JSON `RequestMeta`, then the body."""
    CANCEL = 0x03
    """The caller no longer wants this stream. Answered by END or RESPONSE all the same."""
    PAUSE = 0x04
    """The client reads slowly: send no more CHUNKs of this stream …"""
    RESUME = 0x05
    """… until now."""
    DRAIN = 0x06
    """stream 0; accept nothing more, finish what was accepted, exit 0. JSON `Drain`; without one
    within the function's termination timeout. A later one may only shorten the time."""
    PING = 0x07
    """stream 0; answered by PONG once the event loop turns."""
    SLEEP = 0x08
    """stream 0; take the weights off the device, unless there is work. Told by STATE: asleep (or
    ready still) …"""
    WAKE = 0x09
    """stream 0; … and bring them back: STATE starting, then ready or failed."""

    STATE = 0x10
    """stream 0; JSON `State`. Sent after HELLO and at every change: this is the ready event.

    ``stopped`` is the last frame of an orderly end: what has no answer by then was never admitted
    and may run elsewhere, whatever its method. The worker then waits, briefly, until its callers
    have closed, because ending with unread requests in its socket would cut the frame off.
    """
    QUEUED = 0x11
    """The request waits in the worker's inbox: the handler has not seen it."""
    STARTED = 0x12
    """A QUEUED request is being handed to the handler now. (Never sent without a QUEUED.)"""
    RESPONSE = 0x13
    """u32 meta length, JSON `ResponseMeta`, then the whole body. Ends the stream."""
    HEAD = 0x14
    """JSON `ResponseMeta`: a streamed answer begins."""
    CHUNK = 0x15
    """Raw bytes of a streamed answer."""
    END = 0x16
    """JSON `End`. Ends a streamed answer, or a cancelled request."""
    BUSY = 0x17
    """JSON `Busy`: refused, the handler never sees it. Ends the stream; try elsewhere."""
    IDLE = 0x18
    """stream 0; capacity is free again. Sent to every caller told BUSY("full") since the last."""
    PONG = 0x19
    """stream 0."""
    ACK = 0x1A
    """stream 0; JSON `Ack`: user code has done with records that came by this connection.

    Usually long after their RESPONSE: that one frees the permit, this one the records.
    """
    NACK = 0x1B
    """stream 0; JSON `Nack`: one of those records failed after all."""


class Hello(TypedDict):
    """Who is calling: role ``gateway``, ``graph`` or ``controller``; a graph's ``function``."""

    role: str
    peer: str
    function: NotRequired[str]


class RequestMeta(TypedDict):
    """One event. ``headers`` keys are lower case; ``path`` has the query string.

    ``step``: the name of the graph's step that calls; ``copied``: for a copy of a request.
    """

    id: str
    method: str
    path: str
    headers: dict[str, str]
    deadline: float | None
    trigger: NotRequired[str]
    record: NotRequired[RecordMeta]
    step: NotRequired[str]
    copied: NotRequired[bool]


class RecordMeta(TypedDict):
    """Where an event comes from that is a stream's record; ``time`` is its arrival, epoch seconds.

    ``topic`` is the trigger's ``streamPath``. ``explicit``: an ACK may follow.
    """

    kind: str
    topic: str
    shard: int
    shards: int
    offset: int
    time: float
    explicit: bool


class Ack(TypedDict):
    """Everything of one shard up to ``offset`` that this worker was given is done."""

    trigger: str
    shard: int
    offset: int


class Nack(TypedDict):
    """The very record at ``offset`` failed; ``reason`` is for people."""

    trigger: str
    shard: int
    offset: int
    reason: str


class Drain(TypedDict):
    """Seconds that accepted requests may take; None: as long as they do."""

    within_s: float | None


class State(TypedDict):
    """The worker's phase (`stoker.nouns.record.Phase`) and, when it failed, why.

    ``sleeps``: something in it can leave the device and come back, so that SLEEP is of use.
    ``device_bytes``: the most device memory that it has held so far, if it knows of any.
    ``short_times``: requests that failed because its devices had none left; ``short_bytes``: the
    most that one of them would have had to hold at once.
    """

    phase: str
    permits: int
    pid: int
    replica: str
    index: int
    sleeps: NotRequired[bool]
    error: NotRequired[str]
    device_bytes: NotRequired[int]
    short_times: NotRequired[int]
    short_bytes: NotRequired[int]


class ResponseMeta(TypedDict):
    """``status`` and ``headers`` (``content-type`` included) of an answer.

    ``code`` is set when the worker itself failed the request (an error code of
    `stoker.nouns.errors`); the body is then the bare message, which the caller wraps in the
    envelope. ``batch`` is the size of the batch it ran in; ``queue_s``, ``batch_s`` and
    ``handler_s`` are seconds spent in the worker's inbox, waiting for the batch to fill, and in the
    handler.
    """

    status: int
    headers: dict[str, str]
    code: NotRequired[str]
    batch: NotRequired[int]
    queue_s: NotRequired[float]
    batch_s: NotRequired[float]
    handler_s: NotRequired[float]


class End(TypedDict):
    """How a stream ended: ``ok``, ``error`` (the generator raised) or ``cancelled``."""

    outcome: str
    message: NotRequired[str]


class Busy(TypedDict):
    """``full``, ``draining``, ``starting`` or ``asleep``."""

    reason: str


def frame(kind: Kind, stream: int, payload: bytes = b"") -> bytes:
    """One frame, ready to be written."""
    return HEADER.pack(len(payload), kind, stream) + payload


def frame_with_meta(kind: Kind, stream: int, meta: bytes, body: bytes) -> bytes:
    """A REQUEST or RESPONSE frame."""
    size = len(meta)
    return _HEADER_AND_META.pack(4 + size + len(body), kind, stream, size) + meta + body


def split_meta(payload: bytes) -> tuple[bytes, bytes]:
    """The meta and the body of a REQUEST's or RESPONSE's payload."""
    (length,) = META.unpack_from(payload)
    return payload[4 : 4 + length], payload[4 + length :]


class ProtocolError(Exception):
    """A peer sent what no version of Stoker sends."""


class FrameReader:
    """Cuts a byte stream into frames.

    >>> reader = FrameReader()
    >>> whole = frame(Kind.PING, 0) + frame(Kind.CANCEL, 7)
    >>> list(reader.feed(whole[:4])), [(int(k), s) for k, s, _ in reader.feed(whole[4:])]
    ([], [(7, 0), (3, 7)])
    """

    __slots__ = ("_have", "_need", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 0

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """The frames that ``data`` completes: (kind, stream, payload).

        Raises:
            ProtocolError: a frame announces more than `MAX_PAYLOAD` bytes.
        """
        if self._pieces:
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                # Joining at every read would copy a large frame once for each of its pieces.
                return []
            data = b"".join(self._pieces)
            self._pieces.clear()
        frames: list[tuple[int, int, bytes]] = []
        position, end = 0, len(data)
        unpack, size = HEADER.unpack_from, HEADER.size
        self._need = size
        while end - position >= size:
            length, kind, stream = unpack(data, position)
            if length > MAX_PAYLOAD:
                raise ProtocolError(f"a frame of {length} bytes is over {MAX_PAYLOAD}")
            stop = position + size + length
            if stop > end:
                self._need = size + length
                break
            frames.append((kind, stream, data[position + size : stop]))
            position = stop
        if position < end:
            rest = data[position:] if position else data
            self._pieces.append(rest)
            self._have = len(rest)
        return frames
