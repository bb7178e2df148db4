"""A device that models run on, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

SIMULATED_PREFIX = "SIM-"
"""Ids of simulated devices begin so; what is pinned to one computes on the CPU."""
STRANGER = 0
"""Stands for a process of somebody else's where its pid is not told."""


class DeviceKind(StrEnum):
    """What executes on it."""

    CUDA = "cuda"
    MIG = "mig"
    """A part of a card with memory and cores of its own, which CUDA sees as a card."""
    SIMULATED = "sim"


@dataclass(frozen=True, slots=True)
class Device:
    """One device of this machine.

    Attributes:
        id: what ``CUDA_VISIBLE_DEVICES`` calls it: a UUID, never an index, because indices change.
        total_bytes: its memory, less what the driver keeps for itself.
        name: the product's.
        capability: CUDA compute capability, such as (9, 0); None for simulated ones.
        parent: the UUID of the card that a MIG instance is part of.
        context_bytes: what each process takes of it before anything else, and keeps while it
            sleeps; None: what is usual for its kind.
    """

    id: str
    kind: DeviceKind
    total_bytes: int
    name: str = ""
    capability: tuple[int, int] | None = None
    parent: str = ""
    context_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """What is going on on a device, as it was last looked at.

    Attributes:
        used_bytes: of all processes.
        by_session: bytes by the pid of the session's leader, of the processes that this machine
            can see. A worker leads a session of its own, so what it started counts as it.
        utilisation: share of the last moment in which it computed, 0 to 1; None when unknown.
    """

    used_bytes: int = 0
    by_session: tuple[tuple[int, int], ...] = ()
    utilisation: float | None = None


@dataclass(frozen=True, slots=True)
class DeviceSeen:
    """A device that is there, and what was going on on it."""

    device: Device
    use: DeviceUse = field(default_factory=DeviceUse)


class DevicesUnknown(Exception):
    """The driver does not answer, or not what can be understood: what was known may still be so.

    It reaches no client; the controller goes on with its last view.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class DeviceLost(Exception):
    """The device is not there any more: it fell off the bus, or was taken apart."""
