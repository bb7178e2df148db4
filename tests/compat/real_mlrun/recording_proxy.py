"""Stands between a real MLRun API server and Stoker's control port, and writes down what was asked.

Nothing is changed on the way but the ``Host`` header, so that Stoker sees its own name.
"""

from __future__ import annotations

import http.client
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "host", "content-length"})


@dataclass(frozen=True)
class Asked:
    """One request as it went over the wire.

    Attributes:
        during: the step of the trial in which it came; a periodic sync lands in whichever runs.
        error: the start of the body, when the status is an error.
    """

    during: str
    method: str
    path: str
    status: int
    error: str = ""


@dataclass
class Recorder:
    """A loopback port that passes everything to ``target`` and remembers it."""

    target: str
    during: str = "startup"
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return lambda: recorder.forward(self)
                raise AttributeError(name)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def forward(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP}
        upstream = http.client.HTTPConnection(urlsplit(self.target).netloc, timeout=120)
        try:
            upstream.request(request.command, request.path, body or None, headers)
            reply = upstream.getresponse()
            content = reply.read()
        finally:
            upstream.close()
        said = content[:300].decode(errors="replace") if reply.status >= 400 else ""
        self.asked.append(Asked(self.during, request.command, request.path, reply.status, said))
        request.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in HOP:
                request.send_header(name, value)
        if reply.status != 204:
            request.send_header("content-length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
