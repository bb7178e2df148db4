"""Operating system processes: telling them apart, watching their end, ending them.

A pid alone is no identity: it is reused. A process is its pid and its start time.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict

MARK = "STOKER_PLATFORM"
"""Environment variable that every child of a supervisor carries: the home's id. Forked workers
keep it, so whatever a platform started can be found again, whoever its parent is by then."""

_PROC = Path("/proc")


class ProcessRecord(BaseModel):
    """One child in ``home.processes``.

    Attributes:
        started: clock ticks from the boot to the start of the process.
        fingerprint: digest of what it was told, to know whether it runs what is wanted now.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    started: int
    fingerprint: str = ""

    @property
    def alive(self) -> bool:
        """Whether this very process runs (a zombie has ended)."""
        return started_at(self.pid) == self.started


def started_at(pid: int) -> int | None:
    """When a process started, in ticks since the boot; None when it is gone or has ended."""
    try:
        # The name, second field, may hold spaces and parentheses: cut after the last one.
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, started = fields[0], int(fields[19])
    return None if state in b"ZX" else started


@contextmanager
def _held(record: ProcessRecord) -> Iterator[int | None]:
    """A pidfd of this very process, or None when it has ended."""
    try:
        descriptor = os.pidfd_open(record.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        # Checked after opening: from here on the descriptor means this process or its end.
        yield descriptor if record.alive else None
    finally:
        os.close(descriptor)


async def readable(descriptor: int) -> None:
    """Returns when the descriptor can be read: data, the end of a pipe, or of a process."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def ended(record: ProcessRecord) -> None:
    """Returns when the process has ended: an event of the system, not a poll."""
    with _held(record) as descriptor:
        if descriptor is not None:
            await readable(descriptor)


def send(record: ProcessRecord, number: signal.Signals) -> None:
    """Signals the process, if it still is that one."""
    with _held(record) as descriptor:
        if descriptor is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)


async def end(record: ProcessRecord, *, patience_s: float) -> bool:
    """SIGTERM, and SIGKILL after ``patience_s``; False when it had to be killed."""
    send(record, signal.SIGTERM)
    try:
        async with asyncio.timeout(patience_s):
            await ended(record)
    except TimeoutError:
        send(record, signal.SIGKILL)
        await ended(record)
        return False
    return True


def marked(home_id: str) -> list[ProcessRecord]:
    """Every living process of this user that a platform of this home started."""
    wanted = f"{MARK}={home_id}".encode()
    found = []
    for folder in _PROC.iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes()
            name = (folder / "comm").read_text("utf-8", "replace").strip()
        except OSError:  # gone meanwhile, or another user's
            continue
        started = started_at(int(folder.name))
        if started is not None and wanted in environment.split(b"\0"):
            found.append(ProcessRecord(name=name, pid=int(folder.name), started=started))
    return found
