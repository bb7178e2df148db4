"""Which of several are worth a look: no other is at least as good in all, and better in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def front(points: Mapping[str, Sequence[float]]) -> frozenset[str]:
    """The names that no other dominates. Of each number, lower is better.

    >>> sorted(front({"a": (1, 5), "b": (2, 2), "c": (3, 3), "d": (2, 2)}))
    ['a', 'b', 'd']
    """
    return frozenset(
        name
        for name, own in points.items()
        if not any(dominates(other, own) for other in points.values())
    )


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether ``one`` is nowhere worse and somewhere better. Lower is better.

    >>> dominates((1, 2), (1, 3)), dominates((1, 2), (1, 2)), dominates((0, 9), (1, 2))
    (True, False, False)
    """
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
