"""Durations and sizes as Nuclio and Kubernetes write them ("1m30s", "256Mi", "16GiB")."""

from __future__ import annotations

import re
from decimal import Decimal

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGTP]?i?)[Bb]?")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}

_LEAST_DEVICE_MEMORY = 1024**2
_MORE_GIB_THAN_A_CARD_HAS = 512


def parse_duration(text: str | int | float) -> float:
    """Seconds of a Go duration.

    >>> parse_duration("1m30s")
    90.0
    >>> parse_duration("250ms")
    0.25

    Raises:
        ValueError: the text is not a duration.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        seconds = float(text)
    else:
        stripped = str(text).strip()
        if stripped == "0":
            return 0.0
        parts = _DURATION.findall(stripped)
        if not parts or "".join(n + u for n, u in parts) != stripped:
            raise ValueError(f'must be a duration such as "30s", "1m30s" or "250ms", was {text!r}')
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds < 0 or seconds != seconds or seconds == float("inf"):
        raise ValueError(f"must be a duration of zero or more, was {text!r}")
    return seconds


def parse_bytes(text: str | int) -> int:
    """Bytes of a Kubernetes quantity or a plain size.

    >>> parse_bytes("256Mi"), parse_bytes("16GiB"), parse_bytes("2G")
    (268435456, 17179869184, 2000000000)

    Raises:
        ValueError: the text is not a size.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        if text < 0:
            raise ValueError(f"must be a size of zero or more, was {text!r}")
        return text
    match = _SIZE.fullmatch(str(text).strip())
    if not match:
        raise ValueError(f'must be a size such as "256Mi", "16GiB" or "4194304", was {text!r}')
    number, unit = match.groups()
    base = 1024 if unit.endswith("i") else 1000
    return int(Decimal(number) * base ** _POWERS[unit.rstrip("i").upper()])


def parse_device_memory(text: str | int) -> int:
    """Bytes of device memory, never so few that a unit must have been forgotten.

    >>> parse_device_memory("2GiB")
    2147483648

    Raises:
        ValueError: the text is not a size, or one below 1 MiB.
    """
    size = parse_bytes(text)
    if size >= _LEAST_DEVICE_MEMORY:
        return size
    if str(text).strip().isdigit() and size:
        meant = f"{size}{'GiB' if size < _MORE_GIB_THAN_A_CARD_HAS else 'MiB'}"
        raise ValueError(f"must be a size with its unit: {size} bytes? did you mean {meant}?")
    raise ValueError(f'must be a size of at least 1MiB, such as "2GiB", was {text!r}')


def format_bytes(count: float) -> str:
    """A size for people: ``1.5 GiB``.

    >>> format_bytes(1610612736)
    '1.5 GiB'
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
