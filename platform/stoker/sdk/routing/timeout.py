"""What a caller says about how long it waits: ``X-Request-Timeout``."""

from __future__ import annotations

import math

from stoker.nouns.errors import BadRequest

HEADER = "x-request-timeout"


def seconds_of(text: str) -> float:
    """Seconds of the header's value.

    Raises:
        BadRequest: not a positive, finite number.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds <= 0:
        raise BadRequest(f"X-Request-Timeout must be seconds above 0, was {text[:40]!r}")
    return seconds
