"""Tensors by the protocol's names of their datatypes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stoker.nouns.errors import BadRequest

Values = npt.NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    # numpy has no such type: it is kept as the float32 that each value is equal to.
    "BF16": np.dtype("<f4"),
    "BYTES": np.dtype(object),
}
"""What the values of a datatype are kept as; those of BYTES are Python's bytes."""

FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that a model takes or gives; -1 is any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def document(self) -> dict[str, Any]:
        """As model metadata has it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor with its values."""

    name: str
    datatype: str
    values: Values

    @property
    def shape(self) -> list[int]:
        """Length of each axis."""
        return list(self.values.shape)


def texts_tensor(name: str, texts: Sequence[str]) -> Tensor:
    """A BYTES tensor [n] of texts."""
    values = np.empty(len(texts), dtype=object)
    values[:] = [text.encode() for text in texts]
    return Tensor(name, "BYTES", values)


def from_raw(name: str, datatype: str, shape: list[int], raw: bytes) -> Tensor:
    """A tensor of the binary extension.

    Raises:
        BadRequest: the bytes do not hold what datatype and shape say.
    """
    count = elements(shape)
    if datatype == "BYTES":
        return Tensor(name, datatype, _strings(name, raw, count).reshape(shape))
    width = 2 if datatype == "BF16" else DTYPES[datatype].itemsize
    if len(raw) != count * width:
        raise BadRequest(
            f"input {name!r}: {datatype} of shape {shape} are {count * width} bytes, "
            f"binary_data_size is {len(raw)}"
        )
    if datatype == "BF16":
        wide = np.frombuffer(raw, dtype="<u2").astype("<u4") << np.uint32(16)
        return Tensor(name, datatype, wide.view("<f4").reshape(shape))
    return Tensor(name, datatype, np.frombuffer(raw, dtype=DTYPES[datatype]).reshape(shape))


def to_raw(tensor: Tensor) -> bytes:
    """The bytes of the binary extension."""
    if tensor.datatype == "BYTES":
        items: list[bytes] = list(tensor.values.ravel())
        return b"".join(len(item).to_bytes(4, "little") + item for item in items)
    with np.errstate(over="ignore"):  # too large for FP16: infinity, as IEEE 754 has it
        values = np.ascontiguousarray(tensor.values, dtype=DTYPES[tensor.datatype])
    if tensor.datatype == "BF16":
        return _rounded(values).tobytes()
    return values.tobytes()


def elements(shape: Sequence[int]) -> int:
    """How many values a shape holds, in whole numbers that do not overflow."""
    count = 1
    for length in shape:
        count *= length
    return count


def _rounded(values: Values) -> Values:
    """The upper halves of float32 values, rounded to the nearest even. NaN stays NaN."""
    bits = values.view("<u4").astype(np.uint64)
    even = (bits >> np.uint64(16)) & np.uint64(1)
    upper = (bits + np.uint64(0x7FFF) + even) >> np.uint64(16)
    upper[np.isnan(values)] = 0x7FC0
    return upper.astype("<u2")


def _strings(name: str, raw: bytes, count: int) -> Values:
    """Each BYTES element stands behind its length, four bytes little-endian."""
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        if at + 4 > len(raw) or end > len(raw):
            raise BadRequest(f"input {name!r}: the BYTES element {len(found)} is cut off")
        found.append(raw[at + 4 : end])
        at = end
    if len(found) != count:
        raise BadRequest(f"input {name!r}: the shape holds {count} elements, were {len(found)}")
    values = np.empty(count, dtype=object)
    values[:] = found
    return values
