"""Whether a prepared checkpoint still says what its original says.

A floor that catches breakage, not a gate on quality: what a quantization may cost is its user's to
say. It is measured on the checkpoint read back from disk, because saving can corrupt
(bitsandbytes after a forward) without any error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np

from stoker.models.encoder import Vectors
from stoker.models.manifest import Fidelity
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import Quantization

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Bounds:
    """What breaks no model: least mean cosine, largest perplexity ratio, largest distance."""

    cosine: float
    perplexity: float
    distance: float


_EXACT = Bounds(0.99, 1.1, 0.1)
_EIGHT = Bounds(0.98, 1.3, 0.2)
_FOUR = Bounds(0.85, 2.5, 0.45)
_BOUNDS = {
    Quantization.INT8: Bounds(0.99, 1.3, 0.2),
    Quantization.INT8_DYNAMIC: _EIGHT,
    Quantization.FP8: _EIGHT,
    Quantization.INT4: _FOUR,
    Quantization.NF4: _FOUR,
    Quantization.FP4: _FOUR,
    Quantization.GPTQ: _FOUR,
    Quantization.AWQ: _FOUR,
}
"""int8 per channel keeps .993 of all-MiniLM-L6-v2, nf4 and int4 .976, fp4 .952; corrupted nf4 .30.
Of SmolLM2 they multiply the perplexity by 1.01, 1.25 and 1.5; corrupted by millions."""
_NEAREST = {
    Quantization.INT8: "bf16",
    Quantization.INT8_DYNAMIC: "int8",
    Quantization.FP8: "int8",
    Quantization.INT4: "int8",
    Quantization.NF4: "int8",
    Quantization.FP4: "nf4",
    Quantization.GPTQ: "int8",
    Quantization.AWQ: "gptq",
}

TEXTS = (
    "The committee will meet again on Thursday.",
    "A man is playing a guitar on a small stage.",
    "Shares fell by three per cent after the company warned that sales were slowing.",
    "How do I reset my password?",
    "She scored twice in the second half and the away side never recovered.",
    "The new telescope has taken its first pictures of a distant galaxy.",
    "Boil the pasta for nine minutes, drain it, and stir in the sauce.",
    "The minister denied that the report had been kept from parliament.",
    "It rained.",
    "The film, which took seven years to make, opens in cinemas this weekend; critics who saw it "
    "at the festival called it slow, beautiful and much too long, and the director agreed with "
    "two of the three.",
    "Please restart the server before you apply the update.",
    "An old dog sleeps in the shade of a tree.",
)


def compare(original: Vectors, prepared: Vectors) -> Fidelity:
    """The cosines of vectors [n, dimension] of length 1, row by row."""
    cosines = (original * prepared).sum(axis=1)
    return _fidelity("cosine", cosines.tolist(), worst=min)


def compare_losses(original: Sequence[float], prepared: Sequence[float]) -> Fidelity:
    """Perplexities as ratios, from the mean loss of each text."""
    ratios = [exp(min(new - old, 50.0)) for old, new in zip(original, prepared, strict=True)]
    whole = exp(min(float(np.mean(prepared)) - float(np.mean(original)), 50.0))
    found = _fidelity("perplexity", ratios, worst=max)
    return found.model_copy(update={"mean": round(whole, 5)})


def compare_outputs(original: Sequence[torch.Tensor], prepared: Sequence[torch.Tensor]) -> Fidelity:
    """Total variation between the distributions that logits [..., classes] mean."""
    pairs = zip(original, prepared, strict=True)
    distances = [
        float((a.float().softmax(-1) - b.float().softmax(-1)).abs().sum(-1).mean() / 2)
        for a, b in pairs
    ]
    return _fidelity("distance", distances, worst=max)


def losses(module: PreTrainedModel, rows: Sequence[torch.Tensor]) -> list[float]:
    """The mean loss of each text [1, tokens], as a causal language model reads it."""
    import torch

    with torch.inference_mode():
        return [float(module(input_ids=row, labels=row).loss) for row in rows]


def outputs(module: PreTrainedModel, inputs: Sequence[dict[str, Any]]) -> list[torch.Tensor]:
    """The logits for each of some inputs."""
    import torch

    with torch.inference_mode():
        return [module(**one).logits for one in inputs]


def check(fidelity: Fidelity, quantization: Quantization) -> None:
    """Refuses a checkpoint that does not answer like its original.

    Raises:
        UnusableModel: naming the figure, its bound, and what to take instead.
    """
    bounds = _BOUNDS.get(quantization, _EXACT)
    bound = getattr(bounds, fidelity.measure)
    higher = fidelity.measure == "cosine"
    good = fidelity.mean >= bound if higher else fidelity.mean <= bound
    if not good:  # so that NaN fails too
        raise UnusableModel(
            f"{quantization} changes this model too much: {_NAMES[fidelity.measure]} must be at "
            f"{'least' if higher else 'most'} {bound}, was {fidelity.mean}; the nearest that may "
            f"work is {_NEAREST.get(quantization, 'none')!r}"
        )


def in_words(fidelity: Fidelity) -> str:
    """For the deploy log.

    >>> in_words(Fidelity(texts=2, mean=0.994, worst=0.98))
    'mean cosine to the fp32 original 0.994, least 0.98'
    """
    last = "least" if fidelity.measure == "cosine" else "most"
    return f"{_NAMES[fidelity.measure]} {fidelity.mean}, {last} {fidelity.worst}"


_NAMES = {
    "cosine": "mean cosine to the fp32 original",
    "perplexity": "perplexity over the fp32 original's",
    "distance": "mean distance to the fp32 original's outputs",
}


def _fidelity(measure: Any, values: Sequence[float], *, worst: Any) -> Fidelity:
    mean = float(np.mean(values))
    extreme = float("nan") if np.isnan(values).any() else float(worst(values))
    return Fidelity(
        measure=measure, texts=len(values), mean=round(mean, 5), worst=round(extreme, 5)
    )
