"""Everything that can happen to the controller. Each is handled alone, to its end, in order."""

from __future__ import annotations

from dataclasses import dataclass

from stoker.nouns.device import DeviceSeen
from stoker.nouns.record import Demand, FunctionRecord, ModelBytes, ReplicaRecord


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the store holds.

    Attributes:
        after_loss: the connection had been lost before.
        rewound: the store holds less than it did: it came back empty, or as it was some time ago.
        unreadable: functions that are there and cannot be read; they are not deleted.
        code: functions of whom code lies in the home.
    """

    functions: dict[str, FunctionRecord]
    replicas: dict[str, ReplicaRecord]
    after_loss: bool = False
    rewound: bool = False
    unreadable: frozenset[str] = frozenset()
    code: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FunctionSeen:
    """A function as the store has it now; None when it was deleted."""

    name: str
    record: FunctionRecord | None


@dataclass(frozen=True, slots=True)
class WakeAsked:
    """Somebody waits for the function, or wants it warm."""

    name: str


@dataclass(frozen=True, slots=True)
class DemandSeen:
    """What the gateways report, by gateway and function."""

    demand: dict[str, dict[str, Demand]]


@dataclass(frozen=True, slots=True)
class DemandUnknown:
    """The store is away: what the gateways see now, nobody here knows."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """The zygote forked it; its socket listens."""

    replica: str
    index: int
    pid: int


@dataclass(frozen=True, slots=True)
class StartRefused:
    """Nothing was started. ``zygote_lost``: the zygote died before it answered: nobody's fault."""

    replica: str
    index: int
    message: str
    zygote_lost: bool = False


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """The zygote reaped it: exit code, or minus the signal."""

    replica: str
    index: int
    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class WorkerStated:
    """The worker told its phase over its socket.

    ``sleeps``: it can leave its device. ``device_bytes``: the most device memory that it has held.
    ``short_times``: requests of its that failed for want of it, and ``short_bytes`` what the
    largest of them would have needed in all.
    """

    replica: str
    index: int
    phase: str
    pid: int
    error: str = ""
    sleeps: bool = False
    device_bytes: int = 0
    short_times: int = 0
    short_bytes: int = 0


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """The connection to the worker ended or cannot be made: it is dead."""

    replica: str
    index: int


@dataclass(frozen=True, slots=True)
class OverMemory:
    """The replica's processes hold more than ``resources.limits.memory``; this worker the most."""

    replica: str
    index: int
    message: str


@dataclass(frozen=True, slots=True)
class Built:
    """The candidate's code and environment are in place."""

    function: str
    number: int
    code_dir: str
    site_dir: str | None
    model: ModelBytes | None = None


@dataclass(frozen=True, slots=True)
class BuildFailed:
    """The candidate cannot be built; the log has the details."""

    function: str
    number: int
    message: str


@dataclass(frozen=True, slots=True)
class DevicesSeen:
    """All devices that are there now. One that was there and is missing is lost."""

    seen: tuple[DeviceSeen, ...]


Happening = (
    Snapshot
    | FunctionSeen
    | WakeAsked
    | DemandSeen
    | DemandUnknown
    | Tick
    | WorkerStarted
    | StartRefused
    | WorkerExited
    | WorkerStated
    | WorkerGone
    | OverMemory
    | Built
    | BuildFailed
    | DevicesSeen
)
