"""Placement: which devices a replica gets, and how they are dealt to its workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def place(
    free_bytes: Mapping[str, int], *, gpus: int, bytes_per_gpu: int
) -> tuple[str, ...] | None:
    """The devices for one replica: best fit, so that the large gaps stay for large models.

    Args:
        free_bytes: free bytes of each device, by id.
        gpus: how many different devices the replica needs.
        bytes_per_gpu: what it needs on each of them.

    Returns:
        Device ids, or None when it does not fit now.

    >>> place({"a": 16, "b": 4, "c": 8}, gpus=2, bytes_per_gpu=4)
    ('b', 'c')
    """
    fitting = [(free, device) for device, free in free_bytes.items() if free >= bytes_per_gpu]
    if len(fitting) < gpus:
        return None
    return tuple(device for _, device in sorted(fitting)[:gpus])


def deal(devices: Sequence[str], workers: int) -> tuple[tuple[str, ...], ...]:
    """Each worker's devices: worker *i* gets device *i mod G*; with fewer workers, several each.

    >>> deal(["a", "b"], 4)
    (('a',), ('b',), ('a',), ('b',))
    >>> deal(["a", "b", "c"], 2)
    (('a', 'c'), ('b',))
    """
    if not devices:
        return ((),) * workers
    if workers >= len(devices):
        return tuple((devices[index % len(devices)],) for index in range(workers))
    return tuple(tuple(devices[index::workers]) for index in range(workers))
