"""Safetensors files: their header read before any library maps them, and a writer that aligns.

A file that is cut short maps well and fails, or kills its reader, when the missing tensor is
touched: so its header is compared with its size first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models.source import Source
from stoker.nouns.errors import UnusableModel

if TYPE_CHECKING:
    import torch

ALIGNED = 64
"""torch's int8 kernel for a CPU crashes on a weight that begins elsewhere, and a mapped tensor
begins where the file has it: safetensors' own writer aligns to 8."""
_LENGTH = 8
_LONGEST_HEADER = 100_000_000
_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4,
    "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
_WEIGHTS = frozenset({"F64", "F32", "F16", "BF16"})


def check_weights(source: Source) -> None:
    """Refuses damaged files, and weights in numbers that are somebody's own quantization.

    Raises:
        UnusableModel: naming file and tensor.
    """
    if source.gguf or source.pickled:
        return
    _check_unquantized(source)
    for path in sorted(source.folder.glob("*.safetensors")):
        for name, facts in header(path).items():
            kind = str(facts["dtype"])
            if name.endswith(".weight") and kind not in _WEIGHTS:
                raise UnusableModel(
                    f"{path}: {name} is {kind}, must be one of {', '.join(sorted(_WEIGHTS))}: "
                    "quantized weights cannot be a source, take the original"
                )


def write_aligned(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes tensors so that each whose size allows it begins at a multiple of `ALIGNED`."""
    import torch

    # Without gaps, which the format forbids: those of uneven size come last.
    names = sorted(tensors, key=lambda name: (tensors[name].nbytes % ALIGNED != 0, name))
    facts: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        one = tensors[name]
        begin, end = end, end + one.nbytes
        facts[name] = {
            "dtype": _dtype_names()[one.dtype], "shape": list(one.shape),
            "data_offsets": [begin, end],
        }  # fmt: skip
    text = json.dumps(facts, separators=(",", ":")).encode()
    text += b" " * (-(_LENGTH + len(text)) % ALIGNED)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(_LENGTH, "little") + text)
        for name in names:
            raw = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            file.write(raw.numpy().data)


def _dtype_names() -> dict[torch.dtype, str]:
    import torch

    return {
        torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
        torch.float8_e4m3fn: "F8_E4M3", torch.int64: "I64", torch.int32: "I32",
        torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
    }  # fmt: skip


def header(path: Path) -> dict[str, dict[str, Any]]:
    """The tensors of a file: name to dtype, shape and data_offsets.

    Raises:
        UnusableModel: the file is no safetensors file, or ends before its tensors do.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        text = file.read(length) if length <= min(size, _LONGEST_HEADER) else b""
    try:
        tensors = json.loads(text)
        tensors.pop("__metadata__", None)
        ordered = sorted(tensors.items(), key=lambda item: item[1]["data_offsets"])
        for name, facts in ordered:
            _check_tensor(path, name, facts, size - _LENGTH - length)
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise UnusableModel(
            f"{path} is no safetensors file, or its header is cut: {type(exc).__name__}: {exc}"
        ) from exc
    return dict(ordered)


def _check_tensor(path: Path, name: str, facts: dict[str, Any], held: int) -> None:
    begin, end = facts["data_offsets"]
    if end > held:
        raise UnusableModel(
            f"{path} is truncated: tensor {name!r} needs bytes {begin} to {end}, the file holds "
            f"{held}; get the file again"
        )
    width = _BYTES.get(str(facts["dtype"]))
    if width and end - begin != width * prod(facts["shape"]):
        raise UnusableModel(
            f"{path}: tensor {name!r} of shape {facts['shape']} in {facts['dtype']} must have "
            f"{width * prod(facts['shape'])} bytes, has {end - begin}"
        )


def _check_unquantized(source: Source) -> None:
    try:
        config = json.loads((source.folder / "config.json").read_bytes())
    except ValueError as exc:
        raise UnusableModel(f"{source.folder / 'config.json'} is not JSON: {exc}") from exc
    made = config.get("quantization_config") if isinstance(config, dict) else None
    if made:
        raise UnusableModel(
            f"STOKER_MODEL {source.name!r} is quantized already "
            f"({made.get('quant_method', 'by an unknown method')}): take the original, and say "
            "STOKER_QUANTIZATION"
        )
