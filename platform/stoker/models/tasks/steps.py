"""Work that takes long in steps: between two of them it may be left."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Yields between two steps and returns the result; whoever closes it, ends the work there."""


def at_once(steps: Steps[T]) -> T:
    """All steps without a pause; the result.

    >>> def two():
    ...     yield
    ...     return 2
    >>> at_once(two())
    2
    """
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
