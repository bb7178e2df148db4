"""The payloads of END frames: how a stream ended."""

from __future__ import annotations

import orjson

CANCELLED = orjson.dumps({"outcome": "cancelled"})
ENDED_OK = orjson.dumps({"outcome": "ok"})


def error_end(message: bytes) -> bytes:
    """Of one that failed. Its message may be the user's own bytes."""
    text = message.decode("utf-8", "replace")
    return orjson.dumps({"outcome": "error", "message": text})
