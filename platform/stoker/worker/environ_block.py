"""What ``/proc/<pid>/environ`` and ``ps e`` show of a forked worker: its own environment.

The kernel shows the block of memory in which a process was given its environment when it started;
a fork has its zygote's. So whoever looks there for the cards that a worker is pinned to would see
none. The block is rewritten in place, as PostgreSQL and others do to change their titles; a zygote
is started with some room in it (`ROOM`).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

ROOM = "STOKER_ENVIRON_ROOM"
"""The variable that makes the block of a zygote larger than its own environment."""
ROOM_BYTES = 16 * 1024
_FIRST = ("CUDA_", "NUCLIO_", "STOKER_")
_START, _END = 47, 48
"""``env_start`` and ``env_end`` of ``/proc/self/stat``, counted after the command's name."""


def padding() -> dict[str, str]:
    """What to start a zygote with."""
    return {ROOM: " " * ROOM_BYTES}


def show(environment: Mapping[str, str]) -> None:
    """Shows these variables as this process's; those that have no room are left out.

    Only in a process that has one thread: another might be reading its environment.
    """
    # Every variable moves into memory of its own, else the C library would read the new text.
    for name, value in os.environ.items():
        os.putenv(name, value)
    start, end = _block()
    if end > start:
        text = packed(environment, end - start)
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, text, len(text))


def packed(environment: Mapping[str, str], size: int) -> bytes:
    """The variables as the kernel shows them, whole ones, at most ``size`` bytes.

    >>> packed({"A": "1", "CUDA_VISIBLE_DEVICES": "SIM-0", "B": "22222222"}, 34).split(bytes(1))
    [b'CUDA_VISIBLE_DEVICES=SIM-0', b'A=1', b'']
    """
    ours = sorted(environment, key=lambda name: not name.startswith(_FIRST))
    found = b""
    for name in ours:
        line = os.fsencode(f"{name}={environment[name]}") + b"\0"
        if name != ROOM and len(found) + len(line) <= size:
            found += line
    return found


def _block() -> tuple[int, int]:
    """Where the block lies; (0, 0) where the kernel does not say."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    if len(fields) <= _END:
        return 0, 0
    return int(fields[_START]), int(fields[_END])
