"""GPTQ and AWQ: int4 by what the layers see, one block of the model after another.

A block is calibrated on what the blocks before it give once they are quantized, so that it can make
up for their errors. The libraries make the numbers of one layer; here they are shown its inputs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import nn

from stoker.models.manifest import Quantized
from stoker.models.quantize.linears import INT4_GROUP, SCHEMES
from stoker.models.quantize.make import Tensors, as_rounded, int4, rounded, set_module, torchao
from stoker.models.quantize.plan import Plan
from stoker.nouns.errors import UnusableModel
from stoker.nouns.extras import install

Row = dict[str, torch.Tensor]
_ROUNDS = 12
"""Each costs a run of the model over all texts, up to its last block; so blocks share them."""
_SEEN_BYTES = 2 << 30
"""What a round may keep of the inputs of its layers; a layer that sees more has one of its own."""


class Watched(Protocol):
    """One layer while it is calibrated."""

    def see(self, inputs: torch.Tensor) -> None:
        """Takes in what the layer is given: [tokens, in_features]."""
        ...

    def made(self, device: str) -> tuple[Tensors, bool]:
        """The quantized layer's tensors, and whether they are packed for this CPU."""
        ...


class Gptq:
    """By Neural Compressor: what rounding does to a column is made up for in those after it."""

    def __init__(self, linear: nn.Linear) -> None:
        self._weight = linear.weight.detach().to(torch.float32, copy=True)
        self._solver = _gptq()(linear, self._weight)
        self._solver.quantizer.configure({
            "bits": 4, "sym": False, "dtype": "int", "perchannel": True, "mse": False,
            "use_double_quant": False, "double_quant_sym": False,
        })  # fmt: skip
        self._dtype = linear.weight.dtype

    @staticmethod
    def held(linear: nn.Linear, _tokens: int) -> int:
        """Bytes that watching a layer takes."""
        return 4 * linear.in_features * (linear.in_features + 2 * linear.out_features)

    def see(self, inputs: torch.Tensor) -> None:
        """See `Watched`."""
        self._solver.add_batch(inputs, None)

    def made(self, device: str) -> tuple[Tensors, bool]:
        """See `Watched`."""
        # Blocks no longer than a group: within one, scales would be of columns not yet made up for.
        scale, _, zero, weight = self._solver.fasterquant(
            self._weight, blocksize=INT4_GROUP, groupsize=INT4_GROUP
        )
        wide = [one.repeat_interleave(INT4_GROUP, dim=1) for one in (scale, zero)]
        levels = torch.round(weight / wide[0] + wide[1]).clamp_(0, 15)
        middle = (8 - zero) * scale
        return int4(levels, scale.to(self._dtype), middle.to(self._dtype), device=device)


class Awq:
    """By torchao: columns that large activations meet are scaled up before they are rounded."""

    def __init__(self, linear: nn.Linear) -> None:
        torchao()
        from torchao.prototype.awq.core import AWQObserver

        self._linear = linear
        self._observer = AWQObserver(linear.weight.detach(), None, _rounding_config()())

    @staticmethod
    def held(linear: nn.Linear, tokens: int) -> int:
        """Bytes that watching a layer takes: it keeps its inputs."""
        return tokens * linear.in_features * linear.weight.element_size()

    def see(self, inputs: torch.Tensor) -> None:
        """See `Watched`."""
        self._observer(inputs, inputs)

    def made(self, device: str) -> tuple[Tensors, bool]:
        """See `Watched`."""
        scale = self._observer.calculate_qparams()
        linear = self._linear
        copy = nn.Linear(linear.in_features, linear.out_features, bias=False, device="meta")
        copy.weight = nn.Parameter(linear.weight.detach() * scale, requires_grad=False)
        tensors, packed = rounded(copy, device)
        return tensors | {"pre_scale": 1.0 / scale}, packed


@cache
def _rounding_config() -> Any:
    """For torchao's search over scales: each is tried by the plain product of the rounded weight.

    Its own config tries them by the kernel for int4, which for many rows is slower than a plain
    product, and 60 times slower for fp32 activations.
    """
    from torchao.core.config import AOBaseConfig
    from torchao.quantization.transform_module import register_quantize_module_handler

    def as_it_will_be(holder: Any, _config: object) -> Any:
        holder.weight = nn.Parameter(as_rounded(holder.weight.detach()), requires_grad=False)
        return holder

    config = type("Rounding", (AOBaseConfig,), {})
    register_quantize_module_handler(config)(as_it_will_be)
    return config


_METHODS: dict[str, type[Gptq | Awq]] = {"gptq": Gptq, "awq": Awq}
TOKENS = {"gptq": 8192, "awq": 2048}
"""That a method is shown. More takes time in proportion (awq runs them twenty times) and gains less
than another draw of texts would."""


