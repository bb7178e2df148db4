"""JSON as Python writes it: with NaN, whole numbers of any size, and halves of surrogate pairs.

MLRun's client writes its bodies by Python's json. A metric that is NaN must not end the run.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import orjson

LARGE_BYTES = 256 * 1024
"""From here on a text takes long enough to be read away from the event loop."""
_PIECED_LEVELS = 4
"""Levels whose members are read one by one. What lies deeper is small in MLRun's documents."""
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
"""What orjson may silently read as a float: it has whole numbers of 64 bits only."""

_Scan = Callable[[str, int], tuple[Any, int]]
# Not in the types of the standard library.
_whole: _Scan = vars(json.JSONDecoder())["scan_once"]


class _InPieces(json.JSONDecoder):
    """A decoder that gives other threads their turn between two members.

    One call into C for the whole text would hold the interpreter, and with it the event loop, for
    seconds, in whatever thread it was made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scan_once = _whole
        for _ in range(_PIECED_LEVELS):
            self.scan_once = _members(self.scan_once)


def parsed(text: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, or is nested too deeply, or holds a number of thousands of digits.
    """
    try:
        if len(text) >= LARGE_BYTES:
            return _in_pieces.decode(text.decode())
        if not _LONG_NUMBER.search(text):
            return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc
    try:
        return json.loads(text)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def written(value: Any, *, ordered: bool = False) -> bytes:
    """The value as a JSON text that every reader takes: NaN and the infinities are null.

    Args:
        value: what JSON can say.
        ordered: whether keys are in their order, for a hash.

    Raises:
        TypeError: it holds something that JSON cannot say.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if ordered else None)
    except orjson.JSONEncodeError:
        # Larger numbers than 64 bits, or half a surrogate pair: slower, and as MLRun writes them.
        return json.dumps(_finite(value), sort_keys=ordered, separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _members(inner: _Scan) -> _Scan:
    """A scanner that reads the members of one level by ``inner``."""
    # Not in the types of the standard library; both are what its own scanner in Python calls.
    read_object: Any = json.decoder.__dict__["JSONObject"]
    read_array: Any = json.decoder.__dict__["JSONArray"]

    def scan(text: str, at: int) -> tuple[Any, int]:
        first = text[at : at + 1]
        if first == "{":
            value, end = read_object((text, at + 1), True, inner, None, None, {})
        elif first == "[":
            value, end = read_array((text, at + 1), inner)
        else:
            value, end = _whole(text, at)
        return value, end

    return scan


_in_pieces = _InPieces()
