"""Whether a replica could ever be placed here, with nothing else running, and how much it needs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass


def bytes_per_gpu(per_worker: int, workers: int, gpus: int) -> int:
    """Bytes that a replica needs on each of its GPUs.

    >>> bytes_per_gpu(100, workers=4, gpus=2), bytes_per_gpu(100, workers=1, gpus=2)
    (200, 50)
    """
    if workers >= gpus:
        return per_worker * math.ceil(workers / gpus)
    return math.ceil(per_worker / (gpus // workers))


def workers_on_each(workers: int, gpus: int) -> int:
    """The most workers that share one of the replica's GPUs; 1 on none.

    >>> workers_on_each(3, 2), workers_on_each(1, 2), workers_on_each(4, 0)
    (2, 1, 1)
    """
    return max(1, math.ceil(workers / gpus)) if gpus else 1


def usable(
    devices: Mapping[str, int], instances: Collection[str], workers: int, gpus: int
) -> dict[str, int]:
    """The devices that a replica may be placed on.

    CUDA shows a process one MIG instance, however many it is told of. So a worker that would get
    several devices gets whole cards.

    Args:
        devices: bytes of each.
        instances: those that are MIG instances.
        workers: worker processes of the replica.
        gpus: GPUs of the replica.

    >>> usable({"MIG-a": 5, "GPU-b": 9}, {"MIG-a"}, workers=1, gpus=2)
    {'GPU-b': 9}
    >>> usable({"MIG-a": 5, "GPU-b": 9}, {"MIG-a"}, workers=2, gpus=2)
    {'MIG-a': 5, 'GPU-b': 9}
    """
    if gpus <= workers:
        return dict(devices)
    return {name: count for name, count in devices.items() if name not in instances}


def several_instances(
    devices: Collection[str], instances: Collection[str], workers: int, gpus: int
) -> str:
    """Why a replica can never be placed because of MIG; empty where that is not the reason.

    >>> several_instances({"MIG-a", "MIG-b"}, {"MIG-a", "MIG-b"}, workers=1, gpus=2)[:54]
    'its 1 worker(s) would get 2 GPUs, and of those here 2 '
    """
    whole = len(usable(dict.fromkeys(devices, 0), instances, workers, gpus))
    if whole >= gpus or len(devices) < gpus:
        return ""
    return (
        f"its {workers} worker(s) would get {gpus} GPUs, and of those here {len(instances)} are "
        "MIG instances, of which CUDA shows a process only one: declare as many workers as GPUs, "
        "one GPU, or use cards that are not split"
    )


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Why a replica can never be placed.

    Attributes:
        needed: bytes that it needs on each of its GPUs.
        largest: bytes of the smallest of the GPUs that it would get: the largest that there are.
        workers: how many of its workers would fit; 0 when not even one does, or when there are too
            few GPUs.
    """

    needed: int
    largest: int
    workers: int


def shortfall(
    per_worker: int, workers: int, gpus: int, capacity: Mapping[str, int]
) -> Shortfall | None:
    """What is missing for one replica on empty devices; None when it fits.

    Args:
        per_worker: bytes that one worker needs; 0 asks only whether there are enough GPUs.
        workers: worker processes of the replica.
        gpus: GPUs of the replica.
        capacity: bytes of each device. Without any, what asks for a GPU runs on the CPU.

    >>> shortfall(4, workers=8, gpus=1, capacity={"a": 16})
    Shortfall(needed=32, largest=16, workers=4)
    """
    if not gpus or not capacity:
        return None
    largest = sorted(capacity.values(), reverse=True)[:gpus]
    room = largest[-1] if len(largest) == gpus else 0
    needed = bytes_per_gpu(per_worker, workers, gpus)
    if room and needed <= room:
        return None
    fitting = (n for n in range(workers, 0, -1) if bytes_per_gpu(per_worker, n, gpus) <= room)
    return Shortfall(needed, largest[-1], next(fitting, 0) if room else 0)
