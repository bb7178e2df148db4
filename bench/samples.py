"""The statistics of a benchmark: interleaved rounds, medians, percentiles. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of the values lie, between ranks interpolated.

    >>> percentile([4, 1, 2, 3], 0.5), percentile(range(101), 0.95)
    (2.5, 95.0)

    Raises:
        ValueError: there are no values, or the share is no share.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"no percentile {share} of {len(values)} values")
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (ordered[above] - ordered[below]) * (rank - below))


def ratio(measured: Sequence[float], reference: Sequence[float]) -> float:
    """The median of the rounds' own ratios, so that a slow minute slows both sides alike.

    >>> ratio([10, 30, 20], [20, 40, 80])
    0.5

    Raises:
        ValueError: the rounds do not pair up.
    """
    return statistics.median(a / b for a, b in zip(measured, reference, strict=True))


def order(names: Sequence[str], round_number: int) -> list[str]:
    """The order of one round: rotated, so that no subject always runs first.

    >>> order(["a", "b", "c"], 1)
    ['b', 'c', 'a']
    """
    start = round_number % len(names) if names else 0
    return [*names[start:], *names[:start]]


def interleaved(subjects: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measures every subject once a round; the figures by subject, in the order of the rounds."""
    figures: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds):
        for name in order(list(subjects), number):
            figures[name].append(subjects[name]())
    return figures
