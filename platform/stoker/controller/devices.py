"""The devices of this machine, whoever tells of them: the driver, or a simulation."""

from __future__ import annotations

import os
from typing import Protocol

from stoker.controller.simulated import Simulated, simulated_devices
from stoker.nouns.device import Device, DeviceLost, DeviceSeen, DeviceUse
from stoker.nouns.home import Home


class Driver(Protocol):
    """Tells of devices. Its calls block, for as long as a driver in trouble likes."""

    def list(self) -> tuple[Device, ...]:
        """The devices that are there and usable now.

        Raises:
            DevicesUnknown: nobody can tell; what was known before may still be so.
        """

    def use(self, device: str) -> DeviceUse:
        """What is going on on one that `list` named last.

        Raises:
            DeviceLost: it is there no more.
            DevicesUnknown: nobody can tell.
        """


class NoDevices:
    """A home that computes on the CPU."""

    def list(self) -> tuple[Device, ...]:
        """None."""
        return ()

    def use(self, device: str) -> DeviceUse:
        """There is nothing to look at."""
        raise DeviceLost(f"this home has no devices, so no {device}")


def open_driver(spec: str, home: Home) -> Driver:
    """The driver that ``--devices`` means.

    Raises:
        BadRequest: the spec is none of ``auto``, ``cpu``, ``sim:<count>x<size>``.
    """
    if spec == "cpu":
        return NoDevices()
    if spec == "auto":
        from stoker.controller.nvml import Nvml

        return Nvml(os.environ.get("CUDA_VISIBLE_DEVICES"))
    return Simulated(simulated_devices(spec), home.simulated_devices)


def check_spec(spec: str) -> None:
    """Refuses what `open_driver` would refuse, without asking a driver.

    >>> check_spec("sim:2x16GiB")

    Raises:
        BadRequest: the spec is none of ``auto``, ``cpu``, ``sim:<count>x<size>``.
    """
    if spec not in ("auto", "cpu"):
        simulated_devices(spec)


def look(driver: Driver) -> tuple[DeviceSeen, ...]:
    """Every device that is there, with what is going on on it.

    Raises:
        DevicesUnknown: nobody can tell.
    """
    seen = []
    for device in driver.list():
        try:
            seen.append(DeviceSeen(device, driver.use(device.id)))
        except DeviceLost:
            continue
    return tuple(seen)
