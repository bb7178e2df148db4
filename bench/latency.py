"""One connection, one request at a time, by a blocking socket: the least that a client can add."""

from __future__ import annotations

import socket
import time

from bench.job import BODY, CONTENT_TYPE, Endpoint
from bench.result import CannotRun


class Line:
    """A kept-alive connection that repeats the job and takes its time."""

    def __init__(self, endpoint: Endpoint) -> None:
        host, port = endpoint.address
        self._socket = socket.create_connection((host, port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = (
            f"POST {endpoint.path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: {len(BODY)}\r\n\r\n"
        )
        self._request = head.encode() + BODY

    def once(self) -> float:
        """Seconds from the first byte sent to the last byte received.

        Raises:
            CannotRun: the answer is not the echo.
        """
        start = time.perf_counter()
        self._socket.sendall(self._request)
        answer = self._socket.recv(65536)
        while not complete(answer):
            more = self._socket.recv(65536)
            if not more:
                raise CannotRun(f"the server hung up after {answer[:200]!r}")
            answer += more
        taken = time.perf_counter() - start
        if not answer.startswith(b"HTTP/1.1 200"):
            raise CannotRun(f"answered {answer[:200]!r}")
        return taken

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()


def complete(answer: bytes) -> bool:
    r"""Whether an answer with a content length is whole.

    >>> complete(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    True
    >>> complete(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok"), complete(b"HTTP/1.1 200")
    (False, False)
    """
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        return False
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return len(body) >= int(value)
    raise CannotRun(f"an answer without a content length: {head[:200]!r}")
