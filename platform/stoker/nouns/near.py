"""Names that a misspelt one could mean."""

from __future__ import annotations

import difflib
import re

_WORDS = re.compile(r"[^-/]*[-/]|[^-/]+")
"""Of a name, each with the sign that ends it."""
_NEAR = 0.6


def near_names(name: str, names: list[str]) -> list[str]:
    """Up to three of ``names`` that a typo away from ``name`` could mean, the nearest first.

    The words that both begin with are left aside: every function of a project is like every other
    one by the project's name.

    >>> near_names("errs-oke", ["errs-m1", "errs-ok"])
    ['errs-ok']
    """
    likeness = {known: _likeness(name, known) for known in names}
    near = sorted((one for one in names if likeness[one] >= _NEAR), key=lambda one: -likeness[one])
    return near[:3]


def _likeness(name: str, known: str) -> float:
    ours, theirs = _WORDS.findall(name), _WORDS.findall(known)
    shared = 0
    while shared < min(len(ours), len(theirs)) - 1 and ours[shared] == theirs[shared]:
        shared += 1
    rests = "".join(ours[shared:]), "".join(theirs[shared:])
    return difflib.SequenceMatcher(None, *rests).ratio()
