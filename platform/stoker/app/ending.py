"""The end of a platform, in order, leaving nothing behind."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from stoker.app.plan import Role, role_of
from stoker.app.processes import ProcessRecord, end, ended, marked, send
from stoker.nouns.home import Home

log = logging.getLogger(__name__)

ORDER = (Role.GATEWAY, Role.CONTROLLER, Role.ZYGOTE)
MARGIN_S = 5.0
"""Above the time that a process gives its own work, so that it ends by itself and not by force."""
REDIS_S = 15.0
STRAY_S = 2.0


async def end_all(
    home: Home, home_id: str, records: Sequence[ProcessRecord], *, drain_s: float
) -> None:
    """Ends every process of the platform.

    1. Gateways stop accepting and answer what they have accepted.
    2. The controller drains the workers.
    3. Zygotes end; then whatever still carries this home's mark: it should be nothing.
    4. Redis last, because all the others write to it; its file is flushed.
    """
    for role in ORDER:
        patience = drain_s + MARGIN_S * (2 if role is Role.CONTROLLER else 1)
        await _end_each([r for r in records if role_of(r.name) is role], patience)
    redis = [record for record in records if role_of(record.name) is Role.REDIS]
    await end_strays(home_id, spare=redis)
    await _end_each(redis, REDIS_S)
    await end_strays(home_id, spare=())
    sweep(home)


async def _end_each(records: Sequence[ProcessRecord], patience_s: float) -> None:
    async def one(record: ProcessRecord) -> None:
        if not await end(record, patience_s=patience_s):
            log.warning("%s (pid %d) had to be killed", record.name, record.pid)

    await asyncio.gather(*(one(record) for record in records))


async def end_strays(home_id: str, *, spare: Sequence[ProcessRecord]) -> None:
    """Ends what carries the home's mark, except ``spare``; again until there is none."""
    spared = {(record.pid, record.started) for record in spare}
    while strays := [r for r in marked(home_id) if (r.pid, r.started) not in spared]:
        for stray in strays:
            log.info("ending a left-over process: %s (pid %d)", stray.name, stray.pid)
        await asyncio.gather(*(end(stray, patience_s=STRAY_S) for stray in strays))


async def kill_all(home: Home, home_id: str, records: Sequence[ProcessRecord]) -> None:
    """Ends every process of the platform at once. Redis's file is whole up to its last second."""
    while alive := [record for record in records if record.alive] + marked(home_id):
        for record in alive:
            send(record, signal.SIGKILL)
        await asyncio.gather(*(ended(record) for record in alive))
    sweep(home)


def sweep(home: Home) -> None:
    """Removes what only a running platform has: sockets, settings, endpoints, records."""
    for folder in (home.workers, home.run):
        for path in folder.iterdir() if folder.is_dir() else ():
            if not path.is_dir():
                _remove(path)


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
