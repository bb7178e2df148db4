"""What the store keeps: function records, replica records, demand. All JSON, no pickle."""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from stoker.nouns.encodable import encodable
from stoker.nouns.evidence import Tally
from stoker.nouns.function import FunctionConfig
from stoker.nouns.rollout import Asked, CanarySpec


class FunctionState(StrEnum):
    """Nuclio's function states."""

    WAITING_FOR_BUILD = "waitingForBuild"
    BUILDING = "building"
    CONFIGURING = "configuringResources"
    SCALING_FROM_ZERO = "waitingForScaleResourceFromZero"
    SCALING_TO_ZERO = "waitingForScaleResourceToZero"
    READY = "ready"
    SCALED_TO_ZERO = "scaledToZero"
    ERROR = "error"
    UNHEALTHY = "unhealthy"
    IMPORTED = "imported"

    @property
    def is_settled(self) -> bool:
        """Whether a client that waits for the deployment may stop waiting."""
        return self in _SETTLED


_SETTLED = frozenset(
    {
        FunctionState.READY,
        FunctionState.SCALED_TO_ZERO,
        FunctionState.ERROR,
        FunctionState.UNHEALTHY,
        FunctionState.IMPORTED,
    }
)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, ignored_types=(cached_property,))


class LogEntry(_Record):
    """One line of a deploy log, as ``status.logs`` shows it. ``time`` is epoch milliseconds."""

    time: float
    level: str = "info"
    message: str

    @field_validator("message")
    @classmethod
    def _can_be_written(cls, value: str) -> str:
        return encodable(value)


class ModelBytes(_Record):
    """What is known of a revision's prepared model.

    Attributes:
        key: of the prepared checkpoint (`stoker.models.manifest`); empty when the platform has
            prepared none and only knows what was measured.
        weights: bytes of its weights, which each worker holds a copy of on its devices.
        cache: bytes of one worker's key-value cache at its fullest; 0 for models without one.
        measured: the largest peak of device memory that one worker of it told, in bytes; 0: none
            has yet. Written by the controller.
        short_times: requests that were refused because the devices had no memory left, counted as
            far as that matters (`stoker.decide.learn`). Written by the controller.
        short: bytes that the largest of them would have had to hold in one worker.
    """

    key: str
    weights: int = Field(ge=0)
    cache: int = Field(default=0, ge=0)
    measured: int = Field(default=0, ge=0)
    short_times: int = Field(default=0, ge=0)
    short: int = Field(default=0, ge=0)


class Revision(_Record):
    """One immutable deployed version.

    ``document`` is the config as its user sent it; ``code_dir`` and ``site_dir`` are filled in by
    the build (absolute paths; ``site_dir`` is None when nothing had to be installed), and so is
    ``model``, None when none is declared. ``who`` deployed it, as far as they said.
    """

    number: int
    document: dict[str, Any]
    digest: str = ""
    who: str = ""
    code_dir: str | None = None
    site_dir: str | None = None
    model: ModelBytes | None = None

    @cached_property
    def config(self) -> FunctionConfig:
        """The config, checked."""
        return FunctionConfig.parse(self.document)


class Canary(_Record):
    """A revision that proves itself on a share of the traffic.

    Attributes:
        revision: the new one.
        spec: what was declared.
        share: of the requests (0 to 1) that it gets now.
        started_at: epoch seconds.
        ran_s: seconds that it has run for while a controller watched. Time in which the platform
            was away does not count. Written now and then, with ``tallies``.
        tallies: what was counted, by tally.
        asked: a client wants it to end. Written by the API.
    """

    revision: Revision
    spec: CanarySpec
    share: float
    started_at: float
    ran_s: float = 0.0
    tallies: dict[str, Tally] = Field(default_factory=dict)
    asked: Asked | None = None


