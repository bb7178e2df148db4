"""Splitting: which of two revisions gets a request."""

from __future__ import annotations

import hashlib

_GOLDEN = 0.6180339887498949
_SPAN = float(1 << 64)


def by_turn(share: float, turn: int) -> bool:
    """Whether the ``turn``-th request goes to the canary.

    Golden steps around a circle: after any number of requests the canary has had its share to
    within two or so, and a client that repeats itself every twentieth request does not send the
    canary the same one each time, as it would if every twentieth went there.

    >>> sum(by_turn(0.05, turn) for turn in range(1000))
    50
    """
    return turn * _GOLDEN % 1.0 < share


def by_key(share: float, key: str, revision: int) -> bool:
    """Whether requests that carry ``key`` go to the canary.

    The same in every gateway and after every restart, so that one user sees one revision. Another
    canary is tried on other users: its number is part of what is hashed.

    >>> users = [f"user-{number}" for number in range(10_000)]
    >>> 0.04 < sum(by_key(0.05, user, 4) for user in users) / len(users) < 0.06
    True
    """
    digest = hashlib.blake2b(f"{revision}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / _SPAN < share
