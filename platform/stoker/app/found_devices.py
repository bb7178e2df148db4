"""What ``--devices auto`` has found, in words."""

from __future__ import annotations

from functools import partial

from stoker.controller.devices import open_driver
from stoker.controller.threads import answered_within
from stoker.nouns.errors import StokerError
from stoker.nouns.home import Home
from stoker.nouns.quantity import format_bytes

LIMIT_S = 5.0
"""A driver in trouble may never answer, and the platform runs all the same."""


async def found_devices(spec: str, limit_s: float = LIMIT_S) -> str:
    """The devices of this machine where the spec leaves them open; empty where it names them.

    >>> import asyncio
    >>> asyncio.run(found_devices("sim:2x16GiB"))
    ''
    """
    if spec != "auto":
        return ""
    try:
        return await answered_within(limit_s, partial(_in_words, spec))
    except TimeoutError:
        return f"unknown: the driver has not answered within {limit_s:g} s"
    except StokerError as exc:
        return f"unknown: {exc.message}"


def _in_words(spec: str) -> str:
    sizes = [format_bytes(one.total_bytes) for one in open_driver(spec, Home.at()).list()]
    if not sizes:
        return "no GPU: functions run on the CPU"
    return f"{len(sizes)} {'GPU' if len(sizes) == 1 else 'GPUs'}: {', '.join(sizes)}"
