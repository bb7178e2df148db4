"""Bytes of pictures and sounds in what a client sends."""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import unquote_to_bytes

from stoker.nouns.errors import BadRequest


def media_bytes(value: Any, what: str) -> bytes:
    """The bytes of an input: raw, base64, or a ``data:`` URL.

    Args:
        value: the input.
        what: its kind, for the error: "an image".

    Raises:
        BadRequest: it is none of these. An address is not fetched: a function that does so for
            whoever calls it reaches what only its own network should.
    """
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if not isinstance(value, str):
        raise BadRequest(
            f"{what} must be base64 or a data: URL in JSON, or the raw body of a request of its "
            f"own content type; was a {type(value).__name__}"
        )
    if value.startswith(("http://", "https://")):
        raise BadRequest(f"{what} must be sent itself, as base64 or a data: URL: no URL is fetched")
    if not value.startswith("data:"):
        return _base64(value, what)
    head, comma, data = value.partition(",")
    if not comma:
        raise BadRequest(f"{what}: a data: URL has a comma before its data")
    return _base64(data, what) if head.endswith(";base64") else unquote_to_bytes(data)


def _base64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise BadRequest(f"{what} is not valid base64: {exc}") from exc
