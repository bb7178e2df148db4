"""MLRun's documents as clients send them: any part may be missing or strange."""

from __future__ import annotations

from typing import Any

from stoker.store.catalog import json_text

Document = dict[str, Any]


def part(document: Document, name: str) -> Document:
    """A part that is an object (``metadata``, ``spec``, ``status``), made if it is none."""
    found = document.get(name)
    if not isinstance(found, dict):
        found = document[name] = {}
    return found


def looked_up(document: Any, *path: str) -> Any:
    """The value at a path, None where it ends early."""
    for name in path:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def text_at(document: Any, *path: str) -> str:
    """The value at a path when it is a text, else the empty text."""
    found = looked_up(document, *path)
    return found if isinstance(found, str) else ""


def number_at(document: Any, *path: str) -> int:
    """The value at a path when it is a whole number, as a number or as a text, else 0."""
    found = looked_up(document, *path)
    if isinstance(found, str) and found.isdigit():
        return int(found)
    return found if isinstance(found, int) else 0


def packed(document: Document) -> bytes:
    """As it is stored."""
    return json_text.written(document)


def unpacked(stored: bytes) -> Document:
    """As it was stored."""
    document: Document = json_text.parsed(stored)
    return document


def set_at(document: Document, dotted: str, value: Any) -> None:
    r"""Sets the value at a path such as ``status.results``, making what is missing on the way.

    >>> run = {"status": {"state": "running"}}
    >>> set_at(run, "status.state", "completed")
    >>> set_at(run, "metadata.labels.example\\.com/team\\", "blue")
    >>> run
    {'status': {'state': 'completed'}, 'metadata': {'labels': {'example.com/team': 'blue'}}}
    """
    *path, last = _split(dotted)
    for name in path:
        document = part(document, name)
    document[last] = value


def _split(dotted: str) -> list[str]:
    # As mlrun.utils.update_in: a backslash begins and ends a stretch whose dots belong to a name.
    names, escaped = [""], False
    for char in dotted:
        if char == "\\":
            escaped = not escaped
        elif char == "." and not escaped:
            names.append("")
        else:
            names[-1] += char
    return names
