"""Workers whose socket lies in the home and whom no record names: they are ended, not kept."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Callable
from pathlib import Path

from stoker.nouns.wire import HEADER, Kind, frame

log = logging.getLogger(__name__)

_HELLO = frame(Kind.HELLO, 0, json.dumps({"role": "controller", "peer": "orphans"}).encode())
_DRAIN = frame(Kind.DRAIN, 0)
ANSWER_S = 2.0
DRAIN_S = 10.0
"""What an orphan may still finish before it is killed; no gateway knows it any more."""


async def end_orphans(
    folder: Path, is_known: Callable[[str], bool], kill: Callable[[int, int], None]
) -> list[str]:
    """Drains or ends every worker in ``folder`` that is not known; unlinks sockets of the dead.

    One that does not answer keeps its socket, the only way to it: the next sweep asks again.

    Returns:
        The names of the sockets that were dealt with.
    """
    names = await asyncio.to_thread(_sockets, folder)
    strangers = [name for name in names if not is_known(name)]
    await asyncio.gather(*(_end(folder / name, kill) for name in strangers))
    return strangers


def _sockets(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


async def _end(path: Path, kill: Callable[[int, int], None]) -> None:
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except ConnectionRefusedError:
        await asyncio.to_thread(path.unlink, missing_ok=True)
        return
    except OSError as exc:
        log.warning("worker %s belongs to nobody and cannot be reached: %s", path.name, exc)
        return
    try:
        await _drain(path.name, reader, writer, kill)
    except (EOFError, ConnectionError):
        log.info("worker %s belonged to nobody and is gone", path.name)
    except (TimeoutError, OSError, ValueError, LookupError, TypeError) as exc:
        log.warning("worker %s belongs to nobody and does not answer: %r", path.name, exc)
        return
    finally:
        writer.close()
    await asyncio.to_thread(path.unlink, missing_ok=True)


async def _drain(
    name: str,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    kill: Callable[[int, int], None],
) -> None:
    """Returns once it has ended, of itself or by force."""
    writer.write(_HELLO)
    pid = await asyncio.wait_for(_pid(reader), ANSWER_S)
    log.warning("worker %s (pid %d) belongs to nobody: ending it", name, pid)
    writer.write(_DRAIN)
    try:
        await asyncio.wait_for(reader.read(-1), DRAIN_S)
    except TimeoutError:
        kill(pid, signal.SIGKILL)


async def _pid(reader: asyncio.StreamReader) -> int:
    while True:
        length, kind, _ = HEADER.unpack(await reader.readexactly(HEADER.size))
        payload = await reader.readexactly(length)
        if kind == Kind.STATE:
            return int(json.loads(payload)["pid"])
