"""``stoker status``: what of the platform runs, as the system sees it, without asking anybody."""

from __future__ import annotations

import time

import psutil
from pydantic import BaseModel, ConfigDict

from stoker.app.files import read_json
from stoker.app.lock import holder
from stoker.app.processes import ProcessRecord
from stoker.app.settings import Endpoints
from stoker.nouns.home import Home
from stoker.nouns.secrecy import url_for_people


class ProcessStatus(BaseModel):
    """One process. ``uptime_s`` and ``resident_bytes`` are 0 when it does not run."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    alive: bool
    uptime_s: float = 0.0
    resident_bytes: int = 0


class PlatformStatus(BaseModel):
    """One home.

    Attributes:
        running: a supervisor holds the home; without one, processes may still be left.
        endpoints: where it answers, the Redis's password left out; None when it does not run or
            is not ready yet.
    """

    model_config = ConfigDict(frozen=True)

    home: str
    running: bool
    supervisor_pid: int | None = None
    endpoints: Endpoints | None = None
    processes: tuple[ProcessStatus, ...] = ()


def status(home: Home) -> PlatformStatus:
    """The platform of this home."""
    pid = holder(home.lock)
    endpoints = read_json(home.endpoints) if pid is not None else None
    return PlatformStatus(
        home=str(home.root),
        running=pid is not None,
        supervisor_pid=pid,
        endpoints=_shown(Endpoints.model_validate(endpoints)) if endpoints else None,
        processes=tuple(
            _of(ProcessRecord.model_validate(entry)) for entry in read_json(home.processes) or ()
        ),
    )


def _shown(endpoints: Endpoints) -> Endpoints:
    return endpoints.model_copy(update={"redis_url": url_for_people(endpoints.redis_url)})


def _of(record: ProcessRecord) -> ProcessStatus:
    if record.alive:
        try:
            process = psutil.Process(record.pid)
            return ProcessStatus(
                name=record.name,
                pid=record.pid,
                alive=True,
                uptime_s=time.time() - process.create_time(),
                resident_bytes=process.memory_info().rss,
            )
        except psutil.Error:
            # It ended between the two looks.
            return ProcessStatus(name=record.name, pid=record.pid, alive=False)
    return ProcessStatus(name=record.name, pid=record.pid, alive=False)
