"""Requests that offer another protocol, which a server may ignore (RFC 9110, 7.8)."""

from __future__ import annotations

from collections.abc import Mapping

_FRAMING = ("content-length", "transfer-encoding")


def plain_head(headers: Mapping[str, str]) -> bytes:
    """A head that offers nothing, with the body of ``headers``; empty when they have none.

    The parser stops at the end of a head that offers another protocol. Some clients (Java's) offer
    HTTP/2 with any request: a second parser must read the body, or it would run as something else.
    """
    lines = [f"{name}: {headers[name]}\r\n" for name in _FRAMING if name in headers]
    if not lines:
        return b""
    return f"POST / HTTP/1.1\r\nconnection: close\r\n{''.join(lines)}\r\n".encode("latin-1")
