"""Paired bootstrap: how sure a difference is, over the same items drawn again and again.

Paired, because reference and candidate err on the same items: unpaired intervals of two values are
ten times as wide as that of their difference (docs/quality.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stoker.quality.result import Interval

Floats = NDArray[np.float64]
Draws = NDArray[np.int64]
_CELLS = 4_000_000
"""Items drawn at a time, over all resamples: 32 MB an array."""


class Sample(Protocol):
    """One model's answers to a set, as a metric needs them."""

    @property
    def items(self) -> int:
        """How many there are."""
        ...

    def values(self, draws: Draws) -> Floats:
        """The metric of each row of drawn items: [resamples, items] to [resamples]."""
        ...


class Paired(NamedTuple):
    """Both values, and the difference (candidate minus reference), each with its interval."""

    reference: Interval
    candidate: Interval
    difference: Interval


def paired(
    reference: Sample,
    candidate: Sample,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Paired:
    """Percentile intervals by resampling items; the same seed gives the same.

    A resample in which the metric is not defined (all drawn items are alike) is left out.

    Raises:
        ValueError: the two have not the same items.
    """
    count = reference.items
    if candidate.items != count:
        raise ValueError(f"the reference has {count} items, the candidate {candidate.items}")
    whole = np.arange(count, dtype=np.int64)[None, :]
    one, other = float(reference.values(whole)[0]), float(candidate.values(whole)[0])
    ones, others = [], []
    for draws in _drawn(count, resamples, seed):
        ones.append(reference.values(draws))
        others.append(candidate.values(draws))
    a, b = np.concatenate(ones), np.concatenate(others)
    return Paired(
        _interval(one, a, confidence),
        _interval(other, b, confidence),
        _interval(other - one, b - a, confidence),
    )


def _drawn(count: int, resamples: int, seed: int) -> Iterator[Draws]:
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS // max(1, count))
    for begin in range(0, resamples, at_once):
        rows = min(at_once, resamples - begin)
        yield generator.integers(0, count, (rows, count))


def _interval(value: float, values: Any, confidence: float) -> Interval:
    kept = values[np.isfinite(values)]
    if not len(kept):
        return Interval(value=value, low=value, high=value, confidence=confidence)
    tail = (1 - confidence) / 2
    low, high = np.quantile(kept, [tail, 1 - tail])
    return Interval(value=value, low=float(low), high=float(high), confidence=confidence)
