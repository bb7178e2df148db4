"""The job that every server is given: echo this JSON over HTTP POST."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

DOCUMENT = {"text": "The quick brown fox jumps over the lazy dog."}
BODY = json.dumps(DOCUMENT, separators=(",", ":")).encode()
CONTENT_TYPE = "application/json"


@dataclass(frozen=True)
class Endpoint:
    """Where a server does the job."""

    url: str

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    @property
    def path(self) -> str:
        """The path on that server."""
        return urlsplit(self.url).path or "/"

    def post(self, body: bytes = BODY, *, timeout_s: float = 60.0) -> tuple[int, bytes]:
        """One request on a connection of its own: status and body."""
        connection = http.client.HTTPConnection(*self.address, timeout=timeout_s)
        try:
            connection.request("POST", self.path, body, {"Content-Type": CONTENT_TYPE})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def echoes(self) -> bool:
        """Whether the job is done here: status 200 and the same document."""
        try:
            status, body = self.post()
        except OSError:
            return False
        return status == 200 and json.loads(body) == DOCUMENT
