"""What this process holds, or has held, of its devices."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from stoker.nouns.device import SIMULATED_PREFIX

_loaded: dict[str, int] = {}
"""Bytes of the checkpoints that this process has loaded, by key."""


_ranks = 1


def split_over(ranks: int) -> None:
    """The model is split evenly over so many processes, of which this is one."""
    global _ranks
    _ranks = ranks


def note(key: str, weights: int) -> None:
    """A checkpoint was loaded."""
    _loaded[key] = weights


def device_peak(env: Mapping[str, str]) -> int:
    """The most bytes of device memory held at once so far, over all devices; 0: none or unknown.

    On a card it is what torch's allocator reserved at its peak, without the context; what other
    libraries allocate is not in it. On a simulated card, which holds nothing, it is the bytes of
    the checkpoints that were loaded. Where the model is split over processes, each of them has a
    card of its own and as much on it as this one. Never starts CUDA by asking.
    """
    devices = [name for name in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if not devices:
        return 0
    if all(name.startswith(SIMULATED_PREFIX) for name in devices):
        return sum(_loaded.values())
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    cards = range(torch.cuda.device_count())
    return _ranks * sum(int(torch.cuda.max_memory_reserved(index)) for index in cards)
