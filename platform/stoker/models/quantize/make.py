"""Making the numbers: torchao and bitsandbytes, one linear layer at a time, once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from stoker.models.manifest import Quantized
from stoker.models.quantize.linears import (
    BLOCK,
    INT4_GROUP,
    SCHEMES,
    QuantizedLinear,
    bitsandbytes,
    packed_for_cpu,
    two_a_byte,
)
from stoker.models.quantize.plan import Plan
from stoker.nouns.errors import UnusableModel

Tensors = dict[str, torch.Tensor]
_PROGRESS_EVERY = 0.25


def replace(
    model: nn.Module, plan: Plan, method: str, *, device: str, progress: Callable[[str], None]
) -> dict[str, Quantized]:
    """Replaces the planned modules in place.

    Returns:
        What is needed to build each again.

    Raises:
        UnusableModel: the library is not there, or cannot quantize a layer.
    """
    made: dict[str, Quantized] = {}
    told = 0.0
    for index, name in enumerate(plan.replace, start=1):
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)  # noqa: S101 - `plan` names no other
        try:
            tensors, packed = _make(linear, method, device)
        except (RuntimeError, ValueError, AssertionError) as exc:
            raise UnusableModel(f"{method} of {name} failed: {exc}") from exc
        set_module(model, name, SCHEMES[method](linear, tensors, packed=packed))
        made[name] = Quantized(scheme=method, packed=packed)
        if index / len(plan.replace) >= told + _PROGRESS_EVERY:
            told = index / len(plan.replace)
            progress(f"quantized {index} of {len(plan.replace)} modules")
    return made


def set_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Puts a module in another's place."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def rebuilt(linear: nn.Linear, how: Quantized, tensors: Tensors) -> QuantizedLinear:
    """The layer again, over tensors that were read."""
    return SCHEMES[how.scheme](linear, tensors, packed=how.packed)


def _make(linear: nn.Linear, method: str, device: str) -> tuple[Tensors, bool]:
    if method in ("nf4", "fp4"):
        return _four_bit(linear, method, device)
    if method == "int4":
        return rounded(linear, device)
    weight = _by_torchao(linear, method)
    # Weight-only scales are used in the activations' type; kept so, no forward converts them.
    narrow = torch.float32 if method == "int8-dynamic" else linear.weight.dtype
    return {"qdata": weight.qdata, "scale": weight.scale.flatten().to(narrow)}, False


def int4(
    levels: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, *, device: str
) -> tuple[Tensors, bool]:
    """Tensors of `Int4Linear`, for a device that need not be here.

    Args:
        levels: whole numbers 0…15 [rows, columns].
        scale: [rows, groups].
        zero: [rows, groups], in the weight's own unit: a weight is ``(level - 8) * scale + zero``.
        device: ``cpu`` or ``cuda``.

    Returns:
        The tensors, and whether they lie in the order of this CPU's kernel.
    """
    qdata = packed_for_cpu(levels) if device == "cpu" else two_a_byte(levels.to(torch.int32))
    both = torch.stack((scale, zero), dim=-1).transpose(0, 1).contiguous()
    if device == "cpu":
        both = both.to(torch.bfloat16)  # what the kernel reads, whatever the activations are
    return {"qdata": qdata, "scale_and_zero": both}, device == "cpu"


def rounded(linear: nn.Linear, device: str) -> tuple[Tensors, bool]:
    """Int4 by rounding each weight to the nearest level of its group, as torchao chooses them."""
    weight = linear.weight.detach()
    levels, scale, zero = _rounding(weight)
    rows = weight.shape[0]
    return int4(levels, scale.reshape(rows, -1), zero.reshape(rows, -1), device=device)


def as_rounded(weight: torch.Tensor) -> torch.Tensor:
    """The weight that `rounded` leaves, in the numbers it was in before."""
    from torchao.quantization import quant_primitives as torchaos

    levels, scale, zero = _rounding(weight)
    again: torch.Tensor = torchaos._dequantize_affine_tinygemm(
        levels, [1, INT4_GROUP], scale, zero, torch.int32, 0, 15, output_dtype=weight.dtype
    )
    return again


def _rounding(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torchao()
    from torchao.quantization import quant_primitives as torchaos

    block = [1, INT4_GROUP]
    scale, zero = torchaos._choose_qparams_affine_tinygemm(
        weight, torchaos.MappingType.ASYMMETRIC, block, torch.int32, 0, 15, 1e-6, None, weight.dtype
    )
    levels = torchaos._quantize_affine_tinygemm(weight, block, scale, zero, torch.int32, 0, 15)
    return levels, scale, zero


def _by_torchao(linear: nn.Linear, method: str) -> Any:
    """The layer's weight as torchao's tensor, of which only the plain tensors are taken."""
    quantization = torchao()
    copy = nn.Linear(linear.in_features, linear.out_features, bias=False, device="meta")
    copy.weight = nn.Parameter(linear.weight.detach(), requires_grad=False)
    holder = nn.Sequential(copy)
    names = {
        "int8": "Int8WeightOnlyConfig",
        "int8-dynamic": "Int8DynamicActivationInt8WeightConfig",
        "fp8": "Float8WeightOnlyConfig",
    }
    quantization.quantize_(holder, getattr(quantization, names[method])())
    return holder[0].weight


def _four_bit(linear: nn.Linear, method: str, device: str) -> tuple[Tensors, bool]:
    functional = bitsandbytes().functional
    qdata, state = functional.quantize_4bit(
        linear.weight.detach().contiguous(),
        blocksize=BLOCK,
        compress_statistics=False,
        quant_type=method,
    )
    packed = (
        device == "cpu"
        and linear.weight.dtype is torch.bfloat16
        and linear.in_features % BLOCK == 0
        and linear.out_features % 32 == 0
        and functional.has_avx512bf16()
    )
    if packed:
        # What its layer does at its first forward, in every worker's own memory. Here it is done
        # once, and all workers map it.
        qdata, state = functional._convert_weight_packed_for_cpu(qdata, state)
    return {"qdata": qdata, "absmax": state.absmax}, packed


def torchao() -> Any:
    """Torchao's quantization.

    Raises:
        UnusableModel: it is not installed.
    """
    logging.getLogger("torchao").setLevel(logging.ERROR)
    with contextlib.suppress(AttributeError):
        logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    try:
        import torchao.quantization as library
    except ImportError as exc:
        raise UnusableModel(
            f"this quantization needs the package torchao, which cannot be imported here ({exc}); "
            "the nearest that works without it is 'bf16'"
        ) from exc
    return library