class FunctionRecord(_Record):
    """A function: the revision that serves, the one that is being deployed, and its state.

    Single writer: the API writes ``candidate``, ``desired_zero`` and a canary's ``asked``; the
    controller all the rest.

    Attributes:
        serving: the revision that gets traffic; None until one has become ready.
        candidate: the revision being deployed; None when nothing is.
        canary: the revision beside ``serving`` that gets a share of the traffic.
        desired_zero: the user asked for zero (``stoker sleep``, PATCH ``scaledToZero``); cleared by
            the next demand or PATCH ``ready``.
        wake_p90_s: 90th percentile of the measured wakes, seconds; the ``Retry-After`` of 503s. Of
            a wake that waited for a device: from when it had one.
    """

    name: str
    project: str = "default"
    state: FunctionState = FunctionState.WAITING_FOR_BUILD
    message: str = ""
    logs: tuple[LogEntry, ...] = ()
    serving: Revision | None = None
    candidate: Revision | None = None
    canary: Canary | None = None
    last_revision: int = 0
    desired_zero: bool = False
    wake_p90_s: float | None = None
    last_scale_event: str = ""
    last_scale_time: float = 0.0
    created_at: float = 0.0
    updated_at: float = 0.0

    @property
    def current(self) -> Revision:
        """The revision to show: the candidate while one is being deployed, else what serves.

        Raises:
            LookupError: there is neither, which the store never keeps.
        """
        revision = self.candidate or self.serving
        if revision is None:
            raise LookupError(f"function {self.name} has no revision")
        return revision

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """All that it holds, the newest first."""
        trial = self.canary.revision if self.canary else None
        return tuple(one for one in (self.candidate, trial, self.serving) if one is not None)


class Phase(StrEnum):
    """The life of one worker process; `stoker.decide.lifecycle` holds the transitions."""

    # Enum's own hash is Python, and every request looks two transitions up by phase and signal.
    __hash__ = str.__hash__

    STARTING = "starting"
    READY = "ready"
    ASLEEP = "asleep"
    """The process lives; its weights have left the device."""
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_terminal(self) -> bool:
        """No transition leaves this phase."""
        return self in (Phase.STOPPED, Phase.FAILED)

    @property
    def is_live(self) -> bool:
        """A process exists, or is about to."""
        return not self.is_terminal


class WorkerRecord(_Record):
    """One worker process of a replica. ``socket`` is an absolute unix socket path."""

    index: int
    socket: str
    pid: int = 0
    started_at: float = 0.0
    phase: Phase = Phase.STARTING
    devices: tuple[str, ...] = ()


class ReplicaRecord(_Record):
    """One running instance of a revision: a group of workers that share devices.

    ``unhurried``: it drains because others need its devices, and its requests take their time.
    """

    id: str
    function: str
    revision: int
    workers: tuple[WorkerRecord, ...] = ()
    devices: tuple[str, ...] = ()
    device_bytes: int = 0
    draining: bool = False
    unhurried: bool = False
    created_at: float = 0.0

    @property
    def phase(self) -> Phase:
        """The replica as a whole: draining wins, then ready if any worker is, then starting."""
        phases = {worker.phase for worker in self.workers}
        if self.draining and any(phase.is_live for phase in phases):
            return Phase.DRAINING
        for phase in (
            Phase.READY,
            Phase.STARTING,
            Phase.ASLEEP,
            Phase.DRAINING,
            Phase.FAILED,
        ):
            if phase in phases:
                return phase
        return Phase.STOPPED


class Demand(_Record):
    """What one gateway sees of one function's traffic."""

    in_flight: int = 0
    waiting: int = 0
    oldest_wait_s: float = 0.0
    arrivals: int = Field(default=0, description="requests accepted since the gateway started")
    last_active: float = Field(default=0.0, description="epoch seconds of the last request")
    answered: int = Field(
        default=0,
        description="requests that a worker answered since the gateway started; tells an accident "
        "from a crash loop",
    )
    by_replica: dict[str, int] = Field(
        default_factory=dict,
        description="requests in flight by replica id, so that scaling down never picks a busy one",
    )
    tally: Tally | None = Field(default=None, description="what was counted while a canary lasts")
