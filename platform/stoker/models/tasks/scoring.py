"""How likely a language model finds a text: what perplexity is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stoker.models.placement import device_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROWS = 128
"""Positions whose probabilities over the whole vocabulary are held at a time: 25 MB of fp32 for
49,152 tokens."""


def score(module: PreTrainedModel, ids: Sequence[int]) -> dict[str, Any]:
    """The text's log-probability, given its first token.

    Alone, so that it does not depend on what is scored beside it.

    Returns:
        ``log_probability``: the sum over all tokens but the first, natural logarithm; ``tokens``:
        how many these are, 0 for a text of one token.
    """
    import torch

    total = 0.0
    with torch.inference_mode():
        tokens = torch.tensor([list(ids)], device=device_of(module))
        logits = module(input_ids=tokens).logits[0, :-1]
        following = tokens[0, 1:]
        for begin in range(0, len(following), _ROWS):
            rows = torch.log_softmax(logits[begin : begin + _ROWS].float(), dim=-1)
            own = rows.gather(1, following[begin : begin + _ROWS, None])
            total += float(own.sum(dtype=torch.float64))
    return {"log_probability": total, "tokens": len(ids) - 1}
