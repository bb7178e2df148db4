"""What the controller is told when it starts."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from stoker.nouns.launch import ZygoteKind


def usable_cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0))


class ControllerSettings(BaseModel):
    """Settings of one controller.

    Attributes:
        devices: ``auto`` (the cards and MIG instances that NVML lists), ``cpu`` (none), or
            ``sim:2x16GiB`` (simulated GPUs with real bookkeeping). Replicas are placed on them.
        cores: CPU cores dealt to the workers of a replica; the default is what the process may use.
        control_url: given to workers as ``NUCLIO_DASHBOARD_URL``, ``MLRUN_DBPATH``, ``V3IO_API``.
        control_key: key of the control port, when it asks for one; workers send it, so that what
            runs in them reaches the MLRun API and other functions' addresses.
        gateway_url: given to workers, and where cron triggers send their events.
        gateway_key: key of the data port, when it asks for one; cron triggers and workers send it.
        redis_url: the home's store, for workers that call other functions.
        tick_s: seconds between two looks at demand, windows and deadlines. Nothing that is waited
            for hangs on it: wakes, readiness and deaths are events. 0.25 keeps an idle controller
            under 1 % of a core.
        zygotes: kinds that run; a function whose kind is missing starts from the plain one.
        lease_s: time to live of the lease that makes this controller the home's only one.
    """

    model_config = ConfigDict(frozen=True)

    devices: str = "auto"
    cores: int = Field(default_factory=usable_cores, ge=1)
    control_url: str = "http://127.0.0.1:8070"
    control_key: SecretStr | None = None
    gateway_url: str = "http://127.0.0.1:8080"
    gateway_key: SecretStr | None = None
    redis_url: str = Field(default="", repr=False)
    tick_s: float = Field(default=0.25, gt=0)
    zygotes: frozenset[ZygoteKind] = frozenset(ZygoteKind)
    lease_s: float = Field(default=10.0, gt=0)
