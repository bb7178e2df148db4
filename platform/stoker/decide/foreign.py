"""How much of a device others hold: what Stoker neither promised nor may promise."""

from __future__ import annotations

from collections.abc import Collection

from stoker.nouns.device import DeviceUse


def foreign_bytes(use: DeviceUse, ours: Collection[int], promised: int) -> int:
    """Bytes on a device that are not its replicas'; never below zero.

    What no visible process owns up to (in a container the driver may hide all pids, or tell the
    host's) is taken for our own workers' as far as their promise goes, or what they hold would
    count twice.

    Args:
        use: the device, as it was looked at.
        ours: pids of the workers.
        promised: bytes of it that are promised to replicas.

    >>> foreign_bytes(DeviceUse(12, ((7, 5), (8, 7))), ours={7}, promised=6)
    7
    >>> foreign_bytes(DeviceUse(12), ours={7}, promised=6)
    6
    """
    own = sum(count for pid, count in use.by_session if pid in ours)
    strangers = sum(count for pid, count in use.by_session if pid not in ours)
    nameless = max(0, use.used_bytes - own - strangers)
    return strangers + max(0, nameless - max(0, promised - own))
