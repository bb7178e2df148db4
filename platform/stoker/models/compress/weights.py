"""Making weights zero: by magnitude, or two of every four.

torch's own `prune` holds a mask over each matrix, so that what is taught afterwards keeps its
zeros; `settled` makes plain weights of them.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.utils import prune as untyped

from stoker.models.quantize.plan import is_head
from stoker.nouns.compression import Pruning
from stoker.nouns.errors import UnusableModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

prune: Any = untyped
_FOUR = 4
_UNUSED = "pooler."
"""Of a bare encoder nobody asks it; of a model with a head its name begins otherwise."""


def zeroed(module: PreTrainedModel, pruning: Pruning) -> list[str]:
    """Puts a mask over every matrix that is pruned, and names them.

    Raises:
        UnusableModel: none is, or the library that does it is not installed.
    """
    names = _linears(module, pruning)
    before = _zeros(module, names)
    if pruning.two_of_four:
        _two_of_four(module, names)
    else:
        for name in names:
            prune.l1_unstructured(module.get_submodule(name), "weight", pruning.amount)
    if _zeros(module, names) == before:
        raise UnusableModel(
            f"STOKER_PRUNE={pruning} made no weight of this model zero: it has {len(names)} linear "
            "layers that it could prune; take a larger share"
        )
    return names


def settled(module: PreTrainedModel, names: list[str]) -> tuple[int, int]:
    """Makes plain weights of the masked ones; how many there are, and how many are zero."""
    for name in names:
        prune.remove(module.get_submodule(name), "weight")
    weights = sum(_weight(module, name).numel() for name in names)
    return weights, _zeros(module, names)


def _linears(module: PreTrainedModel, pruning: Pruning) -> list[str]:
    """Linear layers of the base model: heads are small, or tied to the embedding."""
    names = []
    for name, one in module.named_modules():
        if type(one) is not nn.Linear or is_head(module, name) or name.startswith(_UNUSED):
            continue
        if pruning.two_of_four and one.in_features % _FOUR:
            continue
        names.append(name)
    return names


def _two_of_four(module: PreTrainedModel, names: list[str]) -> None:
    if importlib.util.find_spec("torchao") is None:
        raise UnusableModel("STOKER_PRUNE=2:4 needs torchao; the nearest is 'magnitude:0.5'")
    from torchao.sparsity import apply_fake_sparsity

    wanted = set(names)
    apply_fake_sparsity(module, filter_fn=lambda _module, name: name in wanted)
    for name in names:
        one = module.get_submodule(name)
        # The library leaves the zeros and forgets its masks.
        prune.custom_from_mask(one, "weight", _weight(module, name) != 0)


def _weight(module: PreTrainedModel, name: str) -> Any:
    return module.get_submodule(name).weight


def _zeros(module: PreTrainedModel, names: list[str]) -> int:
    return sum(int((_weight(module, name) == 0).sum()) for name in names)
