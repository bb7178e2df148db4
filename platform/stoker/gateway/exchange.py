"""One request of a client and its answer."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from stoker.gateway import replies, sse
from stoker.gateway.front import Front, Page
from stoker.gateway.heads import body_too_large
from stoker.gateway.routes import TRIGGER_HEADER, by_model_field, find, trigger_of
from stoker.nouns.errors import HandlerFailed, StokerError
from stoker.nouns.wire import ResponseMeta
from stoker.sdk.routing import Call, Lane

if TYPE_CHECKING:
    from stoker.gateway.connection import Connection

log = logging.getLogger(__name__)

GONE = 499
"""Counted for a client that left before its answer."""
_NEITHER = "wake;dur=0.000, batch;dur=0.000"


class Exchange:
    """From the last byte of a request to the last byte of its answer.

    Attributes:
        lane: the function's; None for a route of our own, and for a refusal.
        refusal: why there is no way to a function; answered in its turn.
        keep_alive: the connection serves on after this answer.
        buffered: bytes of body so far.
        limit: the most bytes of body.
        newcomer: the function's name where this gateway has not heard of it; empty otherwise.
    """

    __slots__ = (
        "_began",
        "_bodyless",
        "_call",
        "_chunked",
        "_conn",
        "_events",
        "_front",
        "_status",
        "_task",
        "body",
        "buffered",
        "expects_continue",
        "function",
        "headers",
        "http10",
        "keep_alive",
        "lane",
        "limit",
        "method",
        "newcomer",
        "parts",
        "path",
        "refusal",
        "request_id",
        "timeout_s",
    )

    def __init__(self, conn: Connection, front: Front) -> None:
        self._conn = conn
        self._front = front
        self._call: Call | None = None
        self._task: asyncio.Task[None] | None = None
        self._began = 0.0
        self._bodyless = False
        self._chunked = False
        self._events = False
        self._status = 0
        self.method = "GET"
        self.path = "/"
        self.headers: dict[str, str] = {}
        self.body = b""
        self.parts: list[bytes] = []
        self.buffered = 0
        self.limit = 0
        self.http10 = False
        self.keep_alive = True
        self.expects_continue = False
        self.lane: Lane | None = None
        self.function = ""
        self.newcomer = ""
        self.refusal: StokerError | None = None
        self.request_id = ""
        self.timeout_s: float | None = None

    # -- from the connection

    def run(self) -> None:
        """Its turn has come and its body is complete: answer it."""
        self._began = time.monotonic()
        lane = self.lane
        if self.refusal is not None:
            self._refuse(self.refusal)
        elif lane is not None:
            self._enter(lane)
        elif self.newcomer:
            self._task = asyncio.get_running_loop().create_task(self._meet(self.newcomer))
        elif self.method == "POST" and self.path.startswith("/v1/"):
            self._submit_by_model()
        else:
            self._answer_by(self._front.page)

    def leave(self) -> None:
        """The client is gone: what waits is dropped, what runs is cancelled."""
        if self._call is not None:
            self._call.cancel()
            self._count(GONE, "")
        if self._task is not None:
            self._task.cancel()

    def pause(self) -> None:
        """The client reads more slowly than the handler writes."""
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        """It has caught up."""
        if self._call is not None:
            self._call.resume()

    # -- ways to an answer

    def _enter(self, lane: Lane) -> None:
        if "prefer" in self.headers and "respond-async" in self.headers["prefer"].lower():
            self._answer_by(self._front.accept)
        else:
            self._submit(lane)

    def _submit(self, lane: Lane) -> None:
        timeout = lane.limits.event_timeout_s
        if self.timeout_s is not None:
            timeout = self.timeout_s if timeout is None else min(timeout, self.timeout_s)
        self._call = call = Call(
            self,
            self.request_id,
            self.method,
            self.path,
            self.headers,
            self.body,
            deadline=None if timeout is None else self._began + timeout,
            idempotent="idempotency-key" in self.headers,
        )
        if TRIGGER_HEADER in self.headers:
            call.trigger = trigger_of(self.headers)
        lane.submit(call)

    def _submit_by_model(self) -> None:
        try:
            lane = by_model_field(self._front.router, self.body)
        except StokerError as error:
            self._refuse(error)
        else:
            self._enter_late(lane)

    async def _meet(self, name: str) -> None:
        await self._front.newcomers.ask(name)
        try:
            found = find(self._front.router, self.path, self.headers)
            if found is None:
                raise self._front.router.unknown(name)
        except StokerError as error:
            self._refuse(error)
        else:
            lane, self.path = found
            self._enter_late(lane)

    def _enter_late(self, lane: Lane) -> None:
        """Goes on to a function that was not known before the body came."""
        self.lane, self.function = lane, lane.name
        limit = lane.limits.max_body_bytes
        if len(self.body) > limit:
            self._refuse(body_too_large(limit))
        else:
            self._enter(lane)

    def _answer_by(self, page: Page) -> None:
        self._task = asyncio.get_running_loop().create_task(self._answer_later(page))

    async def _answer_later(self, page: Page) -> None:
        try:
            status, headers, body = await page(self)
        except StokerError as error:
            self._refuse(error)
        except Exception:
            # A mistake of ours; unanswered, it would leave the client waiting for ever.
            log.exception("request %s to %s failed", self.request_id, self.path)
            self._refuse(StokerError("the gateway failed at this request"))
        else:
            self._whole(status, replies.header_lines(headers), body)
            self._count(status, "")
            self._conn.finished(self)

    def _refuse(self, error: StokerError) -> None:
        self._call = None
        body = replies.envelope(error, self.request_id)
        lines = replies.header_lines({"Content-Type": replies.JSON, **error.headers()})
        self._whole(error.status, lines, body)
        self._count(error.status, error.code)
        self._conn.finished(self)

    # -- outcomes (Caller)

    def on_response(self, call: Call, meta: ResponseMeta, body: bytes) -> None:
        """See `Caller`."""
        self._call = None
        status, code = meta["status"], meta.get("code", "")
        if code:
            body = replies.worker_envelope(code, body, self.request_id)
            lines = f"Content-Type: {replies.JSON}\r\n"
        elif 200 <= status <= 599:
            lines = replies.header_lines(meta["headers"])
        else:
            return self._bad_status(status)
        self._whole(status, lines + self._measure(call, meta), body)
        self._count(status, code)
        return self._conn.finished(self)

    def on_head(self, call: Call, meta: ResponseMeta) -> None:
        """See `Caller`."""
        headers, status = meta["headers"], meta["status"]
        if not 200 <= status <= 599:
            call.cancel()
            return self._bad_status(status)
        if sse.wanted(self.headers.get("accept", "")):
            own = headers.get("content-type", "").startswith(sse.CONTENT_TYPE)
            self._events = not own
            headers = {**headers, "content-type": sse.CONTENT_TYPE, "cache-control": "no-cache"}
        self._bodyless = not replies.has_body(self.method, status)
        self._chunked = not self.http10 and not self._bodyless
        self.keep_alive = self.keep_alive and (self._chunked or self._bodyless)
        framing = "Transfer-Encoding: chunked\r\n" if self._chunked else ""
        lines = replies.header_lines(headers) + self._measure(call, meta) + framing
        self._status = status
        return self._conn.write(self._head(status, lines))

    def on_chunk(self, _call: Call, data: bytes) -> None:
        """See `Caller`."""
        if not data or self._bodyless:
            # A client would take it for the next answer.
            return
        framed = sse.event(data) if self._events else data
        self._conn.write(replies.chunk(framed) if self._chunked else framed)

    def on_end(self, _call: Call) -> None:
        """See `Caller`."""
        self._call = None
        if self._chunked:
            self._conn.write(replies.LAST_CHUNK)
        self._count(self._status, "")
        self._conn.finished(self)

    def on_error(self, call: Call, error: StokerError) -> None:
        """See `Caller`."""
        self._call = None
        if not call.streaming:
            self._refuse(error)
        elif self._events and not self._bodyless:
            body = sse.event(replies.envelope(error, self.request_id), b"error")
            self._conn.write(replies.chunk(body) + replies.LAST_CHUNK if self._chunked else body)
            self._cut_short(error)
        else:
            # Without its last chunk, an answer cannot be mistaken for a complete one.
            self._cut_short(error)

    def _cut_short(self, error: StokerError) -> None:
        self.keep_alive = False
        self._count(self._status, error.code)
        self._conn.finished(self)

    # -- how it looks

    def _bad_status(self, status: int) -> None:
        self._refuse(HandlerFailed(f"the handler's status must be 200 to 599, was {status}"))

    def _whole(self, status: int, lines: str, body: bytes) -> None:
        if status not in (204, 304):
            lines = f"{lines}Content-Length: {len(body)}\r\n"
        head = self._head(status, lines)
        self._conn.write(head + body if replies.has_body(self.method, status) else head)

    def _head(self, status: int, lines: str) -> bytes:
        if self._front.stopping:
            self.keep_alive = False
        if not self.keep_alive:
            lines += "Connection: close\r\n"
        elif self.http10:
            lines += "Connection: keep-alive\r\n"
        text = (
            f"{replies.status_line(status)}{lines}X-Request-Id: {self.request_id}\r\n"
            f"{self._front.date}\r\n"
        )
        return text.encode("latin-1", "replace")

    def _measure(self, call: Call, meta: ResponseMeta) -> str:
        """Counts the stages, and names them in the answer."""
        meters = self._front.meters.of(self.function)
        queue = call.sent - call.arrived + meta.get("queue_s", 0.0)
        handler = meta.get("handler_s", 0.0)
        cold, between = "", _NEITHER
        if call.cold or "batch" in meta:
            wake = max(0.0, (call.warm_at or call.sent) - call.arrived) if call.cold else 0.0
            queue -= wake
            batch = meta.get("batch_s", 0.0)
            between = f"wake;dur={wake * 1e3:.3f}, batch;dur={batch * 1e3:.3f}"
            if "batch" in meta:
                meters.batch.add(meta["batch"])
                meters.in_batch.add(batch)
            if call.cold:
                meters.wake.add(wake)
                meters.cold_requests += 1
                cold = "X-Stoker-Cold: 1\r\n"
        meters.queue.add(queue)
        meters.handler.add(handler)
        return (
            f"X-Stoker-Replica: {call.replica}\r\nX-Stoker-Revision: {call.revision}\r\n"
            f"{cold}Server-Timing: "
            f"queue;dur={queue * 1e3:.3f}, {between}, handler;dur={handler * 1e3:.3f}\r\n"
        )

    def _count(self, status: int, code: str) -> None:
        meters = self._front.meters
        if self.function:
            meters.of(self.function).count(status, code, time.monotonic() - self._began)
        else:
            meters.refuse(status, code)
