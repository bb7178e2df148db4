"""The standard library's JSON, to the letter, without what it does anew at every call.

A graph writes and reads a document at every step. orjson would be faster still, but it writes other
text, turns NaN into null and large integers into floats.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii
from typing import Any

_decoder: Any = json.JSONDecoder()
_scan_once = _decoder.scan_once
_PLAIN_STARTS = frozenset(b'{["')


def dumps(value: Any) -> str:
    """As `json.dumps`.

    >>> dumps({"a": [1, None], 2: "b"})
    '{"a": [1, null], "2": "b"}'

    Raises:
        TypeError: something in it has no JSON form.
        ValueError: it contains itself.
    """
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    try:
        return "".join(_encode(value, 0))
    except (TypeError, ValueError, RecursionError):
        return json.dumps(value)


def loads(data: bytes | str) -> Any:
    r"""As `json.loads`.

    >>> loads(b'{"a": 1}'), loads(b" 12345678901234567890 ")
    ({'a': 1}, 12345678901234567890)

    Raises:
        json.JSONDecodeError: it is no JSON.
    """
    if isinstance(data, bytes) and len(data) > 1 and data[0] in _PLAIN_STARTS and data[1]:
        try:
            text = data.decode("utf-8", "surrogatepass")
            value, end = _scan_once(text, 0)
            if end == len(text):
                return value
        except (ValueError, StopIteration, RecursionError):
            return json.loads(data)
    return json.loads(data)


def _encoder() -> Any:
    """What `json.dumps` makes at each call, but for the search for circles: `json.dumps` does it.

    A document that contains itself ends in a RecursionError here.
    """
    default = json.JSONEncoder().default
    encoder: Any = json.encoder
    return encoder.c_make_encoder(
        None, default, encode_basestring_ascii, None, ": ", ", ", False, False, True
    )


_encode = _encoder()
