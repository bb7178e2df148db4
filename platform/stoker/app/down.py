"""``stoker down``: everything of one home ended, whoever started it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence

from stoker.app.ending import end_all, kill_all
from stoker.app.files import read_json
from stoker.app.lock import holder
from stoker.app.processes import ProcessRecord, ended, marked, send, started_at
from stoker.models.staging import sweep
from stoker.nouns.home import Home

log = logging.getLogger(__name__)


def down(home: Home, timeout_s: float) -> bool:
    """Ends the platform in order; by force what is left after ``timeout_s`` seconds.

    Also ends what a supervisor that was killed has left. Returns False when nothing was running.
    """
    ended_something = asyncio.run(_down(home, timeout_s))
    sweep(home.root)
    return ended_something


async def _down(home: Home, timeout_s: float) -> bool:
    home_id = _id(home)
    if home_id is None:
        return False
    records = [ProcessRecord.model_validate(entry) for entry in read_json(home.processes) or ()]
    pid = holder(home.lock)
    if pid:
        await _ask_supervisor(pid, timeout_s)
    alive = [record for record in records if record.alive]
    if not alive and not marked(home_id):
        return pid is not None
    await _end_orphans(home, home_id, alive, 0.0 if pid else timeout_s)
    return True


async def _ask_supervisor(pid: int, timeout_s: float) -> None:
    supervisor = ProcessRecord(name="supervisor", pid=pid, started=started_at(pid) or 0)
    send(supervisor, signal.SIGTERM)
    try:
        async with asyncio.timeout(timeout_s):
            await ended(supervisor)
    except TimeoutError:
        log.warning("the supervisor did not end within %g s and is killed", timeout_s)
        send(supervisor, signal.SIGKILL)
        await ended(supervisor)


async def _end_orphans(
    home: Home, home_id: str, records: Sequence[ProcessRecord], timeout_s: float
) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await end_all(home, home_id, records, drain_s=timeout_s / 4)
    except TimeoutError:
        await kill_all(home, home_id, records)


def _id(home: Home) -> str | None:
    try:
        return home.id_file.read_text("utf-8").strip() or None
    except FileNotFoundError:
        return None
