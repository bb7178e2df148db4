"""What this process holds, or has held, of its devices, and what it lacked."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stoker.nouns.device import SIMULATED_PREFIX

_UNITS = {"bytes": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3, "tib": 1024**4}
_TRIED = re.compile(r"tried to allocate ([\d.]+) (bytes|KiB|MiB|GiB|TiB)", re.IGNORECASE)
"""torch says so of cards ("Tried to allocate 2.00 GiB") and of the host ("… 64 bytes")."""

_SHORT = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    # Of its creation, which takes memory, this is all that cuBLAS says.
    "CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What torch says where its own allocator was not the one that failed."""

_loaded: dict[str, int] = {}
"""Bytes of the checkpoints that this process has loaded, by key."""


@dataclass
class Shortages:
    """Out of device memory.

    Attributes:
        times: requests that failed of it.
        needed: the most bytes that one of them would have had to hold at once.
        listener: called at each, on whatever thread it happened.
    """

    times: int = 0
    needed: int = 0
    listener: Callable[[], object] | None = None


SHORTAGES = Shortages()
"""This process's. Written by `note_shortage`."""

_ranks = 1


def split_over(ranks: int) -> None:
    """The model is split evenly over so many processes, of which this is one."""
    global _ranks
    _ranks = ranks


def note(key: str, weights: int) -> None:
    """A checkpoint was loaded."""
    _loaded[key] = weights


def bytes_wanted(exc: BaseException) -> int | None:
    """The allocation that failed, if the exception says how large it was."""
    found = _TRIED.search(str(exc))
    return int(float(found[1]) * _UNITS[found[2].lower()]) if found else None


def is_shortage(exc: BaseException) -> bool:
    """Whether a device had no memory left: torch's allocator, or a library that has its own."""
    kind = getattr(sys.modules.get("torch"), "OutOfMemoryError", ())
    if isinstance(exc, kind):
        return True
    return isinstance(exc, RuntimeError) and any(sign in str(exc) for sign in _SHORT)


def note_shortage(exc: BaseException, env: Mapping[str, str] = os.environ) -> None:
    """A request failed of this; nothing, unless it is a device that had no memory left."""
    if not _devices(env) or not is_shortage(exc):
        return
    SHORTAGES.times += 1
    needed = device_peak(env) + _ranks * (bytes_wanted(exc) or 0)
    SHORTAGES.needed = max(SHORTAGES.needed, needed)
    if SHORTAGES.listener is not None:
        SHORTAGES.listener()


def device_peak(env: Mapping[str, str]) -> int:
    """The most bytes of device memory held at once so far, over all devices; 0: none or unknown.

    On a card it is what torch's allocator reserved at its peak, without the context; what other
    libraries allocate is not in it. On a simulated card, which holds nothing, it is the bytes of
    the checkpoints that were loaded. Where the model is split over processes, each of them has a
    card of its own and as much on it as this one. Never starts CUDA by asking.
    """
    devices = _devices(env)
    if not devices:
        return 0
    if all(name.startswith(SIMULATED_PREFIX) for name in devices):
        return sum(_loaded.values())
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    cards = range(torch.cuda.device_count())
    return _ranks * sum(int(torch.cuda.max_memory_reserved(index)) for index in cards)


def _devices(env: Mapping[str, str]) -> list[str]:
    return [name for name in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
