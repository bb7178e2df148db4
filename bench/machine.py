"""What the figures were measured on, and which cores serve and which load."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.models.device import cpu_flags

SERVING_CORES = 2
"""Cores that every server gets, ours and the peers': the machine of the recorded figures has 2."""

VECTORS = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip


@dataclass(frozen=True)
class Cores:
    """CPU numbers. On a machine with fewer than four cores both sides share them all."""

    serving: tuple[int, ...]
    loading: tuple[int, ...]


def share(available: Collection[int]) -> Cores:
    """Two cores to serve and two to load where there are four; else all to both.

    >>> share({0, 1}), share({2, 4, 6, 8, 9}).loading
    (Cores(serving=(0, 1), loading=(0, 1)), (6, 8))
    """
    cores = tuple(sorted(available))
    if len(cores) < 2 * SERVING_CORES:
        return Cores(cores, cores)
    return Cores(cores[:SERVING_CORES], cores[SERVING_CORES : 2 * SERVING_CORES])


def facts() -> dict[str, Any]:
    """For the record: processor, cores, Python, kernel, and the load before the run."""
    return {
        "processor": _processor(),
        "vectors": vectors(cpu_flags()),
        "cores": sorted(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load_average": os.getloadavg(),
    }


def vectors(flags: Collection[str]) -> list[str]:
    """Of a CPU's instruction sets, those on which the speed of matrices hangs, the widest last.

    >>> vectors(["avx", "avx2", "avx512_bf16", "avx512f", "sse2"])
    ['avx2', 'avx512f', 'avx512_bf16']
    """
    return [name for name in VECTORS if name in flags]


def busy(load_average: float, cores: int) -> str:
    """What to say when others use the machine; empty when they do not.

    >>> busy(0.2, 2), busy(1.9, 2)
    ('', 'this machine is busy (load 1.9 on 2 cores): the figures will be worse than it can do')
    """
    if load_average < cores / 4:
        return ""
    return (
        f"this machine is busy (load {load_average:.1f} on {cores} cores): "
        "the figures will be worse than it can do"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
