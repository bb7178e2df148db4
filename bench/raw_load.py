"""The weaker load generator, for machines without wrk: asyncio (uvloop) over raw sockets.

``python bench/raw_load.py URL BODY_FILE CONNECTIONS SECONDS`` posts the file's lines in turn and
ends with the line of `bench.load.parse`. It shares one Python process among all connections, so
that a server faster than it is measured too slow.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httptools
import uvloop


class Client(asyncio.Protocol):
    """One connection with one request out at a time. Single writer of its own figures."""

    def __init__(self, requests: Iterator[bytes], end: float) -> None:
        self.requests = requests
        self.end = end
        self.times: list[float] = []
        self.bad_status = 0
        self.lost = False
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send()

    def _send(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.sent = time.perf_counter()
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.times.append(time.perf_counter() - self.sent)
        self.bad_status += self.parser.get_status_code() >= 400
        if time.perf_counter() < self.end:
            self._send()
        else:
            self.transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self.lost = time.perf_counter() < self.end
        self.closed.set_result(None)


async def load(url: str, bodies: list[bytes], connections: int, seconds: float) -> dict[str, float]:
    """Figures of one run, in the words of `bench.load.Load`."""
    parts = urlsplit(url)
    head = (
        f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    turn = itertools.cycle([b"%b%d\r\n\r\n%b" % (head, len(body), body) for body in bodies])
    start = time.perf_counter()
    made = [
        await asyncio.get_running_loop().create_connection(
            lambda: Client(turn, start + seconds), parts.hostname or "127.0.0.1", parts.port or 80
        )
        for _ in range(connections)
    ]
    clients = [client for _, client in made]
    await asyncio.gather(*(client.closed for client in clients))
    times = sorted(1e6 * taken for client in clients for taken in client.times)
    return {
        "requests": len(times),
        "duration_us": int(1e6 * (time.perf_counter() - start)),
        **{f"p{n}_us": times[len(times) * n // 100] if times else 0.0 for n in (50, 90, 99)},
        "max_us": times[-1] if times else 0.0,
        "bad_status": sum(client.bad_status for client in clients),
        "socket_errors": sum(client.lost for client in clients),
    }


if __name__ == "__main__":
    address, file, count, span = sys.argv[1:]
    figures = uvloop.run(
        load(address, Path(file).read_bytes().splitlines(), int(count), float(span))
    )
    print("WRK " + json.dumps(figures))
