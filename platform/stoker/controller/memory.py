"""What worker processes hold, against ``resources.limits.memory`` of their replica."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil

from stoker.controller.happenings import OverMemory
from stoker.controller.world import World
from stoker.nouns.quantity import format_bytes


def resident(pid: int) -> int:
    """Resident bytes, shared ones included; 0 for a process that is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def proportional(pid: int) -> int:
    """Bytes with each shared page split among its holders: what a forked worker really costs."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def over_limit(
    world: World,
    cheap: Callable[[int], int] = resident,
    exact: Callable[[int], int] = proportional,
) -> list[OverMemory]:
    """The worker to end in each replica that is over its limit: the one that holds the most.

    Resident size is read first: it is never below the proportional one and costs a hundredth.
    """
    found: list[OverMemory] = []
    for replica in world.replicas.values():
        revision = world.revision(replica)
        limit = revision.config.memory_limit_bytes if revision else None
        running = [slot for slot in replica.slots if slot.running and slot.pid]
        if limit is None or not running or sum(cheap(slot.pid) for slot in running) <= limit:
            continue
        held = {slot.index: exact(slot.pid) for slot in running}
        if sum(held.values()) > limit:
            index = max(held, key=lambda key: held[key])
            found.append(
                OverMemory(
                    replica.id,
                    index,
                    f"held {format_bytes(held[index])}: the replica is over its limit of "
                    f"{format_bytes(limit)} (resources.limits.memory)",
                )
            )
    return found
