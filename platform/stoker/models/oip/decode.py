"""An inference request, from the bytes of a body."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from stoker.models.oip.tensor import DTYPES, FLOATS, Tensor, Values, elements, from_raw
from stoker.nouns.errors import BadRequest

LENGTH_HEADER = "Inference-Header-Content-Length"
_LENGTH = re.compile("[0-9]{1,12}")
_SHOWN = 60
_MOST_AXES = 32
_MOST_ELEMENTS = 2**40
"""Of a shape that holds none, whose other lengths numpy multiplies all the same."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a client asks.

    Attributes:
        id: the client's own name of the request; empty when it gave none.
        parameters: of the request, less those of the protocol.
        outputs: names of the wanted outputs, each with whether it shall be binary; empty: all.
        binary: what outputs are that are not named.
    """

    id: str
    parameters: dict[str, Any]
    inputs: dict[str, Tensor]
    outputs: dict[str, bool]
    binary: bool


def read_request(body: Any, header_length: str | None = None) -> InferRequest:
    """Reads the body of an ``infer`` request.

    Args:
        body: bytes, or the JSON document that a server has made of them already.
        header_length: the header ``Inference-Header-Content-Length``, if there is one.

    Raises:
        BadRequest: naming what is wrong, and what would be right.
    """
    document, rest = _parts(body, header_length)
    raw = _Rest(rest)
    tensors = [_input(one, raw) for one in _objects(document, "inputs")]
    if not tensors:
        raise BadRequest('the request needs "inputs", a list of tensors')
    if raw.left:
        raise BadRequest(f"{raw.left} bytes follow the last input's binary data")
    parameters = _parameters(document, "the request")
    binary = _flag(parameters.pop("binary_data_output", False), "binary_data_output")
    names = {tensor.name: tensor for tensor in tensors}
    if len(names) < len(tensors):
        raise BadRequest("two inputs have the same name")
    return InferRequest(
        id=str(document.get("id") or ""),
        parameters=parameters,
        inputs=names,
        outputs=dict(_output(one, binary) for one in _objects(document, "outputs")),
        binary=binary,
    )


class _Rest:
    """The bytes behind the JSON, taken from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, name: str, size: int) -> bytes:
        if size > self.left:
            raise BadRequest(
                f"input {name!r}: binary_data_size is {size}, and {self.left} bytes are left of "
                f"the body after its first {LENGTH_HEADER} bytes"
            )
        self._at += size
        return self._data[self._at - size : self._at]


def _parts(body: Any, header_length: str | None) -> tuple[dict[str, Any], bytes]:
    if isinstance(body, dict):
        return body, b""
    if not isinstance(body, (bytes, bytearray)):
        raise BadRequest("the body must be a JSON object with inputs")
    size = len(body)
    if header_length is not None:
        if not _LENGTH.fullmatch(header_length) or int(header_length) > len(body):
            raise BadRequest(
                f"{LENGTH_HEADER} must be a number of bytes up to the body's {len(body)}, was "
                f"{header_length[:_SHOWN]!r}"
            )
        size = int(header_length)
    try:
        document = orjson.loads(body[:size])
    except orjson.JSONDecodeError as exc:
        hint = "" if header_length else f" (binary tensors need the header {LENGTH_HEADER})"
        raise BadRequest(f"the body must be JSON: {exc}{hint}") from exc
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object with inputs")
    return document, bytes(body[size:])


def _objects(document: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    listed = document.get(name) or []
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise BadRequest(f'"{name}" must be a list of objects, each with a "name"')
    for one in listed:
        if not isinstance(one.get("name"), str):
            raise BadRequest(f'each of "{name}" must have a "name"')
        yield one


def _parameters(holder: dict[str, Any], whose: str) -> dict[str, Any]:
    parameters = holder.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadRequest(f'the "parameters" of {whose} must be an object')
    return dict(parameters)


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false, was {value!r}")
    return value


def _output(one: dict[str, Any], binary: bool) -> tuple[str, bool]:
    parameters = _parameters(one, f"output {one['name']!r}")
    return one["name"], _flag(parameters.get("binary_data", binary), "binary_data")


def _input(one: dict[str, Any], rest: _Rest) -> Tensor:
    name, datatype, shape = one["name"], one.get("datatype"), one.get("shape")
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise BadRequest(
            f"input {name!r}: the datatype must be one of {', '.join(DTYPES)}, was {datatype!r}"
        )
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise BadRequest(
            f"input {name!r}: the shape must be a list of lengths, was {shape!r:.{_SHOWN}}"
        )
    nothing = 0 in shape and elements([n or 1 for n in shape]) > _MOST_ELEMENTS
    if len(shape) > _MOST_AXES or nothing:
        raise BadRequest(
            f"input {name!r}: a shape has at most {_MOST_AXES} lengths and {_MOST_ELEMENTS} "
            f"elements beside a 0, was {shape!r:.{_SHOWN}}"
        )
    size = _parameters(one, f"input {name!r}").get("binary_data_size")
    if size is not None:
        if type(size) is not int or size < 0 or "data" in one:
            raise BadRequest(
                f"input {name!r} must have data, or binary_data_size as a number of bytes"
            )
        return from_raw(name, datatype, shape, rest.take(name, size))
    if "data" not in one:
        raise BadRequest(f"input {name!r} has no data")
    return Tensor(name, datatype, _values(name, datatype, shape, one["data"]))


def _values(name: str, datatype: str, shape: list[int], data: Any) -> Values:
    if not isinstance(data, list):
        raise BadRequest(f"input {name!r}: data must be a list, was a {type(data).__name__}")
    nested = any(isinstance(item, list) for item in data)
    flat = list(_flat(name, data, shape)) if nested else data
    if len(flat) != elements(shape):
        raise BadRequest(
            f"input {name!r}: the shape {shape} holds {elements(shape)} values, data has "
            f"{len(flat)}"
        )
    for item in flat:
        if not _fits(item, datatype):
            raise BadRequest(f"input {name!r}: {item!r:.{_SHOWN}} is no value of {datatype}")
    return _array(name, datatype, flat).reshape(shape)


def _flat(name: str, data: list[Any], shape: list[int]) -> Iterator[Any]:
    """The values of nested lists, which must have the shape's lengths."""
    if not shape or len(data) != shape[0]:
        raise BadRequest(f"input {name!r}: data is not nested as its shape says")
    for item in data:
        if isinstance(item, list) and len(shape) > 1:
            yield from _flat(name, item, shape[1:])
        elif isinstance(item, list) or len(shape) > 1:
            raise BadRequest(f"input {name!r}: data is not nested as its shape says")
        else:
            yield item


def _fits(item: Any, datatype: str) -> bool:
    if datatype == "BYTES":
        return isinstance(item, str)
    if datatype == "BOOL":
        return isinstance(item, bool)
    if isinstance(item, bool):
        return False
    return isinstance(item, (int, float) if datatype in FLOATS else int)


def _array(name: str, datatype: str, flat: list[Any]) -> Values:
    if datatype == "BYTES":
        values = np.empty(len(flat), dtype=object)
        values[:] = [item.encode() for item in flat]
        return values
    dtype = DTYPES[datatype]
    if dtype.kind in "iu" and flat:
        bounds = np.iinfo(dtype)
        for worst in (min(flat), max(flat)):
            if not bounds.min <= worst <= bounds.max:
                raise BadRequest(
                    f"input {name!r}: {datatype} goes from {bounds.min} to {bounds.max}, was "
                    f"{worst}"
                )
    with np.errstate(over="ignore"):  # too large for FP16: infinity, as IEEE 754 has it
        return np.array(flat, dtype=dtype)
