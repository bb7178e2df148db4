"""An error in one line."""

from __future__ import annotations

import re
from pathlib import PurePath

_FILE = re.compile(r'\s*File "([^"]+)", line (\d+)')
_UNREADABLE = re.compile(r"\s*(SyntaxError|IndentationError|TabError)\b")


def headline(text: str) -> str:
    r"""The line of an error that says the most: a traceback's last one, with what precedes it.

    >>> headline("worker a-1.0: Traceback (most recent call last):\n  File …\nKeyError: 'x'")
    "worker a-1.0: KeyError: 'x'"
    >>> headline('Traceback …\n  File "/c/main.py", line 3\n    if x\nSyntaxError: expected \':\'')
    "SyntaxError: expected ':' (main.py, line 3)"
    """
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if len(lines) < 2:
        return text.strip()
    prefix, found, _ = lines[0].partition("Traceback")
    return f"{prefix}{lines[-1].strip()}{_place(lines)}" if found else lines[0]


def _place(lines: list[str]) -> str:
    """Where code cannot be read: its last line says what is wrong and not where."""
    places = [match for line in lines if (match := _FILE.match(line))]
    if not places or not _UNREADABLE.match(lines[-1]):
        return ""
    return f" ({PurePath(places[-1][1]).name}, line {places[-1][2]})"
