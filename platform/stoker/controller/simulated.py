"""Simulated devices, and the file by which one rehearses what befalls real ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from stoker.nouns.device import (
    SIMULATED_PREFIX,
    STRANGER,
    Device,
    DeviceKind,
    DeviceLost,
    DevicesUnknown,
    DeviceUse,
)
from stoker.nouns.errors import BadRequest
from stoker.nouns.quantity import parse_bytes, parse_device_memory

_SPEC = re.compile(r"sim:(\d{1,2})x([^+]+)(?:\+(.+))?")


class Rehearsal(BaseModel):
    """What is to befall one device.

    Attributes:
        foreign: bytes of it that somebody else's processes hold.
        lost: it fell off the bus.
        utilisation: share of the time in which it computes; shown, and acted on by nobody.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    foreign: Annotated[int, BeforeValidator(parse_bytes)] = 0
    lost: bool = False
    utilisation: float | None = Field(default=None, ge=0, le=1)


_FILE = TypeAdapter(dict[str, Rehearsal])


def simulated_devices(spec: str) -> tuple[Device, ...]:
    """The devices that ``sim:<count>x<size>`` means, or ``sim:<count>x<size>+<context>``.

    The context is what each process is said to take of each of its devices, as CUDA's does of a
    card; without it nothing.

    >>> [(device.id, device.total_bytes) for device in simulated_devices("sim:2x1MiB")]
    [('SIM-0', 1048576), ('SIM-1', 1048576)]
    >>> [device.context_bytes for device in simulated_devices("sim:1x1GiB+512MiB")]
    [536870912]

    Raises:
        BadRequest: it means none.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise BadRequest(f'devices must be "auto", "cpu" or like "sim:2x16GiB", was {spec!r}')
    try:
        size = parse_device_memory(match[2])
        context = parse_device_memory(match[3]) if match[3] else 0
    except ValueError as exc:
        raise BadRequest(f"devices: {exc}") from exc
    return tuple(
        Device(
            f"{SIMULATED_PREFIX}{index}",
            DeviceKind.SIMULATED,
            size,
            name="simulated",
            context_bytes=context,
        )
        for index in range(int(match[1]))
    )


class Simulated:
    """`stoker.controller.devices.Driver` over devices that are not there.

    Args:
        devices: all of them.
        script: the file of rehearsals, by device; need not exist. Read at every look.
    """

    def __init__(self, devices: tuple[Device, ...], script: Path) -> None:
        self._devices = devices
        self._script = script

    def list(self) -> tuple[Device, ...]:
        """Those that the script has not lost.

        Raises:
            DevicesUnknown: the script cannot be read.
        """
        told = self._read()
        return tuple(
            device for device in self._devices if not told.get(device.id, Rehearsal()).lost
        )

    def use(self, device: str) -> DeviceUse:
        """What the script says that others hold; our own workers hold nothing on it.

        Raises:
            DeviceLost: the script has lost it.
            DevicesUnknown: the script cannot be read.
        """
        told = self._read().get(device, Rehearsal())
        if told.lost:
            raise DeviceLost(f"{device} is lost: {self._script} says so")
        size = next(known.total_bytes for known in self._devices if known.id == device)
        foreign = min(told.foreign, size)
        by_session = ((STRANGER, foreign),) if foreign else ()
        return DeviceUse(foreign, by_session, told.utilisation)

    def _read(self) -> dict[str, Rehearsal]:
        try:
            told = _FILE.validate_json(self._script.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as exc:
            raise DevicesUnknown(f"{self._script} cannot be read: {exc}") from exc
        strangers = sorted(set(told) - {device.id for device in self._devices})
        if strangers:
            known = ", ".join(device.id for device in self._devices)
            raise DevicesUnknown(
                f"{self._script} names {', '.join(strangers)}; the devices are {known}"
            )
        return told
