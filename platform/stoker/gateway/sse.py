"""Server-sent events (HTML standard, 9.2) around a handler's chunks."""

from __future__ import annotations

CONTENT_TYPE = "text/event-stream"


def wanted(accept: str) -> bool:
    """Whether a client asked for events."""
    return CONTENT_TYPE in accept


def event(data: bytes, name: bytes = b"") -> bytes:
    r"""One event; each line of ``data`` becomes a ``data:`` line.

    >>> event(b"two\nlines")
    b'data: two\ndata: lines\n\n'
    """
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    head = b"event: " + name + b"\n" if name else b""
    return head + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"
