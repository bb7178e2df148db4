"""The cards of the tests marked ``gpu``, by the driver; and simulated ones that stand in for them.

``STOKER_GPU_DEVICES=sim:1x16GiB+512MiB`` rehearses those tests where there is no card: everything
runs as on one but the kernels and the bytes, and the platform's books are taken for the driver.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from live_platform import Platform, eventually
from stoker.controller.devices import look
from stoker.controller.nvml import Nvml
from stoker.controller.simulated import simulated_devices
from stoker.nouns.device import Device

DEVICES = os.environ.get("STOKER_GPU_DEVICES", "auto")
"""As ``stoker up --devices`` has it."""
REAL = DEVICES == "auto"
TORCH = "cuda" if REAL else "cpu"
"""Where torch computes."""
SLACK = 64 * 1024 * 1024
"""Bytes by which a card at rest may differ from itself."""


@dataclass(frozen=True)
class Card:
    """One device. What it holds is asked at each call, and is of that moment."""

    device: Device

    @property
    def id(self) -> str:
        return self.device.id

    def used(self, platform: Platform) -> int:
        """Bytes in use, of all processes."""
        if not REAL:
            return int(row(platform, self.id)["used_bytes"])
        return self._driver().use(self.id).used_bytes

    def holds(self, platform: Platform, pid: int, before: int) -> int:
        """Bytes that a worker's processes hold.

        Args:
            platform: that it runs on.
            pid: of the worker.
            before: what was in use without it: in a container a driver may not tell who holds what,
                and then what came since is the worker's.
        """
        told = dict(self._driver().use(self.id).by_session) if REAL else {}
        return told.get(pid) or self.used(platform) - before

    def tells_of(self, pid: int) -> bool:
        """Whether the driver says what this process holds; of simulated ones the books do."""
        return not REAL or pid in dict(self._driver().use(self.id).by_session)

    def _driver(self) -> Nvml:
        driver = Nvml(None)
        driver.list()
        return driver


def cards_here() -> tuple[Card, ...]:
    """All that the tests may use."""
    if not REAL:
        return tuple(map(Card, simulated_devices(DEVICES)))
    seen = look(Nvml(os.environ.get("CUDA_VISIBLE_DEVICES")))
    return tuple(Card(one.device) for one in seen)


def row(platform: Platform, device: str) -> dict[str, Any]:
    """What the platform's books say of a device."""
    assert platform.endpoints is not None
    seen = platform.client.get(f"{platform.endpoints.control_url}/api/stoker/top").json()
    (found,) = [one for one in seen["devices"] if one["id"] == device]
    return dict(found)


def workers(platform: Platform, name: str) -> list[dict[str, Any]]:
    """The workers of a function: pid, phase, devices."""
    assert platform.endpoints is not None
    found = platform.client.get(f"{platform.endpoints.control_url}/api/stoker/ps").json()
    replicas = [one for one in found["replicas"] if one["function"] == name]
    return [worker for replica in replicas for worker in replica["workers"]]


def to_zero(platform: Platform, name: str) -> None:
    """Puts a function to zero, and waits until it is there."""
    assert platform.endpoints is not None
    url = f"{platform.endpoints.control_url}/api/functions/{name}"
    platform.client.patch(url, json={"desiredState": "scaledToZero"}).raise_for_status()
    eventually(lambda: platform.client.get(f"{url}/replicas").json()["names"] == [])


def clear(platform: Platform) -> None:
    """Deletes every function, and waits until none of their processes is left."""
    assert platform.endpoints is not None
    url = f"{platform.endpoints.control_url}/api"
    for name in platform.client.get(f"{url}/functions").json():
        platform.client.delete(f"{url}/functions/{name}").raise_for_status()
    eventually(lambda: platform.client.get(f"{url}/stoker/ps").json()["replicas"] == [])


Measured = Callable[..., None]
"""Keeps figures for the report."""
