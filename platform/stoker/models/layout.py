"""How a sentence encoder turns token vectors into one vector, read from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.nouns.errors import UnusableModel

DEFAULT_MAX_TOKENS = 512
_PADDING = 1
_POOLINGS = ("mean", "cls", "max")
_SUPPORTED_MODULES = ("Transformer", "Pooling", "Normalize")
_AFTER_PADDING = frozenset({
    "camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke",
    "markuplm", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
})  # fmt: skip
"""Architectures that count positions from the one after their padding token's number on."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Attributes: ``pooling`` is mean, cls or max; ``max_tokens`` cuts longer texts."""

    pooling: str = "mean"
    max_tokens: int = DEFAULT_MAX_TOKENS


def read_layout(folder: Path) -> Layout:
    """The layout of a sentence-transformers folder; mean pooling for a plain transformers one.

    Raises:
        UnusableModel: it has a module or a pooling that cannot be carried out here.
    """
    modules = _json(folder / "modules.json") or []
    pooling = "mean"
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind not in _SUPPORTED_MODULES:
            raise UnusableModel(
                f"{folder}: the module {kind!r} is not supported; "
                f"supported are {', '.join(_SUPPORTED_MODULES)}"
            )
        if kind == "Pooling":
            pooling = _pooling(folder / str(module.get("path", "")) / "config.json")
    return Layout(pooling, _max_tokens(folder))


def context_of(config: Any) -> int | None:
    """`usable_positions`, by transformers' configuration of a model."""
    return usable_positions(
        str(config.model_type),
        getattr(config, "max_position_embeddings", None),
        getattr(config, "pad_token_id", None),
    )


def _pooling(path: Path) -> str:
    config = _json(path) or {}
    named = config.get("pooling_mode")
    chosen = [named] if named else _flagged(config)
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise UnusableModel(
            f"{path}: pooling must be one of {', '.join(_POOLINGS)}, was {chosen or 'none'}"
        )
    return str(chosen[0])


def _flagged(config: dict[str, Any]) -> list[str]:
    flags = [name for name, on in config.items() if name.startswith("pooling_mode_") and on is True]
    names = [name.removeprefix("pooling_mode_").removesuffix("_tokens") for name in flags]
    return [name.removesuffix("_token") for name in names]


def _max_tokens(folder: Path) -> int:
    declared = (_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length")
    config = _json(folder / "config.json") or {}
    positions = usable_positions(
        str(config.get("model_type", "")),
        config.get("max_position_embeddings"),
        config.get("pad_token_id"),
    )
    limits = [int(limit) for limit in (declared, positions) if limit]
    return min(limits, default=DEFAULT_MAX_TOKENS)


def usable_positions(model_type: str, positions: int | None, padding: int | None) -> int | None:
    """The most tokens that a table of positions has room for; None when there is no such table.

    One more would be an index error on a CPU, and end the process's use of a card.

    Args:
        model_type: transformers' name of the architecture.
        positions: ``max_position_embeddings``.
        padding: ``pad_token_id``; None is what these architectures have.

    >>> usable_positions("bert", 512, 0), usable_positions("roberta", 514, 1)
    (512, 512)
    """
    if positions is None or model_type not in _AFTER_PADDING:
        return positions
    return positions - (_PADDING if padding is None else padding) - 1


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_bytes())
    except ValueError as exc:
        raise UnusableModel(f"{path} is not JSON: {exc}") from exc
