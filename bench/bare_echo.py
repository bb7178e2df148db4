"""The yardstick: what HTTP asks of any server that echoes a body, on uvloop and httptools.

``python bench/bare_echo.py [PORT [minimal]]`` serves on loopback until it is interrupted. No
routing, no limits, no deadlines, no second process: what a gateway adds is measured against this.
``minimal`` reads neither url nor headers, which is less than a server may do.
"""

from __future__ import annotations

import asyncio
import sys
from email.utils import formatdate

import httptools
import uvloop


class Date:
    """The Date header's value, renewed once a second."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.renew()

    def renew(self) -> None:
        self.text = formatdate(usegmt=True)
        self.loop.call_later(1, self.renew)


class Echo(asyncio.Protocol):
    """One connection; requests are answered in order, each with its own body and content type."""

    def __init__(self, date: Date) -> None:
        self.date = date

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}
        self.body = b""

    def on_url(self, part: bytes) -> None:
        self.url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        body, keep_alive = self.body, self.parser.should_keep_alive()
        close = "" if keep_alive else "connection: close\r\n"
        head = (
            "HTTP/1.1 200 OK\r\n"
            f"content-type: {self.headers.get('content-type', 'text/plain')}\r\n"
            f"content-length: {len(body)}\r\n"
            f"date: {self.date.text}\r\n"
            f"{close}\r\n"
        )
        self.transport.write(head.encode("latin-1") + body)
        if not keep_alive:
            self.transport.close()


class MinimalEcho(asyncio.Protocol):
    """The same, deaf to everything but the body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.body: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        self.body.append(part)

    def on_message_complete(self) -> None:
        body = b"".join(self.body)
        self.body.clear()
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )


async def main(port: int, *, minimal: bool) -> None:
    loop = asyncio.get_running_loop()
    date = Date(loop)
    factory = MinimalEcho if minimal else lambda: Echo(date)
    server = await loop.create_server(factory, "127.0.0.1", port)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 8081, minimal="minimal" in sys.argv[2:])
    )