def replace(
    model: nn.Module, plan: Plan, method: str, rows: Sequence[Row], *, device: str,
    progress: Callable[[str], None],
) -> dict[str, Quantized]:  # fmt: skip
    """Replaces the planned modules in place.

    Args:
        model: with its head.
        plan: which.
        method: ``gptq`` or ``awq``.
        rows: inputs of the model, one text each.
        device: that it is made for.
        progress: told of every block.

    Returns:
        What is needed to build each again.

    Raises:
        UnusableModel: the library is not there, or a layer cannot be quantized by these texts.
    """
    kind, tokens = _METHODS[method], sum(row["input_ids"].numel() for row in rows)
    made: dict[str, Quantized] = {}
    sizes = {name: kind.held(_linear(model, name), tokens) for name in plan.replace}
    for names in in_rounds(_in_order(model, plan.replace, rows[0]), sizes):
        watched: dict[str, Watched] = {name: kind(_linear(model, name)) for name in names}
        _show(model, watched, rows)
        for name in names:
            try:
                tensors, packed = watched.pop(name).made(device)
            except (RuntimeError, ValueError, AssertionError) as exc:
                raise UnusableModel(
                    f"{method} of {name} failed: {exc}; more texts in STOKER_CALIBRATION may help, "
                    "and what needs none is 'int4'"
                ) from exc
            linear = SCHEMES[method](_linear(model, name), tensors, packed=packed)
            set_module(model, name, linear)
            made[name] = Quantized(scheme=method, packed=packed)
        progress(f"{method}: {len(made)} of {len(plan.replace)} modules, to {names[-1]}")
    return made


def in_rounds(
    names: Sequence[str], sizes: dict[str, int], *, most: int = _ROUNDS, room: int = _SEEN_BYTES
) -> Iterator[list[str]]:
    """Layers that are calibrated together: whole blocks, a few at a time, as memory allows.

    >>> names = ["layer.0.a", "layer.0.b", "layer.1.a", "layer.1.b", "layer.2.a", "layer.2.b"]
    >>> [len(one) for one in in_rounds(names, dict.fromkeys(names, 1), most=3, room=10)]
    [2, 2, 2]
    >>> [len(one) for one in in_rounds(names, dict.fromkeys(names, 1), most=2, room=10)]
    [4, 2]
    >>> [len(one) for one in in_rounds(names, dict.fromkeys(names, 1), most=2, room=3)]
    [3, 1, 2]
    """
    blocks = [list(group) for _, group in groupby(names, key=_block)]
    together = -(-len(blocks) // most)
    for first in range(0, len(blocks), together):
        part: list[str] = []
        for name in (name for block in blocks[first : first + together] for name in block):
            if part and sum(sizes[one] for one in [*part, name]) > room:
                yield part
                part = []
            part.append(name)
        yield part


def _block(name: str) -> str:
    """The part of a name up to its first number: ``encoder.layer.0``."""
    parts = name.split(".")
    count = next((index for index, part in enumerate(parts) if part.isdigit()), len(parts) - 1)
    return ".".join(parts[: count + 1])


class _Seen(Exception):
    """All layers of a round have their inputs; the rest of the model need not run."""


def _in_order(model: nn.Module, names: Sequence[str], row: Row) -> list[str]:
    """The layers as they compute; those that a text does not reach come last."""
    order: list[str] = []
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda *_, name=name: order.append(name)
        )
        for name in names
    ]
    try:
        with torch.inference_mode():
            model(**row)
    finally:
        for hook in hooks:
            hook.remove()
    return list(dict.fromkeys([*order, *names]))


def _show(model: nn.Module, watched: dict[str, Watched], rows: Sequence[Row]) -> None:
    """Runs the texts through the model as far as the watched layers go.

    Raises:
        UnusableModel: a layer is not reached by any.
    """
    missing: set[str] = set()
    reached: set[str] = set()

    def hook(name: str) -> Callable[..., None]:
        def seen(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            flat = inputs[0].detach().flatten(0, -2)
            watched[name].see(flat)
            reached.add(name)
            missing.discard(name)
            if not missing:
                raise _Seen

        return seen

    hooks = [model.get_submodule(name).register_forward_pre_hook(hook(name)) for name in watched]
    try:
        # Not inference mode, whose tensors could not be written to afterwards.
        with torch.no_grad():
            for row in rows:
                missing.update(watched)
                _run(model, row)
    finally:
        for one in hooks:
            one.remove()
    if left := sorted(watched.keys() - reached):
        raise UnusableModel(
            f"no text of STOKER_CALIBRATION reaches {', '.join(left[:4])}: name them in "
            "STOKER_QUANTIZATION_SKIP, or take 'int4'"
        )


def _run(model: nn.Module, row: Row) -> None:
    try:
        model(**row)
    except _Seen:
        return


def _linear(model: nn.Module, name: str) -> nn.Linear:
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear)  # noqa: S101 - `plan` names no other
    return linear


def _gptq() -> Any:
    """The library's solver for one layer.

    Raises:
        UnusableModel: it is not installed.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it tells on every import that it runs on a CPU
    try:
        from neural_compressor.torch.algorithms.weight_only.gptq import GPTQ
    except ImportError as exc:
        raise UnusableModel(
            "gptq needs the package neural-compressor, which cannot be imported here "
            f"({exc}): {install('quant')}; the nearest that works without it is 'awq'"
        ) from exc
    finally:
        logging.disable(before)
    logging.getLogger("neural_compressor").setLevel(logging.ERROR)
    return GPTQ
