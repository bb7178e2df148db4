"""What ``--devices auto`` has found, in words."""

from __future__ import annotations

from stoker.controller.devices import find_devices
from stoker.nouns.quantity import format_bytes


def found_devices(spec: str) -> str:
    """The devices of this machine where the spec leaves them open; empty where it names them.

    >>> found_devices("sim:2x16GiB")
    ''
    """
    if spec != "auto":
        return ""
    sizes = [format_bytes(size) for size in find_devices(spec).values()]
    if not sizes:
        return "no GPU: functions run on the CPU"
    return f"{len(sizes)} {'GPU' if len(sizes) == 1 else 'GPUs'}: {', '.join(sizes)}"
