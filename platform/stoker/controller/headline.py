"""An error in one line."""

from __future__ import annotations


def headline(text: str) -> str:
    r"""The line of an error that says the most: a traceback's last one, with what precedes it.

    >>> headline("worker a-1.0: Traceback (most recent call last):\n  File …\nKeyError: 'x'")
    "worker a-1.0: KeyError: 'x'"
    """
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if len(lines) < 2:
        return text.strip()
    prefix, found, _ = lines[0].partition("Traceback")
    return f"{prefix}{lines[-1].strip()}" if found else lines[0]
