"""What ``--devices auto`` has found, in words."""

from __future__ import annotations

from stoker.controller.devices import open_driver
from stoker.nouns.errors import StokerError
from stoker.nouns.home import Home
from stoker.nouns.quantity import format_bytes


def found_devices(spec: str) -> str:
    """The devices of this machine where the spec leaves them open; empty where it names them.

    >>> found_devices("sim:2x16GiB")
    ''
    """
    if spec != "auto":
        return ""
    try:
        sizes = [format_bytes(one.total_bytes) for one in open_driver(spec, Home.at()).list()]
    except StokerError as exc:
        return f"unknown: {exc.message}"
    if not sizes:
        return "no GPU: functions run on the CPU"
    return f"{len(sizes)} {'GPU' if len(sizes) == 1 else 'GPUs'}: {', '.join(sizes)}"
