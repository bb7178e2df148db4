"""How an answer looks on the wire: status line, headers, framing."""

from __future__ import annotations

from http import HTTPStatus

import orjson

from stoker.nouns.errors import StokerError

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
JSON = "application/json"

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES = {code: f"HTTP/1.1 {code} {text}\r\n" for code, text in _REASONS.items()}
_OURS = frozenset(
    {
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    }
)
"""Headers of an answer that describe the connection, which is ours, not the handler's."""


def status_line(status: int) -> str:
    """The first line of an answer."""
    return _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Unknown\r\n"


def header_lines(headers: dict[str, str]) -> str:
    """A handler's headers as lines, less those that are ours to write."""
    text, lines = "", 0
    for name, value in headers.items():
        if name not in _OURS:
            text += f"{name}: {value}\r\n"
            lines += 1
    if text.count("\n") == lines == text.count("\r"):
        return text
    # A handler that echoes input must not let it end a header line and begin another answer.
    return "".join(
        f"{_one_line(name)}: {_one_line(value)}\r\n"
        for name, value in headers.items()
        if name not in _OURS
    )


def has_body(method: str, status: int) -> bool:
    """Whether an answer carries content at all (RFC 9110, 6.4.1)."""
    return method != "HEAD" and status not in (204, 304)


def envelope(error: StokerError, request_id: str) -> bytes:
    """The JSON body of a failure."""
    return orjson.dumps(error.envelope(request_id), default=str)


def worker_envelope(code: str, message: bytes, request_id: str) -> bytes:
    """The same for a failure that the worker named."""
    text = message.decode("utf-8", "replace")
    return orjson.dumps({"error": {"code": code, "message": text, "request_id": request_id}})


def chunk(data: bytes) -> bytes:
    """One chunk of ``Transfer-Encoding: chunked``."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")
