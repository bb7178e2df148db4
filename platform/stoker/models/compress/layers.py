"""Taking layers out of a model: fewer of them, and a configuration that says so."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from torch import nn

from stoker.nouns.compression import Pruning
from stoker.nouns.errors import UnusableModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def chosen(pruning: Pruning, count: int) -> tuple[int, ...]:
    """Which of ``count`` layers stay; all of them, if none is to go.

    >>> chosen(Pruning(count=4), 6), chosen(Pruning(count=1), 6), chosen(Pruning(), 3)
    ((0, 2, 3, 5), (0,), (0, 1, 2))

    Raises:
        UnusableModel: it keeps as many as there are, or one that is not there.
    """
    if not pruning.shortens:
        return tuple(range(count))
    if pruning.count >= count or len(pruning.kept) >= count:
        raise UnusableModel(
            f"STOKER_PRUNE={pruning} takes no layer out: the model has {count}; keep fewer"
        )
    if pruning.kept and pruning.kept[-1] >= count:
        raise UnusableModel(
            f"STOKER_PRUNE={pruning} keeps layer {pruning.kept[-1]}: the model's {count} layers "
            f"are 0 to {count - 1}"
        )
    if pruning.kept:
        return pruning.kept
    # The first and the last are worth most: the one reads the embeddings, the other is what the
    # head and the pooling were trained on.
    spaces = max(1, pruning.count - 1)
    return tuple(round(index * (count - 1) / spaces) for index in range(pruning.count))


def shortened(module: PreTrainedModel, kept: tuple[int, ...]) -> PreTrainedModel:
    """The model with these of its layers, made anew from a configuration that has as many.

    Made anew, and not cut, because layers know their own number, by which they find their cache.

    Raises:
        UnusableModel: the architecture has no one stack of layers.
    """
    from transformers import initialization

    stack = name_of_layers(module)
    state = {
        name: tensor
        for old, tensor in module.state_dict().items()
        if (name := _renamed(old, stack, kept))
    }
    config = _configured(module.config, kept)
    with initialization.no_init_weights():
        short = type(module)(config)
    short.load_state_dict(state, assign=True)
    short.tie_weights()
    if module.can_generate():
        short.generation_config = module.generation_config
    made: PreTrainedModel = short.eval()
    return made


def count_layers(module: PreTrainedModel) -> int:
    """Of its one stack.

    Raises:
        UnusableModel: see `shortened`.
    """
    layers: Any = module.get_submodule(name_of_layers(module))
    return len(layers)


def name_of_layers(module: PreTrainedModel) -> str:
    """The name of the module that lists the layers.

    Raises:
        UnusableModel: the architecture has no one stack of layers, such as those with an encoder
            and a decoder, and those that use one layer several times.
    """
    config = module.config.get_text_config()
    count = getattr(config, "num_hidden_layers", 0)
    found = [
        name
        for name, one in module.named_modules()
        if isinstance(one, nn.ModuleList) and len(one) == count
    ]
    outer = [name for name in found if not any(name.startswith(f"{one}.") for one in found)]
    if len(outer) != 1 or getattr(config, "is_encoder_decoder", False):
        kind = getattr(module.config, "model_type", type(module).__name__)
        raise UnusableModel(
            f"STOKER_PRUNE: the architecture {kind!r} has no one stack of layers to take some out "
            "of; the nearest that works is 'magnitude:0.2'"
        )
    return str(outer[0])


def _renamed(name: str, stack: str, kept: tuple[int, ...]) -> str:
    """A tensor's name in the shorter model; empty if its layer is gone."""
    if not name.startswith(f"{stack}."):
        return name
    number, _, rest = name.removeprefix(f"{stack}.").partition(".")
    return f"{stack}.{kept.index(int(number))}.{rest}" if int(number) in kept else ""


def _configured(config: Any, kept: tuple[int, ...]) -> Any:
    """A copy that says how many layers there are, also where it lists something for each."""
    short = copy.deepcopy(config)
    text = short.get_text_config()
    count = text.num_hidden_layers
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == count and "layer" in name:
            setattr(text, name, [value[index] for index in kept])
    text.num_hidden_layers = len(kept)
    return short
