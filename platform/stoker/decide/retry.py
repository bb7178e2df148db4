"""Retries: whether a request whose worker died may be run once more."""

from __future__ import annotations

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that HTTP defines as safe (RFC 9110, 9.2.1)."""
MAX_ATTEMPTS = 2


def may_retry(*, method: str, idempotency_key: bool, started: bool, attempts: int) -> bool:
    """Whether to run it again elsewhere.

    Args:
        method: the HTTP method.
        idempotency_key: the client sent ``Idempotency-Key`` and so vouches for a second run.
        started: the handler may have seen it. A request that only waited in the worker's inbox is
            free to go elsewhere as often as needed, since nothing of it has happened.
        attempts: how many times a handler may have seen it, this time included.
    """
    if not started:
        return True
    return (method in SAFE_METHODS or idempotency_key) and attempts < MAX_ATTEMPTS
