"""Linear layers over quantized weights: plain tensors, torch's or bitsandbytes' kernels.

Plain tensors rather than the libraries' subclasses: those are pickled or rebuilt one by one when a
checkpoint is read (torchao: 24 times as long as bf16), and bitsandbytes' own layer repacks its
weight into private memory at its first forward and corrupts it when it is saved afterwards.
"""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from stoker.models.device import cpu, cpu_flags
from stoker.models.safe_file import ALIGNED
from stoker.nouns.errors import UnusableModel

_FEW_ROWS = 8
"""Up to so many, torch's int8 kernel for a CPU (which reads a quarter of fp32's bytes) is faster
than widening the weight and multiplying: 47 against 199 µs for one row of a 576 x 1536 layer; at 16
rows 369 against 310. Without AVX-512 likewise: 55 against 144 at one row, 345 against 343 at 8."""
_INT8_SETS = frozenset({"avx512f", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
"""Instruction sets of a CPU without which its product of int8 matrices is a plain loop."""
_FP16_HIGHEST_EXPONENT_BIT = 1 << 14
_CUDA_INT8_ROWS = 32
"""cuBLAS multiplies int8 from 17 rows on."""


class QuantizedLinear(nn.Module):
    """A linear layer whose weight is in other numbers.

    Attributes:
        TENSORS: names of the parameters that hold the weight.
        packed: see `stoker.models.manifest.Quantized`.
    """

    TENSORS: ClassVar[tuple[str, ...]] = ("qdata", "scale")

    def __init__(
        self, linear: nn.Linear, tensors: dict[str, torch.Tensor], *, packed: bool = False
    ) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.bias = linear.bias
        self.packed = packed
        for name in self.TENSORS:
            # Parameters, because accelerate offloads those and leaves buffers where they are.
            kept = nn.Parameter(_aligned(tensors[name]), requires_grad=False)
            self.register_parameter(name, kept)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Like `torch.nn.Linear.forward`."""
        rows = x.reshape(-1, self.in_features)
        y = self.product(rows)
        y = y.to(torch.promote_types(x.dtype, y.dtype))
        if self.bias is not None:
            y = y + self.bias.to(y.dtype)
        return y.view(*x.shape[:-1], self.out_features).to(x.dtype)

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """``rows`` [n, in_features] times the weight: [n, out_features]."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """As torch prints its own."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class Int8Linear(QuantizedLinear):
    """Weights int8 with one scale an output channel."""

    qdata: torch.Tensor
    scale: torch.Tensor

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """See `QuantizedLinear.product`."""
        if self._few(rows):
            scale = self.scale.to(torch.bfloat16)
            return torch._weight_int8pack_mm(_for_kernel(rows), self.qdata, scale)
        return self.widened(rows)

    def widened(self, rows: torch.Tensor) -> torch.Tensor:
        """The product by a weight that is widened first."""
        rows = rows.to(_wide(rows))
        weight, scale = self.weight_in(rows.dtype), self.scale.to(rows.dtype)
        if rows.dtype is torch.float16:
            # Scaled first: sums of levels (up to 127, or 448) pass 65504, where fp16 ends, and an
            # infinity stays one.
            return functional.linear(rows, weight * scale[:, None])
        return functional.linear(rows, weight) * scale

    def weight_in(self, dtype: torch.dtype) -> torch.Tensor:
        """``qdata`` in other numbers."""
        return self.qdata.to(dtype)

    def _few(self, rows: torch.Tensor) -> bool:
        on_cpu = rows.device.type == "cpu"
        return on_cpu and len(rows) <= _FEW_ROWS and not self.in_features % 16


class Float8Linear(Int8Linear):
    """Weights float8 (e4m3) with one scale an output channel."""

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """See `QuantizedLinear.product`."""
        return self.widened(rows)

    def weight_in(self, dtype: torch.dtype) -> torch.Tensor:
        """See `Int8Linear.weight_in`.

        torch converts float8 on a CPU number by number. As fp16 lays its bits out, the same sign,
        exponent and mantissa are 1/256 of the number: 13 times faster, and exact.
        """
        if self.qdata.device.type != "cpu":
            return self.qdata.to(dtype)
        bits = self.qdata.view(torch.int8).to(torch.int16)
        bits.bitwise_left_shift_(7).bitwise_and_(~_FP16_HIGHEST_EXPONENT_BIT)
        return bits.view(torch.float16).to(dtype).mul_(256)


class Int8DynamicLinear(Int8Linear):
    """The same weights, and activations int8 with one scale a row, found as they come."""

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """See `QuantizedLinear.product`."""
        count = len(rows)
        if rows.device.type == "cuda" and count < _CUDA_INT8_ROWS:
            rows = functional.pad(rows, (0, 0, 0, _CUDA_INT8_ROWS - count))
        wide = rows.float()
        scale = wide.abs().amax(dim=1, keepdim=True).clamp(min=1e-5) / 127
        product = self._whole((wide / scale).round_()) * scale * self.scale.float()
        return product[:count]

    def _whole(self, rows: torch.Tensor) -> torch.Tensor:
        """Whole numbers -127…127 [n, in_features], as floats, times the weight's: float32.

        On a CPU that multiplies no int8 torch's product of them is a plain
        loop, 30 times slower than fp32's. Few rows go to the other int8 kernel, since bf16 has
        every whole number up to 256; more to fp32's product, whose sums are exact up to 2**24.
        """
        if rows.device.type != "cpu" or multiplies_int8():
            return torch._int_mm(rows.to(torch.int8), self.qdata.t()).float()
        if self._few(rows):
            ones = torch.ones(self.out_features, dtype=torch.bfloat16)
            return torch._weight_int8pack_mm(_for_kernel(rows), self.qdata, ones).float()
        return functional.linear(rows, self.weight_in(torch.float32))


class Int4Linear(QuantizedLinear):
    """Weights int4 with a scale and a zero point a group.

    Packed, they lie in the order of torch's kernel for one CPU. Otherwise two a byte, as any device
    can read them: a card has them in its own tiles once `for_card` was called, and a CPU packs them
    anew at each call, which is for comparing what was made for a card and not for serving.
    """

    TENSORS: ClassVar[tuple[str, ...]] = ("qdata", "scale_and_zero")
    qdata: torch.Tensor
    scale_and_zero: torch.Tensor

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """See `QuantizedLinear.product`."""
        aten = torch.ops.aten
        if rows.device.type == "cpu":
            rows, scales = _for_kernel(rows), self.scale_and_zero.to(torch.bfloat16)
            qdata = self.qdata if self.packed else packed_for_cpu(levels_of(self.qdata))
            group = self.in_features // scales.shape[0]
            y = aten._weight_int4pack_mm_for_cpu(rows, qdata, group, scales)
        else:
            tiles, scales = self._on_card()
            padded = scales.shape[0] * INT4_GROUP
            rows = functional.pad(rows.contiguous(), (0, padded - self.in_features))
            y = aten._weight_int4pack_mm(rows, tiles, INT4_GROUP, scales)
        product: torch.Tensor = y[:, : self.out_features]
        return product

    def for_card(self) -> None:
        """Puts the weight, which is on a card, into the order of its kernel; once."""
        if self.qdata.ndim == _PLAIN:
            tiles, scales = self._on_card()
            self.qdata = nn.Parameter(tiles, requires_grad=False)
            self.scale_and_zero = nn.Parameter(scales, requires_grad=False)

    def _on_card(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self.qdata.ndim != _PLAIN:
            return self.qdata, self.scale_and_zero
        qdata, scales = padded_for_card(self.qdata, self.scale_and_zero)
        return torch.ops.aten._convert_weight_to_int4pack(qdata, _INNER_TILES), scales


class ScaledInt4Linear(Int4Linear):
    """The same, of a weight whose columns were scaled before, and the activations against it."""

    TENSORS: ClassVar[tuple[str, ...]] = ("qdata", "scale_and_zero", "pre_scale")
    pre_scale: torch.Tensor

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """See `QuantizedLinear.product`."""
        return super().product(rows * self.pre_scale.to(rows.dtype))


class FourBitLinear(QuantizedLinear):
    """Weights in one of bitsandbytes' 4-bit types, with one scale a block of 64."""

    TENSORS: ClassVar[tuple[str, ...]] = ("qdata", "absmax")
    KIND: ClassVar[str] = "nf4"
    qdata: torch.Tensor
    absmax: torch.Tensor

    def __init__(
        self, linear: nn.Linear, tensors: dict[str, torch.Tensor], *, packed: bool = False
    ) -> None:
        super().__init__(linear, tensors, packed=packed)
        self._code = bitsandbytes().functional.get_4bit_type(self.KIND, device="cpu")

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """See `QuantizedLinear.product`."""
        shape, rows = [self.out_features, self.in_features], rows.contiguous()
        kernels = torch.ops.bitsandbytes
        if self.packed:
            y = kernels.gemv_4bit(rows, self.qdata, shape, self.absmax, self._code, BLOCK)
        else:
            flat = self.qdata.view(-1, 1)
            y = kernels.gemm_4bit(rows, flat, shape, self.absmax, BLOCK, self.KIND)
        product: torch.Tensor = y
        return product


class Fp4Linear(FourBitLinear):
    """See `FourBitLinear`."""

    KIND: ClassVar[str] = "fp4"


def two_a_byte(levels: torch.Tensor) -> torch.Tensor:
    """Whole numbers 0…15 [rows, columns] as bytes [rows, columns / 2].

    >>> two_a_byte(torch.tensor([[1, 2, 15, 0]])).tolist()
    [[18, 240]]
    """
    return (levels[:, ::2] << 4 | levels[:, 1::2]).to(torch.uint8).contiguous()


def levels_of(bytes_: torch.Tensor) -> torch.Tensor:
    """The reverse of `two_a_byte`, int32.

    >>> levels_of(torch.tensor([[18, 240]], dtype=torch.uint8)).tolist()
    [[1, 2, 15, 0]]
    """
    wide = bytes_.to(torch.int32)
    return torch.stack((wide >> 4, wide & 15), dim=-1).flatten(1)


def packed_for_cpu(levels: torch.Tensor) -> torch.Tensor:
    """In the order of torch's kernel for this CPU."""
    packed: torch.Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(
        levels.to(torch.int32), 1
    )
    return packed


def padded_for_card(qdata: torch.Tensor, scales: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows in eights and columns in 1024s, which is what a card's tiles hold.

    >>> q, s = padded_for_card(torch.ones(12, 32, dtype=torch.uint8), torch.ones(1, 12, 2))
    >>> q.shape, s.shape, float(s.sum())
    (torch.Size([16, 512]), torch.Size([16, 16, 2]), 24.0)
    """
    rows, half = qdata.shape
    more_rows, more = -rows % _TILE_ROWS, -half % (_TILE_COLUMNS // 2)
    qdata = functional.pad(qdata, (0, more, 0, more_rows))
    # Scales of zero, and zero points with them: what pads weighs nothing.
    scales = functional.pad(scales, (0, 0, 0, more_rows, 0, 2 * more // INT4_GROUP))
    return qdata.contiguous(), scales.contiguous()


def _for_kernel(rows: torch.Tensor) -> torch.Tensor:
    """As torch's kernels for quantized weights on a CPU want them.

    They are vectorised for bf16 alone, with AVX2 too; for fp32 they are plain loops, 10 to 60 times
    as slow.
    """
    return rows.contiguous().to(torch.bfloat16)


def _wide(rows: torch.Tensor) -> torch.dtype:
    """In which numbers to multiply: fp32 where bf16 and fp16 are only emulated."""
    emulated = rows.device.type == "cpu" and not cpu().bf16
    return torch.float32 if emulated else rows.dtype


@cache
def multiplies_int8() -> bool:
    """Whether this CPU multiplies int8 matrices faster than floats."""
    return not _INT8_SETS.isdisjoint(cpu_flags())


def _aligned(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, copied if it lies where torch's kernels for a CPU would crash."""
    if tensor.is_meta or tensor.data_ptr() % ALIGNED == 0:
        return tensor
    return tensor.clone()


INT4_GROUP = 64
"""Weights that share a scale: 32 costs as much memory as it gains in perplexity."""
BLOCK = 64
"""bitsandbytes' default."""
_PLAIN = 2
"""Dimensions of int4 weights that are not in a card's tiles."""
_INNER_TILES, _TILE_ROWS, _TILE_COLUMNS = 8, 8, 1024

SCHEMES: dict[str, type[QuantizedLinear]] = {
    "int8": Int8Linear,
    "int8-dynamic": Int8DynamicLinear,
    "int4": Int4Linear,
    "gptq": Int4Linear,
    "awq": ScaledInt4Linear,
    "nf4": FourBitLinear,
    "fp4": Fp4Linear,
    "fp8": Float8Linear,
}
"""The layer of each method."""


def bitsandbytes() -> Any:
    """The library, whose import registers its kernels with torch.

    Raises:
        UnusableModel: it is not installed.
    """
    try:
        import bitsandbytes as library
        import bitsandbytes.functional
    except ImportError as exc:
        raise UnusableModel(
            "nf4 and fp4 need the package bitsandbytes, which cannot be imported here "
            f"({exc}); the nearest that works without it is 'int4'"
        ) from exc
    return library
