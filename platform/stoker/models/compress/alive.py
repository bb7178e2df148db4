"""Whether a model that was made smaller still says anything: a floor, not a judgement."""

from __future__ import annotations

import math

from stoker.models.manifest import Fidelity
from stoker.nouns.errors import UnusableModel

_LEAST_COSINE = 0.1
_MOST_PERPLEXITY = 1e6


def check(found: Fidelity) -> None:
    """Refuses what is broken: no numbers, or answers that have nothing to do with the original's.

    Much lower than the floor of a quantization: a pruned model may be worse, and is for the gate.

    Raises:
        UnusableModel: naming the figure.
    """
    broken = (
        not math.isfinite(found.mean)
        or {
            "cosine": found.mean < _LEAST_COSINE,
            "perplexity": found.mean > _MOST_PERPLEXITY,
            "distance": False,  # no distribution is so far from another that it says nothing
        }[found.measure]
    )
    if broken:
        raise UnusableModel(
            f"what is left of this model has nothing to do with its original: {found.measure} "
            f"{found.mean}; take less out (STOKER_PRUNE), or teach it (STOKER_DISTILL)"
        )
