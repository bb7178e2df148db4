"""Whether a prepared checkpoint still says what its original says."""

from __future__ import annotations

from stoker.models.encoder import Vectors
from stoker.models.manifest import Fidelity
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import Quantization

LEAST_MEAN_COSINE = 0.99
"""Below it a recipe has broken the model rather than rounded it: int8 per channel keeps .993 of
all-MiniLM-L6-v2, torch's dynamic int8 .936, 3 bits .61."""

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
    mean, least = float(cosines.mean()), float(cosines.min())
    return Fidelity(texts=len(cosines), mean=round(mean, 5), least=round(least, 5))


def check(fidelity: Fidelity, quantization: Quantization) -> None:
    """Refuses a checkpoint that does not answer like its original.

    Raises:
        UnusableModel: naming the figure, its bound, and what to take instead.
    """
    if not fidelity.mean >= LEAST_MEAN_COSINE:  # so that NaN fails too
        instead = "bf16" if quantization is Quantization.INT8 else "none"
        raise UnusableModel(
            f"{quantization} changes this model too much: mean cosine to fp32 must be at least "
            f"{LEAST_MEAN_COSINE}, was {fidelity.mean}; the nearest that may work is {instead!r}"
        )
