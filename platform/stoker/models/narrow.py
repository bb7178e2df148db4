"""Weights that lie in bf16 and are computed with in fp32, for a CPU that computes no bf16.

Such a CPU emulates bf16: sixteen rows by a 384 x 1536 weight take 2.7 ms, 0.5 in fp32, and 0.7
where the weight is widened first. So bf16 is what is stored and mapped, half of fp32's bytes, and a
layer widens its own weight when it is called.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

_WHOLE = 1 << 21
"""Numbers that are widened at once; of a larger weight (a head over a vocabulary) a block of
`_BLOCK` after the other, which then are still in the core's cache when they are multiplied."""
_BLOCK = 1 << 18


class NarrowLinear(nn.Linear):
    """A linear layer whose weight has fewer bits than what it multiplies."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Like `torch.nn.Linear.forward`; one row is multiplied in the weight's own numbers.

        That reads half the bytes: 7 against 11 ms for a head of 49152 x 576.
        """
        rows, weight = x.reshape(-1, self.in_features), self.weight
        if len(rows) == 1:
            y = functional.linear(rows.to(weight.dtype), weight).to(x.dtype)
        elif weight.numel() <= _WHOLE:
            y = functional.linear(rows, weight.to(x.dtype))
        else:
            blocks = torch.split(weight, max(1, _BLOCK // self.in_features))
            y = torch.cat([functional.linear(rows, one.to(x.dtype)) for one in blocks], dim=-1)
        if self.bias is not None:
            y = y + self.bias.to(y.dtype)
        return y.view(*x.shape[:-1], self.out_features)


class NarrowEmbedding(nn.Embedding):
    """An embedding whose rows are widened when they are looked up."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Like `torch.nn.Embedding.forward`, in fp32."""
        return super().forward(ids).float()


_NARROW: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: NarrowLinear,
    nn.Embedding: NarrowEmbedding,
}


def narrow(model: nn.Module) -> None:
    """Brings the weights of a model in fp32 to bf16: those of linear layers and embeddings.

    One that another kind of module shares stays, and so do biases, norms and convolutions, which
    are small, or not computed with as often.
    """
    modules: list[Any] = list(model.modules())
    owners: dict[int, list[nn.Module]] = defaultdict(list)
    for module in modules:
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)].append(module)
    done: dict[int, nn.Parameter] = {}
    for module in modules:
        if type(module) not in _NARROW:
            continue
        weight = module.weight
        if any(type(owner) not in _NARROW for owner in owners[id(weight)]):
            continue
        lower = nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=False)
        module.weight = done.setdefault(id(weight), lower)
    widen_when_called(model)


def widen_when_called(model: nn.Module) -> None:
    """Makes layers whose weights are in bf16 answer in fp32, and the model say that it is."""
    modules: list[Any] = list(model.modules())
    for module in modules:
        kind = _NARROW.get(type(module))
        if kind and module.weight.dtype is torch.bfloat16:
            module.__class__ = kind
        elif isinstance(module, PreTrainedModel):
            module.__class__ = _in_fp32(type(module))


def _in_fp32(kind: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The same class, whose ``dtype`` is not that of the first weight it finds."""
    own = {"dtype": property(lambda _: torch.float32), "__module__": kind.__module__}
    made: type[PreTrainedModel] = type(kind.__name__, (kind,), own)
    return made
