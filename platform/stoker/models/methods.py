"""Which library carries a quantization out, by device: the table, and its refusals.

The measurements behind it are in docs/quantization.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from stoker.models.device import Target
from stoker.models.manifest import Backend
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import Dtype, Quantization


@dataclass(frozen=True, slots=True)
class Method:
    """One way of keeping weights.

    Attributes:
        backend: the library that makes them so.
        name: what it does: the name of a float type, or of a scheme of
            `stoker.models.quantize.linears`.
        dtypes: float types that its activations may have, best first; empty: any.
        dtype: the one that it always has.
        packs: whether weights lie in the order of one CPU's kernels.
        calibrates: whether it looks at texts.
    """

    backend: Backend
    name: str
    dtypes: tuple[Dtype, ...] = ()
    dtype: Dtype | None = None
    packs: bool = False
    calibrates: bool = False


_HALVES = (Dtype.BF16, Dtype.FP16, Dtype.FP32)
_ON_CPU = (Dtype.BF16, Dtype.FP32)
_ONNX = Method("onnxruntime", "int8", (Dtype.FP32,), Dtype.FP32, packs=True)
_CASTS = {
    Quantization.NONE: Method("torch", "none"),
    Quantization.FP32: Method("torch", "fp32"),
    Quantization.BF16: Method("torch", "bf16"),
    Quantization.FP16: Method("torch", "fp16"),
}
_CPU = _CASTS | {
    # Correct, and three to ten times slower than bf16: no CPU here multiplies fp16.
    Quantization.FP16: Method("torch", "bf16", dtype=Dtype.BF16),
    Quantization.INT8: Method("torchao", "int8", _ON_CPU),
    Quantization.INT8_DYNAMIC: Method("torchao", "int8-dynamic", _ON_CPU),
    Quantization.INT4: Method("torchao", "int4", _ON_CPU, packs=True),
    Quantization.NF4: Method("bitsandbytes", "nf4", _ON_CPU, packs=True),
    Quantization.FP4: Method("bitsandbytes", "fp4", _ON_CPU, packs=True),
    Quantization.FP8: Method("torchao", "fp8", _ON_CPU),
    Quantization.GPTQ: Method("neural-compressor", "gptq", _ON_CPU, packs=True, calibrates=True),
    Quantization.AWQ: Method("torchao", "awq", _ON_CPU, packs=True, calibrates=True),
}
_CPU_ENCODER = _CPU | {
    # Whose int8 scales activations as they come, so that it is what int8-dynamic asks for too.
    Quantization.INT8: _ONNX,
    Quantization.INT8_DYNAMIC: _ONNX,
}
_CUDA = _CASTS | {
    Quantization.INT8: Method("torchao", "int8", _HALVES),
    Quantization.INT8_DYNAMIC: Method("torchao", "int8-dynamic", _HALVES),
    Quantization.INT4: Method("torchao", "int4", (Dtype.BF16,)),
    Quantization.NF4: Method("bitsandbytes", "nf4", _HALVES),
    Quantization.FP4: Method("bitsandbytes", "fp4", _HALVES),
    Quantization.FP8: Method("torchao", "fp8", _HALVES),
    Quantization.GPTQ: Method("neural-compressor", "gptq", (Dtype.BF16,), calibrates=True),
    Quantization.AWQ: Method("torchao", "awq", (Dtype.BF16,), calibrates=True),
}
_LEAST_CAPABILITY = {
    Quantization.BF16: (8, 0),
    Quantization.INT8_DYNAMIC: (7, 5),
    Quantization.INT4: (8, 0),
    Quantization.FP8: (8, 0),
    Quantization.GPTQ: (8, 0),
    Quantization.AWQ: (8, 0),
}
_OLDER_CARD = {
    Quantization.BF16: Quantization.FP16,
    Quantization.INT8_DYNAMIC: Quantization.INT8,
    Quantization.INT4: Quantization.NF4,
    Quantization.FP8: Quantization.INT8,
    Quantization.GPTQ: Quantization.NF4,
    Quantization.AWQ: Quantization.NF4,
}
_CPU_NOTICES = {
    Quantization.FP16: "fp16 is slow on a CPU: the weights are kept in bf16, which has the same "
    "size",
    Quantization.FP8: "fp8 makes the model smaller and slower on a CPU; int8 is as small and "
    "faster",
}


def emulated(dtype: Dtype, target: Target, *, encoder: bool) -> tuple[str, ...]:
    """What the user should know of computing in a float type on a device; nothing, mostly.

    >>> emulated(Dtype.BF16, Target("cpu", bf16=False), encoder=True)[0].partition(":")[0]
    'this CPU has no bf16 instructions'
    >>> emulated(Dtype.BF16, Target("cpu"), encoder=True)
    ()
    """
    if target.kind != "cpu" or target.bf16 or dtype not in (Dtype.BF16, Dtype.FP16):
        return ()
    faster = "int8, or fp32" if encoder else "fp32"
    return (
        f"this CPU has no {dtype} instructions: it computes {dtype} by emulation, 3 to 7 times "
        f"slower than fp32; what is faster here is {faster}",
    )


def method_for(
    quantization: Quantization, target: Target, *, encoder: bool
) -> tuple[Method, tuple[str, ...]]:
    """The method for a device, and what the user should know about it.

    Args:
        quantization: what is declared.
        target: the device.
        encoder: whether the model only turns texts into vectors.

    Raises:
        UnusableModel: there is none, with the nearest that works.
    """
    if target.kind == "cpu":
        table = _CPU_ENCODER if encoder else _CPU
        notice = _CPU_NOTICES.get(quantization)
        return table[quantization], (notice,) if notice else ()
    least = _LEAST_CAPABILITY.get(quantization, (0, 0))
    if target.capability < least:
        raise UnusableModel(
            f"STOKER_QUANTIZATION={quantization} needs a card of compute capability "
            f"{least[0]}.{least[1]} or more, was {target}; the nearest that works is "
            f"{str(_OLDER_CARD[quantization])!r}"
        )
    return _CUDA[quantization], ()
