"""What a language model's key-value cache takes at its fullest, from its ``config.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stoker.models.manifest import Manifest
from stoker.nouns.settings import Dtype, Task

BATCH_TOKENS = 8192
"""Prompts run together up to so many tokens, their answers counted; a longer one runs alone."""
_WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}
_WIDTH = {Dtype.FP32: 4, Dtype.FP16: 2, Dtype.BF16: 2}


def cache_bytes(folder: Path, manifest: Manifest) -> int:
    """Of one worker of a prepared checkpoint; 0 where there is none, or its size is not said.

    An upper bound: of models that look back only so far, it counts all of the context.
    """
    if manifest.task is not Task.TEXT_GENERATION:
        return 0
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return 0
    tokens = max(BATCH_TOKENS, _number(config, "max_position_embeddings", "n_positions"))
    return tokens * token_bytes(config, manifest.dtype)


def token_bytes(config: Mapping[str, Any], dtype: Dtype) -> int:
    """Keys and values of one token in all layers; 0 when the configuration does not say.

    >>> token_bytes({"num_hidden_layers": 30, "num_attention_heads": 9, "hidden_size": 576,
    ...              "num_key_value_heads": 3}, Dtype.BF16)
    23040
    """
    config = config.get("text_config") or config
    layers = _number(config, "num_hidden_layers", "n_layer")
    heads = _number(config, "num_attention_heads", "n_head")
    wide = _number(config, "head_dim") or _number(config, "hidden_size", "n_embd") // max(1, heads)
    held = _WIDTHS.get(str(config.get("dtype") or config.get("torch_dtype")), 4)
    shared = _number(config, "num_key_value_heads") or heads
    return 2 * layers * shared * wide * _WIDTH.get(dtype, held)


def _number(config: Mapping[str, Any], *names: str) -> int:
    """The first of some fields that is there: models call the same by several names."""
    found = (config.get(name) for name in names)
    return next((one for one in found if isinstance(one, int)), 0)
