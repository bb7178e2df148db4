"""Latencies as counts in buckets that grow by a twelfth or so, and what can be read off them."""

from __future__ import annotations

import math
from collections.abc import Mapping

PER_DOUBLING = 8
SHORTEST_S = 0.0001
"""The first bucket ends here, seconds; nothing shorter is told apart."""
LAST = 200
"""Beyond an hour nothing is told apart either."""


def bucket_of(seconds: float) -> int:
    """The bucket of a latency.

    >>> bucket_of(0.0), bucket_of(0.0001), bucket_of(0.0002)
    (0, 0, 8)
    """
    if not seconds > SHORTEST_S:
        return 0
    return min(LAST, math.ceil(PER_DOUBLING * math.log2(seconds / SHORTEST_S) - 1e-9))


def end_of(bucket: int) -> float:
    """Where a bucket ends, seconds."""
    return float(SHORTEST_S * 2.0 ** (bucket / PER_DOUBLING))


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The latency, seconds, that ``share`` of the requests did not exceed; None without any.

    Right to within a bucket, which is a twelfth.

    >>> round(quantile({bucket_of(0.1): 99, bucket_of(5.0): 1}, 0.95), 1)
    0.1
    """
    total = sum(counts.values())
    if not total:
        return None
    wanted, seen = share * total, 0
    for bucket in sorted(counts):
        count = counts[bucket]
        if seen + count >= wanted:
            begin = end_of(bucket - 1) if bucket else 0.0
            return begin + (end_of(bucket) - begin) * max(0.0, wanted - seen) / count
        seen += count
    return end_of(max(counts))


def allowed_s(beside_s: float, *, ratio: float, margin_s: float) -> float:
    """What a percentile may be, seconds, beside one of ``beside_s``.

    Of two that take next to nothing the one may well take thrice as long as the other: what the
    machine does beside them is a matter of milliseconds. So no difference up to the margin counts.
    Where it must be faster (a ratio below 1) there is no margin.

    Args:
        beside_s: the other's percentile, seconds.
        ratio: how many times as much it may be.
        margin_s: by how many seconds it may be more, whatever the ratio.

    >>> [allowed_s(beside, ratio=1.5, margin_s=0.25) for beside in (0.125, 2.0)]
    [0.375, 3.0]
    >>> allowed_s(2.0, ratio=0.75, margin_s=0.25)
    1.5
    """
    if ratio < 1:
        return ratio * beside_s
    return max(ratio * beside_s, beside_s + margin_s)


def above(counts: Mapping[int, int], limit_s: float) -> float:
    """How many requests took longer than a limit; of the bucket that it cuts, its part.

    >>> above({bucket_of(0.1): 10, bucket_of(0.4): 5}, 0.2)
    5.0
    """
    found = 0.0
    for bucket, count in counts.items():
        begin, end = (end_of(bucket - 1) if bucket else 0.0), end_of(bucket)
        if begin >= limit_s:
            found += count
        elif end > limit_s:
            found += count * (end - limit_s) / (end - begin)
    return found
