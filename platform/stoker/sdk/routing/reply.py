"""An answer as a coroutine takes it: whole, or chunk by chunk with back-pressure."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncIterator

import orjson

from stoker.nouns.errors import DeadlineExceeded, HandlerFailed, StokerError
from stoker.nouns.wire import ResponseMeta
from stoker.sdk.routing.call import Call

HIGH_BYTES = 256 * 1024
"""Bytes of chunks that may lie unread before the worker is told to pause …"""
LOW_BYTES = 64 * 1024
"""… until no more than these are left."""
HIGH_CHUNKS = 256
"""The same for chunks, which cost more than their bytes when they are small."""
_ANY_ENCODING = 32 + zlib.MAX_WBITS


class Reply:
    """What a function answered.

    Attributes:
        status: HTTP status.
        own: the function's own headers; lower-case names.
        whole: the body, its content encoding taken off; None for one that comes in chunks.
    """

    __slots__ = ("_call", "_meta", "_stream", "own", "status", "whole")

    def __init__(
        self,
        status: int,
        headers: dict[str, str],
        whole: bytes | None,
        *,
        call: Call | None = None,
        meta: ResponseMeta | None = None,
        stream: Stream | None = None,
    ) -> None:
        self.status = status
        self.own = headers
        self.whole = whole
        self._call = call
        self._meta = meta
        self._stream = stream

    @property
    def headers(self) -> dict[str, str]:
        """The function's, and those that the gateway adds to them; made when they are asked for."""
        if self._call is None or self._meta is None:
            return self.own
        return {**self.own, **_added(self._call, self._meta)}

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            StokerError: the stream broke off.
        """
        if self.whole is None:
            # By `chunks`, which tells the function when whoever reads is cancelled.
            chunks = [chunk async for chunk in self.chunks()]
            # Kept, so that it can be read again, as HTTP clients let one.
            self.whole = unpacked(b"".join(chunks), self.own)
        return self.whole

    async def text(self) -> str:
        """The whole body as text.

        Raises:
            StokerError: the stream broke off.
        """
        return (await self.read()).decode("utf-8", "replace")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in the pieces that the handler yielded; a whole one in one piece.

        Left early, it cancels what is still running.

        Raises:
            StokerError: the stream broke off.
        """
        if self.whole is not None or self._stream is None:
            yield self.whole or b""
            return
        try:
            async for chunk in self._stream:
                yield chunk
        finally:
            if self._call is not None:
                self._call.cancel()

    def abandon(self) -> None:
        """Nobody wants the rest: the function is told, and whoever reads the chunks hears it."""
        if self._call is not None and self._stream is not None and not self._call.done:
            self._call.cancel()
            self._stream.end(DeadlineExceeded("nobody waits for the answer any more"))


def unpacked(body: bytes, headers: dict[str, str]) -> bytes:
    """The body without its content encoding, which HTTP clients take off too.

    Raises:
        HandlerFailed: it is not what its header says.
    """
    encoding = headers.get("content-encoding")
    if encoding is None or encoding.lower() not in ("gzip", "deflate"):
        return body
    try:
        return zlib.decompress(body, _ANY_ENCODING)
    except zlib.error as exc:
        raise HandlerFailed(f"the handler's body is not {encoding}: {exc}") from exc


def _added(call: Call, meta: ResponseMeta) -> dict[str, str]:
    wake = max(0.0, (call.warm_at or call.sent) - call.arrived) if call.cold else 0.0
    queue = call.sent - call.arrived + meta.get("queue_s", 0.0) - wake
    stages = (queue, wake, meta.get("batch_s", 0.0), meta.get("handler_s", 0.0))
    timing = "queue;dur={:.3f}, wake;dur={:.3f}, batch;dur={:.3f}, handler;dur={:.3f}"
    added = {
        "x-stoker-replica": call.replica,
        "x-stoker-revision": str(call.revision),
        "server-timing": timing.format(*(1e3 * stage for stage in stages)),
        "x-request-id": call.id,
    }
    return {**added, "x-stoker-cold": "1"} if call.cold else added


class Stream:
    """Chunks on their way from the link to whoever reads them; both on one loop."""

    __slots__ = ("_call", "_chunks", "_ended", "_error", "_held", "_paused", "_reader")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._paused = False
        self._ended = False
        self._error: StokerError | None = None
        self._reader: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        """One more chunk."""
        self._chunks.append(data)
        self._held += len(data)
        if not self._paused and (self._held > HIGH_BYTES or len(self._chunks) > HIGH_CHUNKS):
            self._paused = True
            self._call.pause()
        self._wake()

    def end(self, error: StokerError | None = None) -> None:
        """The last one came, or none will come any more."""
        self._ended = True
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = self._chunks.popleft()
        self._held -= len(data)
        if self._paused and self._held <= LOW_BYTES and len(self._chunks) <= HIGH_CHUNKS // 4:
            self._paused = False
            self._call.resume()
        return data


class Awaited:
    """A caller (see `stoker.sdk.routing.call.Caller`) whose outcome a coroutine awaits.

    Attributes:
        outcome: a `Reply` once its head is there, or the error.
    """

    __slots__ = ("_stream", "outcome")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.outcome: asyncio.Future[Reply] = loop.create_future()
        self._stream: Stream | None = None

    def on_response(self, call: Call, meta: ResponseMeta, body: bytes) -> None:
        """See `Caller`."""
        headers = meta["headers"]
        if "code" in meta:
            body = _envelope(meta["code"], body, call.id)
            headers = {**headers, "content-type": "application/json"}
        elif "content-encoding" in headers:
            try:
                body = unpacked(body, headers)
            except HandlerFailed as error:
                return self.on_error(call, error)
        return self._give(call, meta, headers, body)

    def on_head(self, call: Call, meta: ResponseMeta) -> None:
        """See `Caller`."""
        self._stream = Stream(call)
        self._give(call, meta, meta["headers"], None)

    def on_chunk(self, _call: Call, data: bytes) -> None:
        """See `Caller`."""
        if self._stream is not None:
            self._stream.feed(data)

    def on_end(self, _call: Call) -> None:
        """See `Caller`."""
        if self._stream is not None:
            self._stream.end()

    def on_error(self, _call: Call, error: StokerError) -> None:
        """See `Caller`. Also what whoever gives up on it calls, after `Call.cancel`."""
        if self._stream is not None:
            self._stream.end(error)
        elif not self.outcome.done():
            self.outcome.set_exception(error)

    def _give(
        self, call: Call, meta: ResponseMeta, headers: dict[str, str], body: bytes | None
    ) -> None:
        if self.outcome.done():
            return
        status = meta["status"]
        if 200 <= status <= 599:
            reply = Reply(status, headers, body, call=call, meta=meta, stream=self._stream)
            self.outcome.set_result(reply)
            return
        call.cancel()
        must = f"the handler's status must be 200 to 599, was {status}"
        self.outcome.set_exception(HandlerFailed(must))


def _envelope(code: str, message: bytes, request_id: str) -> bytes:
    """What the gateway would answer to a failure that the worker named."""
    text = message.decode("utf-8", "replace")
    return orjson.dumps({"error": {"code": code, "message": text, "request_id": request_id}})
