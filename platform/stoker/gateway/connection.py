"""One client connection: HTTP/1.1 in, answers out in order."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import httptools

from stoker.gateway import heads, replies, upgrade
from stoker.gateway.backlog import Backlog
from stoker.gateway.exchange import Exchange
from stoker.gateway.front import Front
from stoker.gateway.phase import Outflow, Phase, patience
from stoker.nouns.errors import BadRequest, StokerError

SMALL_BODY = 64 * 1024
"""A refused request's body up to here is read and dropped, which keeps the connection usable."""
_ID_LIMIT = 128
_known_names = heads.known_names


class Connection(asyncio.Protocol):
    """Reads requests, answers them in order of arrival, however the answers come.

    The methods named ``on_…`` are httptools' callbacks.
    """

    __slots__ = ("_current", "_deaf", "_dry", "_front", "_head_bytes", "_header_count",
                 "_headers", "_mid_head", "_outflow", "_parser", "_pending", "_phase",
                 "_pumping", "_read_paused", "_reading", "_silent", "_since", "_transport",
                 "_upgrading", "_url", "write_paused")  # fmt: skip

    def __init__(self, front: Front) -> None:
        self._front = front
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._phase = Phase.HEAD
        self._since = time.monotonic()
        self._outflow = Outflow(self._since)
        self._silent = True
        self._deaf = False
        self._url = b""
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._header_count = 0
        self._mid_head = False
        self._dry = 0
        self._upgrading: tuple[Exchange, bytes] | None = None
        self._reading: Exchange | None = None
        self._current: Exchange | None = None
        self._pending = Backlog()
        self._pumping = False
        self._read_paused = False
        self.write_paused = False

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        # A cast, because uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._front.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._deaf:
            return
        self._silent = False
        if self._phase is Phase.IDLE:
            self._wait_for(Phase.HEAD)
        inside_head, reading = self._mid_head, self._reading
        buffered = reading.buffered if reading is not None else 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._stay_with_http(data[exc.args[0] :])
        except httptools.HttpParserError as exc:
            if not self._deaf:
                self._reject(BadRequest(f"malformed HTTP: {exc}"))
        else:
            if inside_head and self._mid_head and not self._deaf:
                self._bound_head(data)
            elif reading is not None and reading is self._reading:
                self._bound_framing(data, dry=reading.buffered == buffered)

    def eof_received(self) -> None:
        """The client has gone: a request that is not complete by now never will be."""

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        del exc
        self._transport = None
        self._deaf = True
        self._pending.clear()
        self._reading = None
        # It holds us as we hold it, and the gateway looks for such pairs rarely.
        del self._parser
        current, self._current = self._current, None
        if current is not None:
            current.leave()
        self._front.left(self)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.write_paused = True
        if self._current is not None:
            self._current.pause()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.write_paused = False
        if self._current is not None:
            self._current.resume()
        else:
            self._pump()

    # -- httptools

    def on_message_begin(self) -> None:
        """A request line begins."""
        self._url = b""
        self._headers = {}
        self._head_bytes = 0
        self._header_count = 0
        self._mid_head = True

    def on_url(self, part: bytes) -> None:
        """Some of the request target."""
        self._url += part
        if len(self._url) > self._front.settings.max_request_line:
            self._too_large("the request target")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line (or trailer, which is dropped)."""
        if self._deaf or self._reading is not None:
            return
        self._header_count += 1
        self._head_bytes += len(name) + len(value) + 4
        key = _known_names.get(name) or heads.lower(name)
        text = value.decode("latin-1")
        headers = self._headers
        if key in headers:
            if key == "host":
                # Which of them is meant is anybody's guess, and that of a proxy's may be another.
                self._reject(BadRequest("a request must have one Host header"))
                return
            text = f"{headers[key]}{'; ' if key == 'cookie' else ', '}{text}"
        headers[key] = text

    def on_headers_complete(self) -> None:
        """The head is complete: find the function before its body comes."""
        self._mid_head = False
        if self._deaf or self._reading is not None:
            return
        settings = self._front.settings
        if self._head_bytes > settings.max_header_bytes or (
            self._header_count > settings.max_headers
        ):
            self._too_large("the headers")
            return
        exchange = self._reading = Exchange(self, self._front)
        parser, headers = self._parser, self._headers
        exchange.method = parser.get_method().decode("latin-1")
        exchange.headers = headers
        upgrades = "upgrade" in headers
        tunnels = upgrades or exchange.method == "CONNECT"
        exchange.keep_alive = parser.should_keep_alive() and not tunnels
        exchange.http10 = parser.get_http_version() != "1.1"
        given = headers.get("x-request-id")
        exchange.request_id = given if given and len(given) <= _ID_LIMIT else self._front.new_id()
        # Before the headers about the connection are dropped:
        has_body = "content-length" in headers or "transfer-encoding" in headers
        declared = heads.declared_length(headers) if has_body else 0
        plain = upgrade.plain_head(headers) if upgrades and parser.should_upgrade() else b""
        try:
            heads.read(exchange, self._front, self._url)
        except StokerError as error:
            # Its traceback holds this frame, and so the exchange: a cycle for every refusal.
            exchange.refusal = error.with_traceback(None)
        if self._current is None:
            self._wait_for(Phase.BODY)
        if has_body:
            self._expect_body(exchange, declared)
            if plain and not self._deaf:
                # The parser takes the head for the whole request; `_stay_with_http` knows better.
                self._upgrading, self._reading = (exchange, plain), None

    def on_body(self, part: bytes) -> None:
        """Some of the body."""
        exchange = self._reading
        if exchange is None or self._deaf:
            return
        exchange.buffered += len(part)
        if exchange.refusal is None:
            if exchange.buffered <= exchange.limit:
                exchange.parts.append(part)
                return
            exchange.refusal = heads.body_too_large(exchange.limit)
        exchange.parts.clear()
        if exchange.buffered > SMALL_BODY:
            self._answer_early(exchange)

    def on_message_complete(self) -> None:
        """The request is complete."""
        exchange, self._reading = self._reading, None
        if exchange is None or self._deaf:
            return
        parts = exchange.parts
        if parts:
            exchange.body = parts[0] if len(parts) == 1 else b"".join(parts)
            exchange.parts = []
        self._enqueue(exchange)

    # -- for exchanges

    def write(self, data: bytes) -> None:
        """Some of the current answer."""
        if self._transport is not None:
            self._transport.write(data)

    def finished(self, exchange: Exchange) -> None:
        """The current answer is complete."""
        if exchange is not self._current:
            return
        self._current = None
        if not exchange.keep_alive or self._front.stopping:
            self._hang_up()
        elif self._pending:
            self._pump()
        else:
            self._await_next()

    # -- for the front

    def check(self, now: float) -> None:
        """Ends a wait that took too long."""
        transport, settings = self._transport, self._front.settings
        if transport is None:
            return
        unsent = transport.get_write_buffer_size()
        if self._outflow.stalled_s(unsent, now) > settings.write_timeout_s:
            transport.abort()
        elif not self.write_paused and not transport.is_closing():
            buffered = self._reading.buffered if self._reading is not None else 0
            if now - self._since > patience(self._phase, settings, buffered):
                self._give_up(transport)

    def _give_up(self, transport: asyncio.Transport) -> None:
        if self._phase is Phase.LINGER:
            transport.abort()
        elif self._phase is Phase.IDLE or self._silent:
            transport.close()
        else:
            what = "headers" if self._phase is Phase.HEAD else "body"
            self._reject(heads.TooSlow(f"the {what} of the request did not arrive in time"))

    def stop(self) -> None:
        """The gateway stops: close unless a request is on its way."""
        if self._current is None and self._reading is None and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """The gateway's grace is over."""
        if self._transport is not None:
            self._transport.abort()

    # -- reading

    def _stay_with_http(self, rest: bytes) -> None:
        """The request offers another protocol; we speak none. ``rest`` follows its head."""
        if self._upgrading is None or self._deaf:
            # What follows cannot be told apart from the other protocol.
            self._last_request()
            return
        (self._reading, plain), self._upgrading = self._upgrading, None
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(plain + rest)

    def _expect_body(self, exchange: Exchange, declared: int) -> None:
        self._dry = 0
        if exchange.refusal is None and declared > exchange.limit:
            exchange.refusal = heads.body_too_large(exchange.limit)
        if exchange.refusal is not None:
            if exchange.expects_continue or declared > SMALL_BODY:
                self._answer_early(exchange)
        elif exchange.expects_continue and self._current is None and not self._pending:
            self._continue(exchange)

    def _continue(self, exchange: Exchange) -> None:
        exchange.expects_continue = False
        self.write(replies.CONTINUE)

    def _answer_early(self, exchange: Exchange) -> None:
        """Refuses a request without reading the rest of it."""
        self._last_request()
        self._reading = None
        exchange.keep_alive = False
        self._enqueue(exchange)

    def _bound_head(self, data: bytes) -> None:
        """A head that does not end is bounded by what has come of it so far."""
        self._head_bytes += len(data)
        settings = self._front.settings
        if self._head_bytes > 2 * settings.max_header_bytes + settings.max_request_line:
            self._too_large("the head of the request")

    def _bound_framing(self, data: bytes, *, dry: bool) -> None:
        """So is what comes in the place of a body without being any: trailers that do not end."""
        self._dry = self._dry + len(data) if dry else 0
        if self._dry > self._front.settings.max_header_bytes:
            self._too_large("the trailers of the request")

    def _too_large(self, what: str) -> None:
        self._reject(heads.too_large(what, self._front.settings))

    def _reject(self, error: StokerError) -> None:
        """Answers what is no request, in its turn; nothing after it can be understood."""
        if self._deaf:
            return
        self._last_request()
        self._reading = None
        exchange = Exchange(self, self._front)
        exchange.request_id = self._front.new_id()
        exchange.keep_alive = False
        exchange.refusal = error
        self._enqueue(exchange)

    def _last_request(self) -> None:
        self._deaf = True

    # -- turns

    def _enqueue(self, exchange: Exchange) -> None:
        if self._current is None and not self._pending and not self.write_paused:
            self._start(exchange)
            return
        self._pending.append(exchange)
        if self._pending.full and not self._read_paused:
            self._read_paused = True
            if self._transport is not None:
                self._transport.pause_reading()

    def _start(self, exchange: Exchange) -> None:
        self._current = exchange
        self._phase = Phase.BUSY
        exchange.run()

    def _pump(self) -> None:
        """Starts what is next. A loop, not a recursion: a client may pipeline thousands."""
        if self._pumping:
            return
        self._pumping = True
        while self._pending and self._current is None and not self.write_paused:
            self._start(self._pending.popleft())
        self._pumping = False
        if self._read_paused and not self._pending.full:
            self._read_paused = False
            if self._transport is not None:
                self._transport.resume_reading()
        if self._current is None and not self._pending:
            self._await_next()

    def _await_next(self) -> None:
        reading = self._reading
        if self._deaf:
            self._hang_up()
        elif reading is None:
            self._wait_for(Phase.HEAD if self._mid_head else Phase.IDLE)
        else:
            self._wait_for(Phase.BODY)
            if reading.expects_continue:
                self._continue(reading)

    def _wait_for(self, phase: Phase) -> None:
        self._phase = phase
        self._since = time.monotonic()

    def _hang_up(self) -> None:
        """Closes; after an early refusal only when the client has had time to read it.

        Closing a socket with unread input resets it, and the reset overtakes our answer.
        """
        self._pending.clear()
        transport = self._transport
        if transport is None or transport.is_closing() or self._phase is Phase.LINGER:
            return
        if self._deaf and transport.can_write_eof():
            transport.write_eof()
            self._wait_for(Phase.LINGER)
            if self._read_paused:
                self._read_paused = False
                transport.resume_reading()
        else:
            self._deaf = True
            transport.close()
