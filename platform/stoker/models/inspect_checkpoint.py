"""What a prepared checkpoint's file holds, whatever its manifest says of it."""

from __future__ import annotations

from pathlib import Path

from stoker.models.safe_file import header
from stoker.nouns.errors import UnusableModel

_WEIGHTS = "model.safetensors"
_GRAPH = "model.onnx"
_INTEGERS = (2, 3)
"""ONNX's uint8 and int8."""
_QUANTIZED = ".qdata"
_FLOAT = frozenset({"F64", "F32", "F16", "BF16"})


def quantized_modules(folder: Path) -> int:
    """How many modules' weights are in quantized numbers, counted in the file.

    Raises:
        UnusableModel: the file is damaged or cannot be read.
    """
    if (folder / _WEIGHTS).is_file():
        tensors = header(folder / _WEIGHTS)
        return sum(
            name.endswith(_QUANTIZED) and str(facts["dtype"]) not in _FLOAT
            for name, facts in tensors.items()
        )
    return _in_graph(folder)


def _in_graph(folder: Path) -> int:
    """Matrices of integers in the ONNX graph: each is one module's weight."""
    try:
        import onnx
    except ImportError as exc:
        raise UnusableModel(f"{folder}: the package onnx cannot be imported here: {exc}") from exc
    path = folder / _GRAPH
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as exc:  # protobuf's errors share no base with anything
        raise UnusableModel(f"{path} cannot be read: {exc}") from exc
    return sum(one.data_type in _INTEGERS and len(one.dims) > 1 for one in graph.initializer)
